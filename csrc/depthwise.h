// Convolutions of one channel a group, as depthwise ones are, in f32 and int8: a row of weights has
// few positions, the *taps*, and no other row reads its channel. So there are no panels and no
// lists: rows of pixels are added and subtracted as they lie, tap by tap.
#pragma once

#include <functional>

#include "int8.h"

namespace slt {

// Shows a layer's rows to all threads, each row to one of them.
using ShowRows = std::function<void(const UseRows& use)>;

// Whether the functions below take the shape: one channel a group, at most kMostTaps positions.
bool is_depthwise(const ConvShape& shape);

// x [n, channels, height, width] to out [n, rows, output rows, output columns].
void depthwise_conv2d(const ShowRows& show, const float* x, size_t n, const ConvShape& shape,
                      uint32_t rows, const Epilogue& epilogue, float* out, Workspace& work);
// x in [-127, 127]; `sink` takes the sums.
void depthwise_conv2d(const ShowRows& show, const int8_t* x, size_t n, const ConvShape& shape,
                      const Sink& sink, Workspace& work);

// Bytes that they want in one thread, with planes of numbers of `number_bytes`: 4, or in int8 2.
double depthwise_scratch_bytes(const ConvShape& shape, size_t number_bytes);

}  // namespace slt
