// The functions of linear_inl.h for AVX2, which has no masks: bits are shifted to where an instruction
// looks for them.

// ---- f32 ----

// x where the top bit of `bits` is set, else +0. As assembly, because a compiler that sees through it
// takes two instructions.
inline __m256 where_top(__m256i bits, __m256 x) {
    __m256 out;
    __asm__("vblendvps %3, %2, %1, %0"
            : "=x"(out)
            : "x"(_mm256_setzero_ps()), "x"(x), "x"(bits));
    return out;
}

// The bits of 32 columns, from column k on, in each lane.
inline __m256i row_bits(const uint64_t* row, uint32_t k) {
    int32_t bits;
    __builtin_memcpy(&bits, reinterpret_cast<const char*>(row) + k / 8, sizeof bits);
    return _mm256_set1_epi32(bits);
}

// Adds kColumns columns from column k on, a multiple of 32, to the 16 lanes of kRows rows. Where a
// weight is not kept +0 is added: a lane is never -0, so that changes nothing.
template <uint32_t kRows, uint32_t kColumns>
inline void add_columns(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t k,
                        const float* x, __m256 (&lanes)[kRows][2]) {
    __m256i any[kRows], minus[kRows];
    for (uint32_t r = 0; r < kRows; ++r) {
        any[r] = row_bits(kept + r * row_words, k);
        minus[r] = row_bits(sign + r * row_words, k);
    }
#pragma GCC unroll 4
    for (uint32_t at = 0; at < kColumns; at += 8) {
        // Bit at + i becomes the top bit of lane i.
        const __m256i places = _mm256_sub_epi32(_mm256_set1_epi32(31 - int(at)),
                                                _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        const __m256 values = _mm256_loadu_ps(x + k + at);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < kRows; ++r) {
            const __m256 flip = _mm256_and_ps(
                _mm256_castsi256_ps(_mm256_sllv_epi32(minus[r], places)), _mm256_set1_ps(-0.0f));
            __m256& sum = lanes[r][at / 8 % 2];
            sum = _mm256_add_ps(sum, where_top(_mm256_sllv_epi32(any[r], places),
                                               _mm256_xor_ps(values, flip)));
        }
    }
}

// kRows rows at a time, whose additions do not wait for each other.
template <uint32_t kRows>
void linear_rows(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t columns,
                 const float* x, float* sums) {
    __m256 lanes[kRows][2];
    for (auto& of_row : lanes) of_row[0] = of_row[1] = _mm256_setzero_ps();
    uint32_t k = 0;
    for (; k + 16 < columns; k += 32) add_columns<kRows, 32>(kept, sign, row_words, k, x, lanes);
    if (k < columns) add_columns<kRows, 16>(kept, sign, row_words, k, x, lanes);
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
    for (; rows >= 2; rows -= 2, kept += 2 * row_words, sign += 2 * row_words, sums += 2)
        linear_rows<2>(kept, sign, row_words, columns, x, sums);
    if (rows) linear_rows<1>(kept, sign, row_words, columns, x, sums);
}

// ---- int8 ----

// Words of a row at a time. A pair of int8 adds 254 at most to a sum of int16, which takes one of each
// 32 columns: 64 * 254 < 2^15.
constexpr size_t kTurnedWords = 32;

// The columns of up to kTurnedWords words in the order in which their bits are read: of each 256, byte
// j of vector p is column 8 j + (p ^ 3). Where `words` is no multiple of 4, the last ones are zeros.
inline void turn_columns(const int8_t* x, size_t words, int8_t* to) {
    for (size_t word = 0; word < words; word += 4, x += 256, to += 256) {
        __m256i v[8];
        for (int i = 0; i < 8; ++i) {
            const auto* from = reinterpret_cast<const __m128i*>(x) + i;
            const __m128i second =
                word + 4 <= words ? _mm_loadu_si128(from + 8) : _mm_setzero_si128();
            v[i] = _mm256_set_m128i(second, _mm_loadu_si128(from));
        }
        // In each half, a byte's address is its vector's number and then its place; a round brings
        // the first bit of it to the end.
        for (int round = 0; round < 4; ++round) {
            __m256i next[8];
            for (int i = 0; i < 4; ++i) {
                next[2 * i] = _mm256_unpacklo_epi8(v[i], v[i + 4]);
                next[2 * i + 1] = _mm256_unpackhi_epi8(v[i], v[i + 4]);
            }
            __builtin_memcpy(v, next, sizeof v);
        }
        for (int p = 0; p < 8; ++p)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 32 * (p ^ 3)), v[p]);
    }
}

// kRows rows, kImages images: 256 columns, whose bits are given. A byte of `bits` holds four columns',
// sign above, kept below; shifted, one column's are bits 7 and 3, so that the byte is negative, positive
// or 0 as its weight is.
template <uint32_t kRows, uint32_t kImages>
inline void add_turned(const __m256i (&kept)[kRows], const __m256i (&sign)[kRows],
                       const int8_t* turned, __m256i (&sums)[kRows][kImages]) {
    const __m256i low = _mm256_set1_epi8(15), high = _mm256_set1_epi8(-16),
                  both = _mm256_set1_epi8(char(0x88)), ones = _mm256_set1_epi8(1);
    for (int half = 0; half < 2; ++half) {
        __m256i bits[kRows];
        for (uint32_t r = 0; r < kRows; ++r) {
            const __m256i k = half ? _mm256_srli_epi16(kept[r], 4) : kept[r],
                          s = half ? sign[r] : _mm256_slli_epi16(sign[r], 4);
            bits[r] = _mm256_or_si256(_mm256_and_si256(k, low), _mm256_and_si256(s, high));
        }
#pragma GCC unroll 4
        for (int p = 0; p < 4; ++p, turned += 32) {
            __m256i x[kImages];
            for (uint32_t i = 0; i < kImages; ++i)
                x[i] = _mm256_loadu_si256(
                    reinterpret_cast<const __m256i*>(turned + i * 64 * kTurnedWords));
#pragma GCC unroll 4
            for (uint32_t r = 0; r < kRows; ++r) {
                const __m256i weight = _mm256_and_si256(bits[r], both);
#pragma GCC unroll 4
                for (uint32_t i = 0; i < kImages; ++i) {
                    const __m256i products = _mm256_sign_epi8(x[i], weight);
                    sums[r][i] =
                        _mm256_add_epi16(sums[r][i], _mm256_maddubs_epi16(ones, products));
                }
                bits[r] = _mm256_add_epi8(bits[r], bits[r]);
            }
        }
    }
}

inline int32_t total_shorts(__m256i sums) {
    const u32v pairs = u32v(_mm256_madd_epi16(sums, _mm256_set1_epi16(1)));
    return int32_t(pairs[0] + pairs[1] + pairs[2] + pairs[3] + pairs[4] + pairs[5] + pairs[6] +
                   pairs[7]);
}

// Adds to sums[image * sums_stride + row].
template <uint32_t kRows, uint32_t kImages>
inline void linear_tile(const uint64_t* kept, const uint64_t* sign, size_t row_words, size_t words,
                        const int8_t* turned, int32_t* sums, size_t sums_stride) {
    __m256i lanes[kRows][kImages] = {}, k[kRows], s[kRows];
    const auto load = [&](const uint64_t* bits, size_t word, uint32_t r) {
        const auto* at = reinterpret_cast<const __m128i*>(bits + r * row_words + word);
        const __m128i second = word + 4 <= words ? _mm_loadu_si128(at + 1) : _mm_setzero_si128();
        return _mm256_set_m128i(second, _mm_loadu_si128(at));
    };
    for (size_t word = 0; word < words; word += 4, turned += 256) {
        for (uint32_t r = 0; r < kRows; ++r)
            k[r] = load(kept, word, r), s[r] = load(sign, word, r);
        add_turned<kRows, kImages>(k, s, turned, lanes);
    }
    for (uint32_t r = 0; r < kRows; ++r) {
        for (uint32_t i = 0; i < kImages; ++i) sums[i * sums_stride + r] += total_shorts(lanes[r][i]);
    }
}

template <uint32_t kRows, uint32_t kImages>
void linear_images(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
                   const int8_t* x, size_t x_stride, int32_t* sums, size_t sums_stride) {
    alignas(64) int8_t turned[kImages][64 * kTurnedWords];
    for (uint32_t i = 0; i < kImages; ++i) {
        for (uint32_t r = 0; r < rows; ++r) sums[i * sums_stride + r] = 0;
    }
    for (size_t word = 0; word < row_words; word += kTurnedWords) {
        const size_t words = row_words - word < kTurnedWords ? row_words - word : kTurnedWords;
        for (uint32_t i = 0; i < kImages; ++i) turn_columns(x + i * x_stride + 64 * word, words, turned[i]);
        uint32_t r = 0;
        for (; r + kRows <= rows; r += kRows)
            linear_tile<kRows, kImages>(kept + r * row_words + word, sign + r * row_words + word,
                                        row_words, words, turned[0], sums + r, sums_stride);
        for (; r < rows; ++r)
            linear_tile<1, kImages>(kept + r * row_words + word, sign + r * row_words + word,
                                    row_words, words, turned[0], sums + r, sums_stride);
    }
}

// sums[image * sums_stride + row]; an image of x has 64 * row_words bytes, `x_stride` apart.
void linear_bytes(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
                  const int8_t* x, size_t x_stride, size_t images, int32_t* sums,
                  size_t sums_stride) {
    for (; images >= 4; images -= 4, x += 4 * x_stride, sums += 4 * sums_stride)
        linear_images<1, 4>(kept, sign, row_words, rows, x, x_stride, sums, sums_stride);
    for (; images; --images, x += x_stride, sums += sums_stride)
        linear_images<4, 1>(kept, sign, row_words, rows, x, x_stride, sums, sums_stride);
}
