// Layers in int8 by the machine's multiply-accumulate instructions: bit planes become bytes of +1,
// -1 and 0 for a few rows at a time. For dense layers; the sums are the exact ones of
// docs/numerics.md whatever the kernel.
#pragma once

#include "int8.h"

namespace slt {

// x [n, channels, height, width], values in [-127, 127]; `source` shows the layer's rows, `sink`
// takes their sums over all output pixels. Rows are shown once for as many images as kPanelBytes
// holds panels of. A linear layer is a convolution of images of one pixel.
void dot_conv2d(const RowSource& source, const int8_t* x, size_t n, const ConvShape& shape,
                const Sink& sink, Workspace& work);

// Bytes of panels and of the packed image that dot_conv2d wants at most for one image on one
// thread; a double, which cannot overflow.
double dot_scratch_bytes(const ConvShape& shape, const Ops& ops);

}  // namespace slt
