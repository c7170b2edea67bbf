// int8 convolutions by additions, and what all int8 layers end with. Included like conv_inl.h, after
// it and after these primitives:
//   u16v widen(const int8_t* p)         kBytes / 2 bytes as int16
//   Ints load_ints(const T* p)          kBytes / 4 numbers, T int8_t, int16_t or int32_t, as int32
//   void store_ints(int8_t* p, Ints a, Ints b)   kBytes / 2 bytes, those of a first, saturated
//
// A *panel* holds what some output pixels read: a row per position, of 1, 2 or 4 vectors of int16.
//
// The *unit lists* of some rows of weights are entries of one size, uint8 where a block is 256
// positions, uint16 where it has more. Block after block:
//   an entry that is 1 where sums must be widened first,
//   then for the positive and for the negative weights: classes, and an entry 0 behind the last.
// A class is the number of its units (at most 255), their length less 1, and the units: the row's
// number and the `length` positions, counted from the begin of the block, to be added or
// subtracted. Units are in order of their length: a loop's number of turns seldom changes, so that
// its last turn is foreseen, and nothing is padded.
//
// Sums are int16, modulo 2^16: no matter how they come about, they are right where the true value
// is in range. |sum| <= 127 * (kept weights) <= 127 * kNarrowKept = 32766 while a row has not more
// kept weights than that since its sums were last widened into int32, which the lists' entry sees
// to. A block of 256 positions never has more.

constexpr uint32_t kShorts = kBytes / 2;

inline u16v load_shorts(const int16_t* p) {
    u16v v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}

inline void store_shorts(int16_t* p, u16v v) { __builtin_memcpy(p, &v, sizeof v); }

// ---- panels ----

// The next pixels from p on, kStride apart.
template <uint32_t kStride>
inline u16v load_pixels(const int8_t* p) {
    if (kStride == 1) return widen(p);
    typedef int16_t i16v __attribute__((vector_size(kBytes)));
    i16v pairs;
    __builtin_memcpy(&pairs, p, sizeof pairs);
    return u16v(pairs << 8 >> 8);  // the first of each two
}

// Pieces of runs, whole vectors that write over a run's end, and so must be in order. Where kPieces
// is not 0 it is their number, and their places stay in registers.
template <uint32_t kStride, uint32_t kPieces>
void gather_pieces(const int8_t* image, const uint32_t* offsets, uint32_t rows,
                   const uint32_t* from, const uint32_t* at, uint32_t pieces, uint32_t width,
                   int16_t* to) {
    uint32_t places[2][kPieces + 1];
    for (uint32_t i = 0; i < kPieces; ++i) places[0][i] = from[i], places[1][i] = at[i];
    for (uint32_t row = 0; row < rows; ++row, to += width) {
        const int8_t* pixels = image + offsets[row];
        if (kPieces == 0) {
            for (uint32_t i = 0; i < pieces; ++i)
                store_shorts(to + at[i], load_pixels<kStride>(pixels + from[i]));
        }
#pragma GCC unroll 8
        for (uint32_t i = 0; i < kPieces; ++i)
            store_shorts(to + places[1][i], load_pixels<kStride>(pixels + places[0][i]));
    }
}

template <uint32_t kStride>
void gather_vectors(const int8_t* image, const uint32_t* offsets, uint32_t rows, const Run* runs,
                    uint32_t count, uint32_t width, int16_t* to) {
    uint32_t from[4 * kShorts], at[4 * kShorts];  // a piece has a pixel at least
    uint32_t pieces = 0, filled = 0;
    for (uint32_t i = 0; i < count; filled += runs[i].length, ++i) {
        for (uint32_t j = 0; j < runs[i].length; j += kShorts, ++pieces) {
            from[pieces] = runs[i].from + j * kStride;
            at[pieces] = filled + j;
        }
    }
    const auto gather = pieces == 4   ? gather_pieces<kStride, 4>
                        : pieces == 8 ? gather_pieces<kStride, 8>
                                      : gather_pieces<kStride, 0>;
    gather(image, offsets, rows, from, at, pieces, width, to);
}

// Row i of `rows` takes, for each run in order, `length` pixels `stride` apart from image +
// offsets[i] + run.from; what stands behind them is anything. May read kGatherSlack bytes behind
// the pixels and write as many behind the rows.
void gather_bytes(const int8_t* image, const uint32_t* offsets, uint32_t rows, const Run* runs,
                  uint32_t count, uint32_t stride, uint32_t width, int16_t* to) {
    if (stride == 1) return gather_vectors<1>(image, offsets, rows, runs, count, width, to);
    if (stride == 2) return gather_vectors<2>(image, offsets, rows, runs, count, width, to);
    for (uint32_t row = 0; row < rows; ++row, to += width) {
        int16_t* at = to;
        for (uint32_t i = 0; i < count; at += runs[i].length, ++i) {
            const int8_t* pixel = image + offsets[row] + runs[i].from;
            for (uint32_t j = 0; j < runs[i].length; ++j) at[j] = pixel[size_t(j) * stride];
        }
    }
}

// ---- unit lists ----

inline uint16_t* list_bits(uint64_t bits, uint32_t first, uint16_t* out) {
    constexpr uint32_t kAhead = 4;  // written without a branch
    uint16_t* at = out;
    out += __builtin_popcountll(bits);
#pragma GCC unroll 4
    for (uint32_t i = 0; i < kAhead; ++i) {
        *at++ = uint16_t(first + trailing_zeros(bits));
        bits &= bits - 1;
    }
    for (; __builtin_expect(bits != 0, 0); bits &= bits - 1)
        *at++ = uint16_t(first + trailing_zeros(bits));
    return out;
}

// Positions of one sign in a block: those of row r from all + begin[r] on.
template <class T>
struct Positions {
    uint32_t begin[kUnitRows + 1];
    T all[kUnitRows * kNarrowKept + kListPadding];

    uint32_t length(uint32_t r) const { return begin[r + 1] - begin[r]; }
};

// The classes of one sign.
template <class T>
T* list_classes(const Positions<T>& positions, uint32_t rows, T* out) {
    uint8_t order[kUnitRows];
    uint16_t place[kNarrowKept + 1];
    uint32_t most = 0;
    for (uint32_t r = 0; r < rows; ++r) most = larger(most, positions.length(r));
    for (uint32_t n = 0; n <= most; ++n) place[n] = 0;
    for (uint32_t r = 0; r < rows; ++r) ++place[positions.length(r)];
    for (uint32_t n = 0, before = 0; n <= most; ++n) {
        const uint32_t here = place[n];
        place[n] = uint16_t(before);
        before += here;
    }
    for (uint32_t r = 0; r < rows; ++r) order[place[positions.length(r)]++] = uint8_t(r);
    T* units = out;  // of the class
    uint32_t last = 0;
    for (uint32_t i = 0; i < rows; ++i) {
        const uint32_t r = order[i], length = positions.length(r);
        if (length == 0) continue;
        if (length != last) {
            units = out;
            *out++ = 0;
            *out++ = T(length - 1);
            last = length;
        }
        *units = T(*units + 1);  // a class has at most kUnitRows
        *out++ = T(r);
        const T* from = positions.all + positions.begin[r];
        for (uint32_t j = 0; j < length; j += 32 / sizeof(T))
            __builtin_memcpy(out + j, from + j, 32);
        out += length;
    }
    *out++ = 0;
    return out;
}

template <class T>
T* list_block(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
              uint32_t words, uint16_t* since, T* out) {
    Positions<T> plus, minus;
    T *p = plus.all, *m = minus.all;
    bool full = false;
    for (uint32_t r = 0; r < rows; ++r, kept += row_words, sign += row_words) {
        plus.begin[r] = uint32_t(p - plus.all);
        minus.begin[r] = uint32_t(m - minus.all);
        for (uint32_t w = 0; w < words; ++w) {
            p = list_bits(kept[w] & ~sign[w], 64 * w, p);
            m = list_bits(sign[w], 64 * w, m);
        }
        plus.begin[r + 1] = uint32_t(p - plus.all);
        minus.begin[r + 1] = uint32_t(m - minus.all);
        full |= since[r] + plus.length(r) + minus.length(r) > kNarrowKept;
    }
    for (uint32_t r = 0; r < rows; ++r)
        since[r] = uint16_t(plus.length(r) + minus.length(r) + (full ? 0 : since[r]));
    *out++ = full;
    out = list_classes(plus, rows, out);
    return list_classes(minus, rows, out);
}

// The unit lists of a block of `words` words of each row. since[row]: kept weights since sums were
// widened. Returns their end; may write kListPadding bytes behind it.
uint8_t* list_units(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
                    uint32_t words, bool wide, uint16_t* since, uint8_t* out) {
    if (!wide) return list_block(kept, sign, row_words, rows, words, since, out);
    return (uint8_t*)list_block(kept, sign, row_words, rows, words, since, (uint16_t*)out);
}

// ---- sums ----

template <class T, uint32_t kVectors, bool kMinus>
inline const T* add_units(const T* list, const int16_t* block, int16_t* sums) {
    constexpr uint32_t kWidth = kVectors * kShorts;
    // Positions a turn. One vector has two sums, which do not wait for each other.
    constexpr uint32_t kTurn = kVectors == 1 ? 4 : 2, kSums = kVectors == 1 ? 2 : kVectors;
    while (uint32_t units = *list++) {
        const uint32_t length = uint32_t(*list++) + 1;
        for (; units; --units) {
            int16_t* at = sums + size_t(*list++) * kWidth;
            u16v sum[kSums] = {};
            const auto add = [&](uint32_t i) {
                const int16_t* row = block + size_t(list[i]) * kWidth;
#pragma GCC unroll 4
                for (uint32_t v = 0; v < kVectors; ++v) {
                    u16v& to = sum[kVectors == 1 ? i % 2 : v];
                    to = in_order(to + load_shorts(row + v * kShorts));
                }
            };
            for (uint32_t turns = length / kTurn; turns; --turns, list += kTurn) {
#pragma GCC unroll 4
                for (uint32_t i = 0; i < kTurn; ++i) add(i);
            }
            if (kTurn == 4 && length & 2) {
                add(0);
                add(1);
                list += 2;
            }
            if (length & 1) {
                add(0);
                ++list;
            }
#pragma GCC unroll 4
            for (uint32_t v = 0; v < kVectors; ++v) {
                const u16v all = kVectors == 1 ? sum[0] + sum[kSums - 1] : sum[v];
                const u16v old = load_shorts(at + v * kShorts);
                store_shorts(at + v * kShorts, kMinus ? old - all : old + all);
            }
        }
    }
    return list;
}

template <class T, uint32_t kVectors>
bool sum_lists(const T* list, uint32_t blocks, uint32_t block_rows, const int16_t* panel,
               uint32_t rows, int16_t* sums, int32_t* wide) {
    constexpr uint32_t kWidth = kVectors * kShorts;
    const size_t count = size_t(rows) * kWidth;
    bool widened = false;
    const auto widen_sums = [&] {
        if (widened) {
            for (size_t i = 0; i < count; ++i) wide[i] += sums[i];
        } else {
            for (size_t i = 0; i < count; ++i) wide[i] = sums[i];
        }
        widened = true;
    };
    for (size_t i = 0; i < count; ++i) sums[i] = 0;
    for (; blocks; --blocks, panel += size_t(block_rows) * kWidth) {
        if (*list++) {
            widen_sums();
            for (size_t i = 0; i < count; ++i) sums[i] = 0;
        }
        list = add_units<T, kVectors, false>(list, panel, sums);
        list = add_units<T, kVectors, true>(list, panel, sums);
    }
    if (widened) widen_sums();
    return widened;
}

template <class T>
bool sum_vectors(const T* list, uint32_t blocks, uint32_t block_rows, const int16_t* panel,
                 uint32_t vectors, uint32_t rows, int16_t* sums, int32_t* wide) {
    if (vectors == 1) return sum_lists<T, 1>(list, blocks, block_rows, panel, rows, sums, wide);
    if (vectors == 2) return sum_lists<T, 2>(list, blocks, block_rows, panel, rows, sums, wide);
    return sum_lists<T, 4>(list, blocks, block_rows, panel, rows, sums, wide);
}

// Sums [rows][vectors] of a panel by the unit lists of `blocks` blocks: true where they are in
// `wide`, false where int16 held them and they are in `sums`.
bool sum_units(const uint8_t* lists, bool wide_lists, uint32_t blocks, const int16_t* panel,
               uint32_t vectors, uint32_t rows, int16_t* sums, int32_t* wide) {
    if (wide_lists) {
        return sum_vectors((const uint16_t*)lists, blocks, kWideBlock, panel, vectors, rows, sums,
                           wide);
    }
    return sum_vectors(lists, blocks, kNarrowBlock, panel, vectors, rows, sums, wide);
}

// ---- sums without lists, where an image's pixels are one vector ----

// The rows of a word's panel that its set bits name: the first kAhead without a branch, as behind
// the last bit there is the row of zeros.
template <uint32_t kAhead>
inline void add_word(uint64_t bits, const int16_t* panel, u16v (&sum)[2]) {
#pragma GCC unroll 8
    for (uint32_t i = 0; i < kAhead; ++i) {
        sum[i % 2] = in_order(sum[i % 2] + load_shorts(panel + trailing_zeros(bits) * kShorts));
        bits &= bits - 1;
    }
    for (; __builtin_expect(bits != 0, 0); bits &= bits - 1)
        sum[0] = in_order(sum[0] + load_shorts(panel + trailing_zeros(bits) * kShorts));
}

template <uint32_t kAhead>
void sum_words_of(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
                  uint32_t words, const int16_t* panel, int32_t* sums) {
    for (; rows; --rows, kept += row_words, sign += row_words, sums += kShorts) {
        u16v plus[2] = {}, minus[2] = {};
        for (uint32_t w = 0; w < words; ++w) {
            const int16_t* at = panel + size_t(w) * kWordRows * kShorts;
            add_word<kAhead>(kept[w] & ~sign[w], at, plus);
            add_word<kAhead>(sign[w], at, minus);
        }
        int16_t all[kShorts];
        store_shorts(all, plus[0] + plus[1] - minus[0] - minus[1]);
        for (uint32_t i = 0; i < kShorts; ++i) sums[i] += all[i];
    }
}

// Adds to sums [rows][kShorts] those of `words` <= kWordBlock words of each row; panel has kWordRows
// vectors for each word, the last of them zeros. int16 holds the sum of 256 weights.
void sum_words(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
               uint32_t words, const int16_t* panel, int32_t* sums) {
    uint64_t all = 0;
    for (uint32_t r = 0; r < rows; ++r) all += count_bits(kept + r * row_words, words);
    // Bits of a word and sign: a foreseen one more costs less than an unforeseen one.
    const uint64_t tenths = 5 * all / (uint64_t(rows) * words);
    const auto sum = tenths < 5    ? sum_words_of<1>
                     : tenths < 11 ? sum_words_of<2>
                     : tenths < 18 ? sum_words_of<3>
                     : tenths < 34 ? sum_words_of<5>
                                   : sum_words_of<8>;
    sum(kept, sign, row_words, rows, words, panel, sums);
}

// ---- the end of a layer ----

// clamp((clamp(sum, lo, hi) * m + r * m_r + c) >> s, low, 127), exact in 32 bits (int8.cpp proves
// it).
template <bool kResidual, class Sum>
inline int8_t requantise_one(Sum sum, int8_t residual, const RequantiseChannel& q) {
    int32_t a = sum;
    a = a < q.lo ? q.lo : a;
    a = a > q.hi ? q.hi : a;
    uint32_t t = uint32_t(a) * uint32_t(q.m) + uint32_t(q.c);
    if (kResidual) t += uint32_t(int32_t(residual) * q.m_r);
    int32_t b = int32_t(t) >> q.s;
    b = b < q.low ? q.low : b;
    return int8_t(b > 127 ? 127 : b);
}

// The same of as many sums as a vector has ints; what is above 127 is left to store_ints.
template <bool kResidual, class Sum>
inline Ints requantise_vector(const Sum* sums, const int8_t* residual, const RequantiseChannel& q) {
    Ints a = load_ints(sums);
    a = a < q.lo ? Ints{} + q.lo : a;
    a = a > q.hi ? Ints{} + q.hi : a;
    u32v t = u32v(a) * uint32_t(q.m) + uint32_t(q.c);
    if (kResidual) t += u32v(load_ints(residual)) * uint32_t(q.m_r);
    const Ints b = Ints(t) >> int32_t(q.s);
    return b < q.low ? Ints{} + q.low : b;
}

template <bool kResidual, class Sum>
void requantise_rows(const Sum* sums, size_t sums_stride, const int8_t* residual, size_t stride,
                     uint32_t rows, size_t count, const RequantiseChannel* channel,
                     size_t channel_step, int8_t* out) {
    constexpr uint32_t kInts = kBytes / 4;
    for (; rows; --rows, sums += sums_stride, out += stride, channel += channel_step) {
        const RequantiseChannel q = *channel;
        const auto vector = [&](size_t i) {
            return requantise_vector<kResidual>(sums + i, residual + (kResidual ? i : 0), q);
        };
        size_t i = 0;
        for (; i + 2 * kInts <= count; i += 2 * kInts)
            store_ints(out + i, vector(i), vector(i + kInts));
        if (i < count && count >= 2 * kInts) {  // some again: out lies in no operand
            i = count - 2 * kInts;
            store_ints(out + i, vector(i), vector(i + kInts));
            i = count;
        }
        for (; i < count; ++i)
            out[i] = requantise_one<kResidual>(sums[i], kResidual ? residual[i] : int8_t(0), q);
        if (kResidual) residual += stride;
    }
}

// `rows` rows of `count` sums; out and residual (null: r = 0) go on after `stride`. The channel
// goes on by channel_step, 0 or 1, with each row.
void requantise(const int32_t* sums, size_t sums_stride, const int8_t* residual, size_t stride,
                uint32_t rows, size_t count, const RequantiseChannel* channel, size_t channel_step,
                int8_t* out) {
    if (residual) {
        requantise_rows<true>(sums, sums_stride, residual, stride, rows, count, channel,
                              channel_step, out);
    } else {
        requantise_rows<false>(sums, sums_stride, (const int8_t*)nullptr, stride, rows, count,
                               channel, channel_step, out);
    }
}

void requantise_shorts(const int16_t* sums, size_t sums_stride, const int8_t* residual,
                       size_t stride, uint32_t rows, size_t count, const RequantiseChannel* channel,
                       size_t channel_step, int8_t* out) {
    if (residual) {
        requantise_rows<true>(sums, sums_stride, residual, stride, rows, count, channel,
                              channel_step, out);
    } else {
        requantise_rows<false>(sums, sums_stride, (const int8_t*)nullptr, stride, rows, count,
                               channel, channel_step, out);
    }
}

typedef int32_t i32v __attribute__((vector_size(kBytes)));
typedef int8_t QuarterBytes __attribute__((vector_size(kFloats)));

inline QuarterBytes quantise_floats(f32v x, float scale) {
    f32v v = x / scale;
    v = v > -127.0f ? v : f32v{} - 127.0f;
    v = v > 127.0f ? f32v{} + 127.0f : v;
    // |v| < 2^22: adding 1.5 * 2^23 rounds to an integer, ties to even, which its low bits hold.
    v = v + 0x1.8p23f;
    i32v bits;
    __builtin_memcpy(&bits, &v, sizeof bits);
    return __builtin_convertvector(bits - 0x4B400000, QuarterBytes);
}

// clamp(rint(x / scale), -127, 127), of a NaN -127; the default rounding mode is ties to even.
void quantise(const float* x, size_t count, float scale, int8_t* out) {
    for (; count >= kFloats; count -= kFloats, x += kFloats, out += kFloats) {
        const QuarterBytes y = quantise_floats(load_floats(x), scale);
        __builtin_memcpy(out, &y, sizeof y);
    }
    f32v rest = {};
    __builtin_memcpy(&rest, x, sizeof(float) * count);
    const QuarterBytes y = quantise_floats(rest, scale);
    __builtin_memcpy(out, &y, count);
}

void relu_bytes(const int8_t* x, size_t count, int8_t* out) {
    for (size_t i = 0; i < count; ++i) out[i] = x[i] > 0 ? x[i] : 0;
}
