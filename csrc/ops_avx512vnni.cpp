// The dot kernels of AVX-512 with VNNI, which replace those of the table of ops_avx512.cpp (isa.cpp).
#include <immintrin.h>

#include "ops.h"

namespace slt {
namespace {

constexpr size_t kBytes = 64;
#include "dot_avx512_inl.h"
typedef __m512i Sums;  // int32: four products a step
constexpr uint32_t kDotQuads = UINT32_MAX;
inline Sums dot_step(Sums sums, Bytes x, Bytes w) { return _mm512_dpbusd_epi32(sums, x, w); }
inline u32v dot_total(Sums sums) { return u32v(sums); }

#include "dot_inl.h"

}  // namespace

void dot_tile_avx512vnni(const int8_t* weights, size_t row_bytes, uint32_t rows,
                         const uint8_t* tile, uint32_t quads, uint32_t vectors,
                         const int32_t* start, int32_t* sums, size_t sums_stride) {
    dot_tile(weights, row_bytes, rows, tile, quads, vectors, start, sums, sums_stride);
}

void dot_columns_avx512vnni(const int8_t* weights, size_t row_bytes, uint32_t rows,
                            const uint8_t* columns, size_t column_bytes, uint32_t count,
                            size_t bytes, const int32_t* start, int32_t* sums,
                            size_t sums_stride) {
    dot_columns(weights, row_bytes, rows, columns, column_bytes, count, bytes, start, sums,
                sums_stride);
}

}  // namespace slt
