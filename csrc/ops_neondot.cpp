// The dot kernels of NEON with the dotprod extension, which replace those of the table of
// ops_neon.cpp (isa.cpp).
#include <arm_neon.h>

#include "ops.h"

namespace slt {
namespace {

constexpr size_t kBytes = 16;
#include "dot_neon_inl.h"
typedef int32x4_t Sums;  // int32: four products a step
constexpr uint32_t kDotQuads = UINT32_MAX, kDotRows = 8;
inline Sums dot_step(Sums sums, Bytes x, Bytes w) { return vdotq_s32(sums, x, w); }
inline u32v dot_total(Sums sums) { return u32v(sums); }

#include "dot_inl.h"

}  // namespace

const DotKernels neondot_kernels = {dot_tile, dot_columns};

}  // namespace slt
