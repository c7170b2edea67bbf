// The slow twin of int8_inl.h, in 64 bits where that has 32. Included by ops_scalar.cpp.

void requantise(const int32_t* sums, const int8_t* residual, size_t count,
                const RequantiseChannel& q, int8_t* out) {
    for (size_t i = 0; i < count; ++i) {
        int64_t a = sums[i];
        if (a < q.lo) a = q.lo;
        if (a > q.hi) a = q.hi;
        const int64_t r = residual ? residual[i] : 0;
        const uint32_t t = uint32_t(uint64_t(a * q.m + r * q.m_r + q.c));
        const int64_t y = int64_t(int32_t(t)) >> q.s;
        out[i] = int8_t(y < q.low ? q.low : y > 127 ? 127 : y);
    }
}

void quantise(const float* x, size_t count, float scale, int8_t* out) {
    for (size_t i = 0; i < count; ++i) {
        const float v = __builtin_rintf(x[i] / scale);
        out[i] = int8_t(v < -127 ? -127 : v > 127 ? 127 : v);
    }
}

void relu_bytes(const int8_t* x, size_t count, int8_t* out) {
    for (size_t i = 0; i < count; ++i) out[i] = x[i] > 0 ? x[i] : int8_t(0);
}
