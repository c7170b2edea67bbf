// AVX2 and BMI2, no FMA.
#include <immintrin.h>

#include "lane_table.h"
#include "mixed_law.h"
#include "ops.h"

namespace slt {
namespace {

constexpr size_t kBytes = 32;
typedef uint32_t u32v __attribute__((vector_size(32)));
typedef int32_t i32v __attribute__((vector_size(32)));
typedef uint64_t u64v __attribute__((vector_size(32)));

inline u64v multiply_low(u64v a, uint32_t b) {
    return u64v(_mm256_mul_epu32(__m256i(a), _mm256_set1_epi64x(b)));
}

inline u64v even_lanes(u64v a, u64v b) {
    return u64v(_mm256_unpacklo_epi64(__m256i(a), __m256i(b)));
}
inline u64v odd_lanes(u64v a, u64v b) {
    return u64v(_mm256_unpackhi_epi64(__m256i(a), __m256i(b)));
}

inline uint64_t deposit_bits(uint64_t bits, uint64_t where) { return _pdep_u64(bits, where); }

typedef i32v Mask;  // all ones or zero in each lane; of under_16_bits the top bit alone counts
inline Mask lanes_of(uint32_t bits) {
    const u32v lane = {1, 2, 4, 8, 16, 32, 64, 128};
    return ((u32v{} + bits) & lane) != 0u;
}
inline uint32_t bits_of(Mask mask) {
    return uint32_t(_mm256_movemask_ps(_mm256_castsi256_ps(__m256i(mask))));
}
// Signed: its operands are below 2^31.
inline Mask less(u32v a, u32v b) { return i32v(a) < i32v(b); }
inline Mask under_16_bits(u32v a) {
    return Mask(_mm256_cmpeq_epi16(__m256i(a), _mm256_setzero_si256()));
}
inline Mask both(Mask a, Mask b) { return a & b; }
inline u32v select(Mask mask, u32v yes, u32v no) {
    return u32v(_mm256_blendv_epi8(__m256i(no), __m256i(yes), __m256i(mask)));
}
// Of each set of lanes the shuffle that moves their lower halves up, leaving zeros, and the one that
// takes the next of 8 words into their lower halves, with zeros elsewhere.
struct RefillShuffles {
    alignas(64) uint8_t up[256][32], words[256][32];
};
constexpr RefillShuffles kRefillShuffles = [] {
    RefillShuffles made{};
    for (int m = 0; m < 256; ++m) {
        for (int lane = 0; lane < 8; ++lane) {
            const int word = kLaneTable.rank[m][lane], own = 4 * (lane % 4);
            for (int i = 0; i < 4; ++i) {
                const bool set = m >> lane & 1, low = i < 2;
                made.up[m][4 * lane + i] =
                    uint8_t(!set ? own + i : low ? 0x80 : own + i - 2);
                made.words[m][4 * lane + i] = uint8_t(set && low ? 2 * word + i : 0x80);
            }
        }
    }
    return made;
}();
#define SLT_REFILL
inline u32v refill(u32v y, Mask, uint32_t bits, const uint8_t* p) {
    const auto shuffle = [](__m256i v, const uint8_t* places) {
        return _mm256_shuffle_epi8(v, _mm256_load_si256(reinterpret_cast<const __m256i*>(places)));
    };
    const __m256i words =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return u32v(shuffle(__m256i(y), kRefillShuffles.up[bits])) |
           u32v(shuffle(words, kRefillShuffles.words[bits]));
}

struct FrequencyTable {
    __m256i low, high;  // bytes, in both halves
};
inline FrequencyTable frequency_table(const uint16_t f[16]) {
    alignas(16) uint8_t low[16], high[16];
    for (int i = 0; i < 16; ++i) {
        low[i] = uint8_t(f[i]);
        high[i] = uint8_t(f[i] >> 8);
    }
    return {_mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(low))),
            _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(high)))};
}
inline void store_frequencies(const FrequencyTable& table, const uint32_t index[4], uint16_t* out) {
    const __m256i bytes =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x(int64_t(0x8040201008040201));
    __m256i n = _mm256_setzero_si256();
    for (int b = 0; b < 4; ++b) {
        const __m256i word = _mm256_shuffle_epi8(_mm256_set1_epi32(int(index[b])), bytes);
        const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(word, bit), bit);
        n = _mm256_or_si256(n, _mm256_and_si256(set, _mm256_set1_epi8(char(1 << b))));
    }
    const __m256i low = _mm256_shuffle_epi8(table.low, n),
                  high = _mm256_shuffle_epi8(table.high, n);
    const __m256i even = _mm256_unpacklo_epi8(low, high), odd = _mm256_unpackhi_epi8(low, high);
    __m256i* to = reinterpret_cast<__m256i*>(out);
    _mm256_storeu_si256(to, _mm256_permute2x128_si256(even, odd, 0x20));
    _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(even, odd, 0x31));
}

struct DotBytes {
    typedef u64v V;
    static constexpr uint64_t kMacs = 32;
    static V step(V sum, V a, V b) {  // 16-bit sums
        return V(_mm256_add_epi16(__m256i(sum), _mm256_maddubs_epi16(__m256i(a), __m256i(b))));
    }
};
typedef DotBytes DotUnit;
inline bool has_dot_unit() { return false; }

typedef __m256i Bytes;
typedef __m256i Sums;  // int16: two products of at most 255 a step
constexpr uint8_t kDotOffset = 128;
constexpr uint32_t kDotQuads = 64, kDotRows = 6;
inline Bytes dot_weights(const int8_t* w) {
    int32_t four;
    __builtin_memcpy(&four, w, 4);
    return _mm256_set1_epi32(four);
}
inline Sums dot_step(Sums sums, Bytes x, Bytes w) {
    // As assembly, because a compiler that sees through it makes all products first, and then has
    // not the registers for the sums.
    __m256i products;
    __asm__("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0"
            : "+x"(sums), "=&x"(products)
            : "x"(x), "x"(w));
    return sums;
}
inline u32v dot_total(Sums sums) {
    return u32v(_mm256_madd_epi16(sums, _mm256_set1_epi16(1)));
}
inline Bytes dot_signs(const uint8_t* kept, const uint8_t* sign) {
    int32_t k, s;
    __builtin_memcpy(&k, kept, 4);
    __builtin_memcpy(&s, sign, 4);
    const __m256i bytes =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x(int64_t(0x8040201008040201));
    const __m256i any = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(k), bytes), bit),
                  minus = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(s), bytes), bit);
    return _mm256_or_si256(_mm256_cmpeq_epi8(minus, bit),
                           _mm256_min_epu8(any, _mm256_set1_epi8(1)));
}

typedef uint16_t u16v __attribute__((vector_size(32)));
inline u16v widen(const int8_t* p) {
    return u16v(_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
typedef i32v Ints;
inline Ints load_ints(const int8_t* p) {
    return Ints(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline Ints load_ints(const int16_t* p) {
    return Ints(_mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline Ints load_ints(const int32_t* p) {
    return Ints(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline void store_ints(int8_t* p, Ints a, Ints b) {
    const __m256i shorts = _mm256_permute4x64_epi64(_mm256_packs_epi32(__m256i(a), __m256i(b)), 0xD8);
    const __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(shorts), _mm256_extracti128_si256(shorts, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}

#include "random_inl.h"
#include "prior_inl.h"
#include "mask_inl.h"
#include "conv_inl.h"
#include "linear_avx2_inl.h"
#include "peaks_inl.h"
#include "dot_inl.h"
#include "pack_inl.h"
#include "int8_inl.h"
#include "depthwise_inl.h"

}  // namespace

const Ops avx2_ops = {
    .name = "avx2",
#include "ops_entries.h"
};

}  // namespace slt
