// NEON (Advanced SIMD), which every aarch64 machine has.
#include <arm_neon.h>
#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "lane_table.h"
#include "mixed_law.h"
#include "ops.h"

namespace slt {
namespace {

constexpr size_t kBytes = 16;
typedef uint32_t u32v __attribute__((vector_size(16)));
typedef uint64_t u64v __attribute__((vector_size(16)));

inline u64v multiply_low(u64v a, uint32_t b) {
    return u64v(vmull_u32(vmovn_u64(uint64x2_t(a)), vdup_n_u32(b)));
}

inline u64v even_lanes(u64v a, u64v b) {
    return u64v(vzip1q_u64(uint64x2_t(a), uint64x2_t(b)));
}
inline u64v odd_lanes(u64v a, u64v b) {
    return u64v(vzip2q_u64(uint64x2_t(a), uint64x2_t(b)));
}

// There is no pdep: one turn for each set bit.
inline uint64_t deposit_bits(uint64_t bits, uint64_t where) {
    uint64_t deposited = 0;
    for (; where; where &= where - 1, bits >>= 1) deposited |= (where & -where) & -(bits & 1);
    return deposited;
}

typedef uint32x4_t Mask;  // all ones or zero in each lane
inline Mask lanes_of(uint32_t bits) {
    const uint32x4_t lane = {1, 2, 4, 8};
    return vtstq_u32(vdupq_n_u32(bits), lane);
}
inline uint32_t bits_of(Mask mask) {
    const uint32x4_t lane = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(mask, lane));
}
inline Mask less(u32v a, u32v b) { return vcltq_u32(uint32x4_t(a), uint32x4_t(b)); }
inline Mask under_16_bits(u32v a) { return vcltq_u32(uint32x4_t(a), vdupq_n_u32(0x10000)); }
inline Mask both(Mask a, Mask b) { return vandq_u32(a, b); }
inline u32v select(Mask mask, u32v yes, u32v no) {
    return u32v(vbslq_u32(mask, uint32x4_t(yes), uint32x4_t(no)));
}
inline u32v expand_words(const uint8_t* p, uint32_t bits) {
    uint32_t ranks;
    __builtin_memcpy(&ranks, kLaneTable.rank[bits], 4);
    const uint16x4_t words = vreinterpret_u16_u8(vld1_u8(p));
    // Word number r is the bytes 2 r and 2 r + 1: rank r in each lane gives the byte indices of a
    // table look-up.
    const uint16x4_t rank = vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(ranks))));
    const uint16x4_t bytes = vadd_u16(vmul_n_u16(rank, 0x0202), vdup_n_u16(0x0100));
    return u32v(vmovl_u16(
        vreinterpret_u16_u8(vtbl1_u8(vreinterpret_u8_u16(words), vreinterpret_u8_u16(bytes)))));
}

struct FrequencyTable {
    uint8x16_t low, high;
};
inline FrequencyTable frequency_table(const uint16_t f[16]) {
    const uint8x16x2_t bytes = vld2q_u8(reinterpret_cast<const uint8_t*>(f));
    return {bytes.val[0], bytes.val[1]};
}
inline void store_frequencies(const FrequencyTable& table, const uint32_t index[4], uint16_t* out) {
    const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
    for (int half = 0; half < 2; ++half) {
        uint8x16_t n = vdupq_n_u8(0);
        for (int b = 0; b < 4; ++b) {
            const uint8x16_t word = vcombine_u8(vdup_n_u8(uint8_t(index[b] >> 16 * half)),
                                                vdup_n_u8(uint8_t(index[b] >> (16 * half + 8))));
            n = vorrq_u8(n, vandq_u8(vtstq_u8(word, bit), vdupq_n_u8(uint8_t(1 << b))));
        }
        const uint8x16x2_t f = {{vqtbl1q_u8(table.low, n), vqtbl1q_u8(table.high, n)}};
        vst2q_u8(reinterpret_cast<uint8_t*>(out + 16 * half), f);
    }
}

struct DotBytes {
    typedef int16x8_t V;
    static constexpr uint64_t kMacs = 8;
    static V step(V sum, V a, V b) {  // 16-bit sums
        const int8x16_t x = vreinterpretq_s8_s16(a), w = vreinterpretq_s8_s16(b);
        return vmlal_s8(sum, vget_low_s8(x), vget_low_s8(w));
    }
};
struct DotUnit {
    typedef int16x8_t V;
    static constexpr uint64_t kMacs = 16;
    static V step(V sum, V a, V b) {  // sdot, which this file is not compiled for; 32-bit sums
        __asm__(".arch armv8.2-a+dotprod\n\tsdot %0.4s, %1.16b, %2.16b"
                : "+w"(sum)
                : "w"(a), "w"(b));
        return sum;
    }
};
inline bool has_dot_unit() {
#if defined(__linux__)
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#else
    return false;
#endif
}

#include "dot_neon_inl.h"
struct Sums {  // int16: a product of at most 127 a step
    int16x8_t low, high;
};
constexpr uint32_t kDotQuads = 258, kDotRows = 4;
inline Sums dot_step(Sums sums, Bytes x, Bytes w) {
    return {vmlal_s8(sums.low, vget_low_s8(x), vget_low_s8(w)), vmlal_high_s8(sums.high, x, w)};
}
inline u32v dot_total(Sums sums) {
    return u32v(vpaddq_s32(vpaddlq_s16(sums.low), vpaddlq_s16(sums.high)));
}
inline Bytes dot_signs(const uint8_t* kept, const uint8_t* sign) {
    const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
    const uint8x16_t k = vcombine_u8(vdup_n_u8(kept[0]), vdup_n_u8(kept[1])),
                     s = vcombine_u8(vdup_n_u8(sign[0]), vdup_n_u8(sign[1]));
    const uint8x16_t one = vandq_u8(vtstq_u8(k, bit), vdupq_n_u8(1));
    return vreinterpretq_s8_u8(vorrq_u8(vtstq_u8(s, bit), one));
}

typedef uint8_t u8v __attribute__((vector_size(16)));
typedef uint16_t u16v __attribute__((vector_size(16)));
typedef int32x4_t ByteSums;
inline u16v widen(const int8_t* p) { return u16v(vmovl_s8(vld1_s8(p))); }
typedef int32_t Ints __attribute__((vector_size(16)));
inline Ints load_ints(const int8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, 4);
    return Ints(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four))))));
}
inline Ints load_ints(const int16_t* p) { return Ints(vmovl_s16(vld1_s16(p))); }
inline Ints load_ints(const int32_t* p) { return Ints(vld1q_s32(p)); }
inline void store_ints(int8_t* p, Ints a, Ints b) {
    vst1_s8(p, vqmovn_s16(vcombine_s16(vqmovn_s32(int32x4_t(a)), vqmovn_s32(int32x4_t(b)))));
}
inline u8v bit_bytes(uint64_t bits) {
    const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
    const uint8x16_t word = vcombine_u8(vdup_n_u8(uint8_t(bits)), vdup_n_u8(uint8_t(bits >> 8)));
    return u8v(vtstq_u8(word, bit));
}
inline ByteSums add_bytes(ByteSums sums, u8v v) {
    return vpadalq_s16(sums, vpaddlq_s8(int8x16_t(v)));
}
inline int32_t total(ByteSums sums, size_t) { return vaddvq_s32(sums); }

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

const Ops neon_ops = {
    .name = "neon",
#include "ops_entries.h"
};

}  // namespace slt
