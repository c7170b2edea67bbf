// What this machine does at most, measured: what `slt-bench kernels` holds kernels against.
#pragma once

#include "ops.h"

namespace slt {

// Operations a second of one thread. An addition is of one lane; dot counts multiply-accumulates of
// bytes.
struct Peaks {
    double add_f32, add_i16;            // in registers
    double add_load_f32, add_load_i16;  // one operand from the first-level cache
    double dot;                         // in registers
    double l1, l2, memory;              // bytes loaded
};

// Where the loads of l2 and memory come from: beyond the first-level cache of the machines we know
// and within the second, and beyond the last.
constexpr size_t kPeakL2Bytes = size_t{192} << 10, kPeakMemoryBytes = size_t{96} << 20;

// The best of at least three samples within `seconds` for each; CPU time of the thread.
Peaks measure_peaks(const Ops& ops, double seconds);

}  // namespace slt
