// AVX-512 F, BW, DQ, VL, CD, and BMI2.
#include <immintrin.h>

#include "mixed_law.h"
#include "ops.h"

namespace slt {
namespace {

constexpr size_t kBytes = 64;
typedef uint32_t u32v __attribute__((vector_size(64)));
typedef uint64_t u64v __attribute__((vector_size(64)));

inline u64v multiply_low(u64v a, uint32_t b) {
    return u64v(_mm512_mul_epu32(__m512i(a), _mm512_set1_epi64(b)));
}

inline u64v even_lanes(u64v a, u64v b) {
    return u64v(_mm512_unpacklo_epi64(__m512i(a), __m512i(b)));
}
inline u64v odd_lanes(u64v a, u64v b) {
    return u64v(_mm512_unpackhi_epi64(__m512i(a), __m512i(b)));
}

inline uint64_t deposit_bits(uint64_t bits, uint64_t where) { return _pdep_u64(bits, where); }

typedef __mmask16 Mask;
inline Mask lanes_of(uint32_t bits) { return Mask(bits); }
inline uint32_t bits_of(Mask mask) { return mask; }
inline Mask less(u32v a, u32v b) { return _mm512_cmplt_epu32_mask(__m512i(a), __m512i(b)); }
inline Mask under_16_bits(u32v a) {
    return _mm512_cmplt_epu32_mask(__m512i(a), _mm512_set1_epi32(0x10000));
}
inline Mask both(Mask a, Mask b) { return a & b; }
inline u32v select(Mask mask, u32v yes, u32v no) {
    return u32v(_mm512_mask_blend_epi32(mask, __m512i(no), __m512i(yes)));
}
inline u32v expand_words(const uint8_t* p, uint32_t bits) {
    const __m512i words =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return u32v(_mm512_maskz_expand_epi32(Mask(bits), words));
}

typedef __m512i FrequencyTable;  // 32 entries of 16 bits, 16 used
inline FrequencyTable frequency_table(const uint16_t f[16]) {
    return _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(f)));
}
inline void store_frequencies(const FrequencyTable& table, const uint32_t index[4], uint16_t* out) {
    __m512i n = _mm512_maskz_mov_epi16(index[0], _mm512_set1_epi16(1));
    n = _mm512_mask_add_epi16(n, index[1], n, _mm512_set1_epi16(2));
    n = _mm512_mask_add_epi16(n, index[2], n, _mm512_set1_epi16(4));
    n = _mm512_mask_add_epi16(n, index[3], n, _mm512_set1_epi16(8));
    _mm512_storeu_si512(out, _mm512_permutexvar_epi16(n, table));
}

typedef float f32v __attribute__((vector_size(64)));
#define SLT_ADD_KEPT
inline f32v add_kept(f32v sum, f32v x, uint32_t plus, uint32_t minus) {
    const __m512 added = _mm512_mask_add_ps(__m512(sum), __mmask16(plus), __m512(sum), __m512(x));
    return f32v(_mm512_mask_sub_ps(added, __mmask16(minus), added, __m512(x)));
}

struct DotBytes {
    typedef u64v V;
    static constexpr uint64_t kMacs = 64;
    static V step(V sum, V a, V b) {  // 16-bit sums
        return V(_mm512_add_epi16(__m512i(sum), _mm512_maddubs_epi16(__m512i(a), __m512i(b))));
    }
};
struct DotUnit {
    typedef u64v V;
    static constexpr uint64_t kMacs = 64;
    static V step(V sum, V a, V b) {  // VNNI, which this file is not compiled for; 32-bit sums
        __asm__("vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
        return sum;
    }
};
inline bool has_dot_unit() { return __builtin_cpu_supports("avx512vnni"); }

#include "dot_avx512_inl.h"
typedef __m512i Sums;  // int16: two products of at most 255 a step
constexpr uint32_t kDotQuads = 64;
inline Sums dot_step(Sums sums, Bytes x, Bytes w) {
    __m512i products;  // as assembly: see ops_avx2.cpp
    __asm__("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0"
            : "+v"(sums), "=&v"(products)
            : "v"(x), "v"(w));
    return sums;
}
inline u32v dot_total(Sums sums) {
    return u32v(_mm512_madd_epi16(sums, _mm512_set1_epi16(1)));
}
inline Bytes dot_signs(const uint8_t* kept, const uint8_t* sign) {
    uint64_t k, s;
    __builtin_memcpy(&k, kept, 8);
    __builtin_memcpy(&s, sign, 8);
    const __m512i any = _mm512_maskz_set1_epi8(__mmask64(k), 1);
    return _mm512_mask_set1_epi8(any, __mmask64(s), -1);
}

typedef uint8_t u8v __attribute__((vector_size(64)));
typedef uint16_t u16v __attribute__((vector_size(64)));
typedef __m512i ByteSums;  // 64 bits, of values plus 128
inline u16v widen(const int8_t* p) {
    return u16v(_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
}
typedef int32_t Ints __attribute__((vector_size(64)));
inline Ints load_ints(const int8_t* p) {
    return Ints(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline Ints load_ints(const int16_t* p) {
    return Ints(_mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
}
inline Ints load_ints(const int32_t* p) { return Ints(_mm512_loadu_si512(p)); }
inline void store_ints(int8_t* p, Ints a, Ints b) {
    __m128i* to = reinterpret_cast<__m128i*>(p);
    _mm_storeu_si128(to, _mm512_cvtsepi32_epi8(__m512i(a)));
    _mm_storeu_si128(to + 1, _mm512_cvtsepi32_epi8(__m512i(b)));
}
inline u8v bit_bytes(uint64_t bits) { return u8v(_mm512_movm_epi8(__mmask64(bits))); }
inline ByteSums add_bytes(ByteSums sums, u8v v) {
    const __m512i sum = _mm512_sad_epu8(__m512i(v ^ 0x80), _mm512_setzero_si512());
    return _mm512_add_epi64(sums, sum);
}
inline int32_t total(ByteSums sums, size_t n) {
    return int32_t(int64_t(_mm512_reduce_add_epi64(sums)) - 128 * int64_t(n));
}

#include "random_inl.h"
#include "prior_inl.h"
#include "mask_inl.h"
#include "conv_inl.h"
#include "linear_inl.h"
#include "peaks_inl.h"
#include "dot_inl.h"
#include "pack_inl.h"
#include "int8_inl.h"
#include "depthwise_inl.h"

}  // namespace

const Ops avx512_ops = {
    .name = "avx512",
#include "ops_entries.h"
};

}  // namespace slt
