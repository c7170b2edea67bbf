// int8 kernels that exist once per instruction set. Included like conv_inl.h, after it.

// clamp((clamp(sum, lo, hi) * m + r * m_r + c) >> s, low, 127), exact in 32 bits (int8.cpp proves
// it); the compiler vectorises it.
template <bool kResidual>
inline void requantise_sums(const int32_t* sums, const int8_t* residual, size_t count,
                            const RequantiseChannel& q, int8_t* out) {
    const RequantiseChannel f = q;  // out may alias nothing of it
    for (size_t i = 0; i < count; ++i) {
        int32_t a = sums[i];
        a = a < f.lo ? f.lo : a;
        a = a > f.hi ? f.hi : a;
        uint32_t t = uint32_t(a) * uint32_t(f.m) + uint32_t(f.c);
        if (kResidual) t += uint32_t(int32_t(residual[i]) * f.m_r);
        int32_t y = int32_t(t) >> f.s;
        y = y < f.low ? f.low : y;
        out[i] = int8_t(y > 127 ? 127 : y);
    }
}

void requantise(const int32_t* sums, const int8_t* residual, size_t count,
                const RequantiseChannel& channel, int8_t* out) {
    if (residual && channel.m_r) {
        requantise_sums<true>(sums, residual, count, channel, out);
    } else {
        requantise_sums<false>(sums, nullptr, count, channel, out);
    }
}

// clamp(rint(x / scale), -127, 127); the default rounding mode is ties to even.
void quantise(const float* x, size_t count, float scale, int8_t* out) {
    for (size_t i = 0; i < count; ++i) {
        float v = x[i] / scale;
        v = v < -127.0f ? -127.0f : v;
        v = v > 127.0f ? 127.0f : v;
        // |v| < 2^22: adding 1.5 * 2^23 rounds to an integer, ties to even, which its low bits hold.
        v += 0x1.8p23f;
        int32_t bits;
        __builtin_memcpy(&bits, &v, 4);
        out[i] = int8_t(bits - 0x4B400000);
    }
}

void relu_bytes(const int8_t* x, size_t count, int8_t* out) {
    for (size_t i = 0; i < count; ++i) out[i] = x[i] > 0 ? x[i] : 0;
}
