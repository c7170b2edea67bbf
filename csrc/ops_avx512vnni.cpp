// The dot kernels of AVX-512 with VNNI, which replace those of the table of ops_avx512.cpp
// (isa.cpp).
#include <immintrin.h>

#include "ops.h"

namespace slt {
namespace {

constexpr size_t kBytes = 64;
#include "dot_avx512_inl.h"
typedef __m512i Sums;  // int32: four products a step
constexpr uint32_t kDotQuads = UINT32_MAX;
inline Sums dot_step(Sums sums, Bytes x, Bytes w) {  // as assembly: see ops_avx2.cpp
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(x), "v"(w));
    return sums;
}
inline u32v dot_total(Sums sums) { return u32v(sums); }

#include "dot_inl.h"

}  // namespace

const DotKernels avx512vnni_kernels = {dot_tile, dot_columns};

}  // namespace slt
