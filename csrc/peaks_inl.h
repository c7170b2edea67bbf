// Loops that run into the bounds of the machine. Included like random_inl.h, after kBytes and these
// primitives:
//   struct DotBytes   kMacs; V; V step(V sum, V a, V b)   products of bytes, summed, of all lanes
//   struct DotUnit    the same with an instruction that only some machines of this ISA have
//   bool has_dot_unit()
// A value that went through `opaque` may be any other to the compiler: it can neither leave a step
// out nor take it out of the loop.

typedef float peak_f32 __attribute__((vector_size(kBytes)));
typedef int16_t peak_i16 __attribute__((vector_size(kBytes)));

// Sums that do not depend on each other: more than latency times additions a cycle, and few enough
// for registers.
constexpr uint32_t kChains = 12;
static_assert(kPeakL1Bytes % (kChains * kBytes) == 0);

template <class V>
inline void opaque(V& v) {
#if defined(__x86_64__)
    __asm__ volatile("" : "+x"(v));
#else
    __asm__ volatile("" : "+w"(v));
#endif
}

template <class V>
inline V load_vector(const uint8_t* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}

template <class V>
void add_registers(uint64_t rounds) {
    V sums[kChains] = {}, x = {};
    opaque(x);
    for (; rounds; --rounds) {
#pragma GCC unroll 12
        for (uint32_t i = 0; i < kChains; ++i) {
            sums[i] += x;
            opaque(sums[i]);
        }
    }
}

template <class V>
void add_loads(uint64_t rounds, const uint8_t* buffer, size_t bytes) {
    V sums[kChains] = {};
    for (; rounds; --rounds) {
        for (size_t at = 0; at < bytes; at += kChains * kBytes) {
#pragma GCC unroll 12
            for (uint32_t i = 0; i < kChains; ++i) {
                sums[i] += load_vector<V>(buffer + at + i * kBytes);
                opaque(sums[i]);
            }
        }
    }
}

void load_all(uint64_t rounds, const uint8_t* buffer, size_t bytes) {
    for (; rounds; --rounds) {
        for (size_t at = 0; at < bytes; at += kChains * kBytes) {
#pragma GCC unroll 12
            for (uint32_t i = 0; i < kChains; ++i) {
                peak_i16 v = load_vector<peak_i16>(buffer + at + i * kBytes);
                opaque(v);
            }
        }
    }
}

template <class Dot>
uint64_t dot_registers(uint64_t rounds) {
    typename Dot::V sums[kChains] = {}, a = {}, b = {};
    opaque(b);
    for (uint64_t left = rounds; left; --left) {
#pragma GCC unroll 12
        for (uint32_t i = 0; i < kChains; ++i) {
            opaque(a);
            sums[i] = Dot::step(sums[i], a, b);
            opaque(sums[i]);
        }
    }
    return rounds * kChains * Dot::kMacs;
}

uint64_t peak_loop(PeakLoop loop, uint64_t rounds, const uint8_t* buffer, size_t bytes) {
    const uint64_t vectors = rounds * kChains;
    switch (loop) {
        case PeakLoop::add_f32:
            add_registers<peak_f32>(rounds);
            return vectors * (kBytes / 4);
        case PeakLoop::add_i16:
            add_registers<peak_i16>(rounds);
            return vectors * (kBytes / 2);
        case PeakLoop::add_load_f32:
            add_loads<peak_f32>(rounds, buffer, bytes);
            return rounds * (bytes / 4);
        case PeakLoop::add_load_i16:
            add_loads<peak_i16>(rounds, buffer, bytes);
            return rounds * (bytes / 2);
        case PeakLoop::load:
            load_all(rounds, buffer, bytes);
            return rounds * bytes;
        case PeakLoop::dot:
            break;
    }
    return has_dot_unit() ? dot_registers<DotUnit>(rounds) : dot_registers<DotBytes>(rounds);
}
