// The kernels of depthwise.cpp: pixels that lie a stride apart are put side by side, and those that
// kept taps read are summed. Included after conv_inl.h and int8_inl.h.

inline f32v load_numbers(const float* p) { return load_floats(p); }
inline u16v load_numbers(const int16_t* p) { return load_shorts(p); }
inline void store_numbers(float* p, f32v v) { store_floats(p, v); }
inline void store_numbers(int16_t* p, u16v v) { store_shorts(p, v); }

// ---- pixels of a phase ----

template <uint32_t kStride>
void copy_floats(const float* from, size_t from_pitch, uint32_t rows, uint32_t count, float* to,
                 size_t to_pitch) {
    constexpr uint32_t kFew = 4;
    for (; rows; --rows, from += from_pitch, to += to_pitch) {
        if (count >= kFloats) {
            for (uint32_t j = 0; j < count; j += kFloats) {
                const uint32_t at = j + kFloats <= count ? j : count - kFloats;
                copy_piece<kFloats, kStride>(from + at * kStride, to + at);
            }
        } else if (count >= kFew) {
            for (uint32_t j = 0; j < count; j += kFew) {
                const uint32_t at = j + kFew <= count ? j : count - kFew;
                copy_piece<kFew, kStride>(from + at * kStride, to + at);
            }
        } else {
            for (uint32_t j = 0; j < count; ++j) to[j] = from[j * kStride];
        }
    }
}

// Row i of `rows` takes `count` pixels `stride` apart from `from` + i * from_pitch.
void copy_phase(const float* from, size_t from_pitch, uint32_t rows, uint32_t count,
                uint32_t stride, float* to, size_t to_pitch) {
    if (stride == 1) return copy_floats<1>(from, from_pitch, rows, count, to, to_pitch);
    if (stride == 2) return copy_floats<2>(from, from_pitch, rows, count, to, to_pitch);
    for (; rows; --rows, from += from_pitch, to += to_pitch) {
        for (uint32_t j = 0; j < count; ++j) to[j] = from[size_t(j) * stride];
    }
}

typedef int8_t Eight __attribute__((vector_size(8)));
typedef int16_t Wide __attribute__((vector_size(16)));

// Eight bytes kStride apart, to int16.
template <uint32_t kStride>
inline void widen_eight(const int8_t* from, int16_t* to) {
    Eight a, b;
    __builtin_memcpy(&a, from, sizeof a);
    if constexpr (kStride == 2) {
        __builtin_memcpy(&b, from + 7, sizeof b);
        a = __builtin_shufflevector(a, b, 0, 2, 4, 6, 9, 11, 13, 15);
    }
    const Wide wide = __builtin_convertvector(a, Wide);
    __builtin_memcpy(to, &wide, sizeof wide);
}

// Fewer than eight pixels a row, and zeros behind them.
template <uint32_t kStride>
void copy_few_bytes(const int8_t* from, size_t from_pitch, uint32_t rows, uint32_t count,
                    int16_t* to, size_t to_pitch) {
    const Wide keep = Wide{0, 1, 2, 3, 4, 5, 6, 7} < int16_t(count);
    size_t left = (rows - 1) * from_pitch + (count - 1) * kStride + 1;  // bytes from `from` on
    for (; rows; --rows, from += from_pitch, to += to_pitch, left -= from_pitch) {
        if (left >= 8 * kStride) {
            Wide wide;
            if constexpr (kStride == 1) {
                Eight eight;
                __builtin_memcpy(&eight, from, sizeof eight);
                wide = __builtin_convertvector(eight, Wide);
            } else {
                __builtin_memcpy(&wide, from, sizeof wide);
                wide = wide << 8 >> 8;  // the first of each two
            }
            wide &= keep;
            __builtin_memcpy(to, &wide, sizeof wide);
        } else {
            for (uint32_t j = 0; j < count; ++j) to[j] = from[j * kStride];
        }
    }
}

template <uint32_t kStride>
void copy_bytes(const int8_t* from, size_t from_pitch, uint32_t rows, uint32_t count, int16_t* to,
                size_t to_pitch) {
    if (count < 8) return copy_few_bytes<kStride>(from, from_pitch, rows, count, to, to_pitch);
    for (; rows; --rows, from += from_pitch, to += to_pitch) {
        uint32_t j = 0;
        // load_pixels reads kStride bytes for each pixel, and behind the last there may be none.
        for (; j + kShorts + kStride - 1 <= count; j += kShorts)
            store_shorts(to + j, load_pixels<kStride>(from + j * kStride));
        for (; j < count; j += 8) {
            const uint32_t at = j + 8 <= count ? j : count - 8;
            widen_eight<kStride>(from + at * kStride, to + at);
        }
    }
}

void copy_phase_bytes(const int8_t* from, size_t from_pitch, uint32_t rows, uint32_t count,
                      uint32_t stride, int16_t* to, size_t to_pitch) {
    if (stride == 1) return copy_bytes<1>(from, from_pitch, rows, count, to, to_pitch);
    if (stride == 2) return copy_bytes<2>(from, from_pitch, rows, count, to, to_pitch);
    for (; rows; --rows, from += from_pitch, to += to_pitch) {
        for (uint32_t j = 0; j < count; ++j) to[j] = from[size_t(j) * stride];
    }
}

// ---- sums ----

// Numbers of positions, in ascending order.
struct TapList {
    uint32_t count;
    uint8_t at[kMostTaps + 8];
};

// Those of the set bits.
inline void list_positions(const uint64_t (&bits)[2], uint32_t positions, TapList& list) {
    uint8_t* to = list.at;
    for (uint32_t first = 0; first < positions; first += 8) {
        const uint32_t byte = uint8_t(bits[first / 64] >> first % 64);
        uint64_t eight;  // little-endian machines only
        __builtin_memcpy(&eight, kBitTable.positions[byte], 8);
        eight += first * 0x0101010101010101u;  // no carry: a position is below 256
        __builtin_memcpy(to, &eight, 8);
        to += __builtin_popcount(byte);
    }
    list.count = uint32_t(to - list.at);
}

// kVectors vectors of sums; each pixel's additions have the order of docs/numerics.md.
template <uint32_t kVectors, class T>
inline void sum_some(const T* planes, const Taps& taps, const TapList& plus_ones,
                     const TapList& minus_ones, T* sums) {
    typedef decltype(load_numbers(planes)) V;
    constexpr uint32_t kLanes = sizeof(V) / sizeof(T);
    const auto add = [&](V(&all)[kVectors], const TapList& list) {
        for (uint32_t i = 0; i < list.count; ++i) {
            const T* from = planes + taps.at[list.at[i]];
#pragma GCC unroll 8
            for (uint32_t v = 0; v < kVectors; ++v)
                all[v] = in_order(all[v] + load_numbers(from + v * kLanes));
        }
    };
    V plus[kVectors] = {}, minus[kVectors] = {};
    add(plus, plus_ones);
    add(minus, minus_ones);
#pragma GCC unroll 8
    for (uint32_t v = 0; v < kVectors; ++v) store_numbers(sums + v * kLanes, plus[v] - minus[v]);
}

template <class T>
void sum_planes(const T* planes, const Taps& taps, const uint64_t* kept, const uint64_t* sign,
                uint32_t rows, uint32_t pitch, uint32_t columns, T* flat, T* sums) {
    constexpr uint32_t kLanes = kBytes / sizeof(T);
    TapList plus, minus;
    list_positions({kept[0] & ~sign[0], kept[1] & ~sign[1]}, taps.count, plus);
    list_positions({sign[0], sign[1]}, taps.count, minus);
    const size_t count = size_t(rows - 1) * pitch + columns;
    if (pitch == columns) flat = sums;
    size_t i = 0;
    for (; i + 4 * kLanes < count; i += 8 * kLanes)
        sum_some<8>(planes + i, taps, plus, minus, flat + i);
    if (i + 2 * kLanes < count) {
        sum_some<4>(planes + i, taps, plus, minus, flat + i);
    } else if (i < count) {
        sum_some<2>(planes + i, taps, plus, minus, flat + i);
    }
    if (pitch == columns) return;
    for (; rows; --rows, flat += pitch, sums += columns) {  // whole vectors, the next row's later
        for (uint32_t j = 0; j < columns; j += kLanes)
            store_numbers(sums + j, load_numbers(flat + j));
    }
}

// sums [rows][columns]: of row r and column c, the sum over the kept positions of +-planes[tap + r
// * pitch + c]. May touch kTapSlack numbers behind planes, sums and flat, which is scratch for rows
// * pitch.
void sum_taps(const float* planes, const Taps& taps, const uint64_t* kept, const uint64_t* sign,
              uint32_t rows, uint32_t pitch, uint32_t columns, float* flat, float* sums) {
    sum_planes(planes, taps, kept, sign, rows, pitch, columns, flat, sums);
}

void sum_taps_shorts(const int16_t* planes, const Taps& taps, const uint64_t* kept,
                     const uint64_t* sign, uint32_t rows, uint32_t pitch, uint32_t columns,
                     int16_t* flat, int16_t* sums) {
    sum_planes(planes, taps, kept, sign, rows, pitch, columns, flat, sums);
}
