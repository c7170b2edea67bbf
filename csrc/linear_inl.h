// Products of bit planes with a vector: in f32, 16 lanes wide (docs/numerics.md), lane j adds what
// columns j, j + 16, ... give; in int8 sums are exact. Included like conv_inl.h, after it and after
// these primitives, the first of them where kBytes is 64:
//   f32v add_kept(f32v sum, f32v x, uint32_t plus, uint32_t minus)   sum + x where plus, sum - x
//   where minus
//   u8v bit_bytes(uint64_t bits)        all ones where one of the first kBytes bits is set
//   ByteSums add_bytes(ByteSums, u8v)   adds int8 values to zeroed sums of neighbours
//   int32_t total(ByteSums, size_t n)   the sum of the n values added

constexpr uint32_t kLinearVectors = 16 / kFloats;

#if !defined(SLT_ADD_KEPT)
typedef uint32_t bits32v __attribute__((vector_size(kBytes)));

// Adds x with its sign flipped where minus, and +0 where neither: a lane is never -0, so that
// changes nothing.
inline f32v add_kept(f32v sum, f32v x, uint32_t plus, uint32_t minus) {
    bits32v lane;
    for (uint32_t i = 0; i < kFloats; ++i) lane[i] = 1u << i;
    const bits32v less = (bits32v)(((bits32v{} + minus) & lane) != 0);
    const bits32v any = (bits32v)(((bits32v{} + (plus | minus)) & lane) != 0);
    return sum + (f32v)(((bits32v)x ^ (less & 0x80000000u)) & any);
}
#endif

// kRows rows at a time, whose additions do not wait for each other.
template <uint32_t kRows>
void linear_rows(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t columns,
                 const float* x, float* sums) {
    f32v lanes[kRows][kLinearVectors] = {};
    for (uint32_t k = 0; k < columns; k += 16) {
#pragma GCC unroll 4
        for (uint32_t r = 0; r < kRows; ++r) {
            const size_t word = r * row_words + k / 64;
            const uint32_t minus = uint32_t(sign[word] >> (k % 64)) & 0xFFFF;
            const uint32_t plus = (uint32_t(kept[word] >> (k % 64)) & 0xFFFF) ^ minus;
#pragma GCC unroll 4
            for (uint32_t v = 0; v < kLinearVectors; ++v) {
                lanes[r][v] = add_kept(lanes[r][v], load_floats(x + k + v * kFloats),
                                       plus >> (v * kFloats), minus >> (v * kFloats));
            }
        }
    }
    for (uint32_t r = 0; r < kRows; ++r) {
        float s[16];
        __builtin_memcpy(s, lanes[r], sizeof s);
        for (uint32_t half = 8; half; half /= 2) {
            for (uint32_t j = 0; j < half; ++j) s[j] += s[j + half];
        }
        sums[r] = s[0];
    }
}

// sums[r] for `rows` rows; x holds columns rounded up to 16 floats, the last ones finite.
void linear(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
            uint32_t columns, const float* x, float* sums) {
    for (; rows >= 4; rows -= 4, kept += 4 * row_words, sign += 4 * row_words, sums += 4) {
        linear_rows<4>(kept, sign, row_words, columns, x, sums);
    }
    for (; rows; --rows, kept += row_words, sign += row_words, ++sums) {
        linear_rows<1>(kept, sign, row_words, columns, x, sums);
    }
}

// ---- int8 ----

// sums[image * sums_stride + row] of kRows rows and kImages images: x & kept is a kept weight's
// activation, its complement, -x - 1, where the weight is negative.
template <uint32_t kRows, uint32_t kImages>
inline void linear_tile(const uint64_t* kept, const uint64_t* sign, size_t row_words,
                        const int8_t* x, size_t x_stride, int32_t* sums, size_t sums_stride) {
    ByteSums lanes[kRows][kImages] = {};
    for (size_t k = 0; k < 64 * row_words; k += kBytes) {
#pragma GCC unroll 4
        for (uint32_t r = 0; r < kRows; ++r) {
            const size_t word = r * row_words + k / 64;
            const u8v any = bit_bytes(kept[word] >> k % 64),
                      minus = bit_bytes(sign[word] >> k % 64);
#pragma GCC unroll 4
            for (uint32_t i = 0; i < kImages; ++i) {
                u8v v;
                __builtin_memcpy(&v, x + i * x_stride + k, sizeof v);
                lanes[r][i] = add_bytes(lanes[r][i], (v & any) ^ minus);
            }
        }
    }
    for (uint32_t r = 0; r < kRows; ++r) {
        int32_t minus = 0;
        for (size_t w = 0; w < row_words; ++w)
            minus += __builtin_popcountll(sign[r * row_words + w]);
        for (uint32_t i = 0; i < kImages; ++i)
            sums[i * sums_stride + r] = total(lanes[r][i], 64 * row_words) + minus;
    }
}

template <uint32_t kRows, uint32_t kImages>
void linear_rows_of(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
                    const int8_t* x, size_t x_stride, int32_t* sums, size_t sums_stride) {
    for (; rows >= kRows; rows -= kRows, kept += kRows * row_words, sign += kRows * row_words) {
        linear_tile<kRows, kImages>(kept, sign, row_words, x, x_stride, sums, sums_stride);
        sums += kRows;
    }
    for (; rows; --rows, kept += row_words, sign += row_words, ++sums)
        linear_tile<1, kImages>(kept, sign, row_words, x, x_stride, sums, sums_stride);
}

// sums[image * sums_stride + row]; an image of x has 64 * row_words bytes, `x_stride` apart.
void linear_bytes(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
                  const int8_t* x, size_t x_stride, size_t images, int32_t* sums,
                  size_t sums_stride) {
    for (; images >= 4; images -= 4, x += 4 * x_stride, sums += 4 * sums_stride)
        linear_rows_of<1, 4>(kept, sign, row_words, rows, x, x_stride, sums, sums_stride);
    for (; images; --images, x += x_stride, sums += sums_stride)
        linear_rows_of<4, 1>(kept, sign, row_words, rows, x, x_stride, sums, sums_stride);
}
