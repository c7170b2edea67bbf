// Layers in int8 by additions alone: sums of panel rows by unit lists (int8_inl.h), and for linear
// layers of masked bytes. For sparse layers; the sums are the exact ones of docs/numerics.md
// whatever the kernel.
#pragma once

#include "int8.h"

namespace slt {

// x [n, channels, height, width], values in [-127, 127]; `source` shows the layer's rows, once for
// as many images as kPanelBytes holds padded copies of, and `sink` takes their sums.
void add_conv2d(const RowSource& source, const int8_t* x, size_t n, const ConvShape& shape,
                const Sink& sink, Workspace& work);
void add_conv2d(const ResidentUnits& lists, const int8_t* x, size_t n, const ConvShape& shape,
                const Sink& sink, Workspace& work);
// x [n, fan_in]; a sink of one pixel.
void add_linear(const RowSource& source, const int8_t* x, size_t n, uint32_t fan_in,
                const Sink& sink, Workspace& work);

// Bytes of panels and of the padded image that add_conv2d wants at most for one image on one
// thread; a double, which cannot overflow.
double add_scratch_bytes(const ConvShape& shape, const Ops& ops);
// Rows that have lists together where an image has so many output pixels: their sums stay in the
// first-level cache.
uint32_t add_rows(size_t pixels, const Ops& ops);

}  // namespace slt
