// Products of bit planes with a vector, 16 lanes wide (docs/numerics.md): lane j adds what columns
// j, j + 16, ... give. Included like conv_inl.h, after it and after this primitive, where kBytes is
// 64:
//   f32v add_kept(f32v sum, f32v x, uint32_t plus, uint32_t minus)   sum + x where plus, sum - x
//   where minus

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
