// Convolution by additions: offset lists from bit planes, and sums of panel rows. Included like
// random_inl.h, after kBytes. Vectors run over output pixels only, so each pixel's additions have
// the order of docs/numerics.md.
//
// A *panel* holds what the pixels of one or more vectors read, rows of `width` floats, width =
// vectors * float_lanes. A whole block of 128 positions is 130 rows: positions 0 to 63, a row of
// zeros, positions 64 to 127, a row of zeros. A shorter block, the last one, has a row per position
// and then the row of zeros.
//
// The *offset list* of a bundle of R rows in a block is a byte n and n steps of 2 R bytes: for each
// row the panel row of the next kept positive position, then that of the next kept negative one.
// Exhausted lists go on with a row of zeros: a sum that starts from +0 is never -0, so adding +0
// changes nothing, and all 2 R sums, which do not depend on each other, share one loop.

typedef float f32v __attribute__((vector_size(kBytes)));
constexpr uint32_t kFloats = kBytes / 4;

inline f32v load_floats(const float* p) {
    f32v v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}

inline void store_floats(float* p, f32v v) { __builtin_memcpy(p, &v, sizeof v); }

inline uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

// The n of the bundle's list: the longest of the positive and negative lists of its rows.
uint32_t list_steps(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows) {
    uint32_t most = 0;
    for (uint32_t r = 0; r < rows; ++r, kept += row_words, sign += row_words) {
        const uint32_t all =
            uint32_t(__builtin_popcountll(kept[0]) + __builtin_popcountll(kept[1]));
        const uint32_t minus =
            uint32_t(__builtin_popcountll(sign[0]) + __builtin_popcountll(sign[1]));
        most = larger(most, larger(minus, all - minus));
    }
    return most;
}

// The word's number of trailing zeros, 64 for 0: one instruction or two, where a compiler left to
// itself would branch.
inline uint32_t trailing_zeros(uint64_t bits) {
#if defined(__x86_64__)
    return uint32_t(_tzcnt_u64(bits));
#else
    uint64_t reversed;
    __asm__("rbit %0, %1" : "=r"(reversed) : "r"(bits));
    __asm__("clz %0, %1" : "=r"(reversed) : "r"(reversed));
    return uint32_t(reversed);
#endif
}

struct BitTable {
    uint8_t positions[256][8];
};
constexpr BitTable make_bit_table() {
    BitTable table{};
    for (int bits = 0; bits < 256; ++bits) {
        for (int i = 0, n = 0; i < 8; ++i) {
            if (bits >> i & 1) table.positions[bits][n++] = uint8_t(i);
        }
    }
    return table;
}
constexpr BitTable kBitTable = make_bit_table();

// The positions of a word's set bits, plus `first`; writes up to 8 entries behind them.
inline uint8_t* list_bits(uint64_t bits, uint32_t first, uint8_t* out) {
    uint64_t begin = first * 0x0101010101010101u;
#pragma GCC unroll 8
    for (uint32_t i = 0; i < 8; ++i, begin += 0x0808080808080808u) {
        const uint32_t byte = uint8_t(bits >> 8 * i);
        uint64_t eight;  // little-endian machines only
        __builtin_memcpy(&eight, kBitTable.positions[byte], 8);
        eight += begin;  // no carry: a position is below 256
        __builtin_memcpy(out, &eight, 8);
        out += __builtin_popcount(byte);
    }
    return out;
}

// The same for words of few bits; writes up to 4 entries behind them.
inline uint8_t* list_few_bits(uint64_t bits, uint32_t first, uint8_t* out) {
    uint8_t* at = out;
    out += __builtin_popcountll(bits);
#pragma GCC unroll 4
    for (uint32_t i = 0; i < 4; ++i, bits &= bits - 1)  // without a branch
        *at++ = uint8_t(first + trailing_zeros(bits));
    for (; __builtin_expect(bits != 0, 0); bits &= bits - 1)
        *at++ = uint8_t(first + trailing_zeros(bits));
    return out;
}

typedef uint8_t ListBytes __attribute__((vector_size(16)));

// The list of `rows` rows as a bundle of kLists / 2: first the lists one by one, filled up with the
// row of zeros, then step by step. The second word's positions begin at panel row `second`. kFew: at
// most kFewSteps steps.
constexpr uint32_t kFewSteps = 10;
template <uint32_t kLists, bool kFew>
void list_rows(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
               uint32_t second, uint8_t zeros, uint32_t steps, uint8_t* out) {
    uint8_t lists[kLists][kFew ? 32 : 128 + 64];
    for (uint32_t i = 0; i < kLists; ++i) __builtin_memset(lists[i], zeros, sizeof lists[i]);
    for (uint32_t r = 0; r < rows; ++r, kept += row_words, sign += row_words) {
        const auto list = [&](uint64_t first_word, uint64_t second_word, uint8_t* to) {
            const auto add = kFew ? list_few_bits : list_bits;
            to = add(second_word, second, add(first_word, 0, to));
            __builtin_memset(to, zeros, 8);  // what stands behind the last one
        };
        list(kept[0] & ~sign[0], kept[1] & ~sign[1], lists[2 * r]);
        list(sign[0], sign[1], lists[2 * r + 1]);
    }
    for (uint32_t step = 0; step < steps; step += 16, out += 16 * kLists) {
        ListBytes parts[kLists], mixed[kLists];
        for (uint32_t i = 0; i < kLists; ++i)
            __builtin_memcpy(&parts[i], lists[i] + step, sizeof parts[i]);
        for (uint32_t n = 1; n < kLists; n *= 2) {
            for (uint32_t i = 0; i < kLists / 2; ++i) {
                const ListBytes a = parts[i], b = parts[i + kLists / 2];
                mixed[2 * i] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5,
                                                       21, 6, 22, 7, 23);
                mixed[2 * i + 1] = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12,
                                                           28, 13, 29, 14, 30, 15, 31);
            }
            for (uint32_t i = 0; i < kLists; ++i) parts[i] = mixed[i];
        }
        __builtin_memcpy(out, parts, sizeof parts);
    }
}

// Writes the list (without the byte n) of `rows` rows as a bundle of `bundle`, in a block of
// `positions`. May write up to kListPadding bytes behind the list.
void list_bundle(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
                 uint32_t bundle, uint32_t positions, uint32_t steps, uint8_t* out) {
    const uint32_t second = positions == 128 ? 65 : 64;
    const uint8_t zeros = uint8_t(positions == 128 ? 64 : positions);
    const bool few = steps <= kFewSteps;
    const auto list = bundle == 1   ? few ? list_rows<2, true> : list_rows<2, false>
                      : bundle == 2 ? few ? list_rows<4, true> : list_rows<4, false>
                      : few         ? list_rows<8, true>
                                    : list_rows<8, false>;
    list(kept, sign, row_words, rows, second, zeros, steps, out);
}

// A compiler left to itself puts additions to one sum side by side, where each waits for the one
// before, or adds up loads first, which takes half as many instructions more.
template <class V>
inline V in_order(V sum) {
#if defined(__x86_64__)
    __asm__("" : "+v"(sum));
#elif defined(__aarch64__)
    __asm__("" : "+w"(sum));
#endif
    return sum;
}

// Adds the panel rows that kCount entries of a list name to the sums, whose turn it is in a cycle.
// The entries are loaded as one number: a processor that loads two vectors a cycle, and adds them
// as fast, has no load to spare for each of them.
template <uint32_t kCount, uint32_t kSums, uint32_t kVectors>
inline const uint8_t* add_rows(const uint8_t* list, const float* block,
                               f32v (&sums)[kSums][kVectors]) {
    uint64_t entries = 0;
    __builtin_memcpy(&entries, list, kCount);
#pragma GCC unroll 8
    for (uint32_t i = 0; i < kCount; ++i) {
        const float* row = block + size_t(uint8_t(entries >> 8 * i)) * (kVectors * kFloats);
#pragma GCC unroll 4
        for (uint32_t v = 0; v < kVectors; ++v) {
            f32v& sum = sums[i % kSums][v];
            sum = in_order(sum + load_floats(row + v * kFloats));
        }
    }
    return list + kCount;
}

// One block of `bundles` bundles of kRows rows: acc [bundles * kRows][width] += plus sums - minus
// sums, or where kFirst +0 plus that. Returns the end of the lists.
template <uint32_t kRows, uint32_t kVectors, bool kFirst>
const uint8_t* accumulate(const uint8_t* list, uint32_t bundles, const float* block, float* acc) {
    constexpr uint32_t kWidth = kVectors * kFloats, kSums = 2 * kRows;
    for (; bundles; --bundles, acc += kRows * kWidth) {
        f32v sums[kSums][kVectors] = {};  // of each row, plus and minus
        const uint32_t entries = kSums * *list++;
        for (uint32_t turns = entries / 8; turns; --turns) list = add_rows<8>(list, block, sums);
        if (entries & 4) list = add_rows<4>(list, block, sums);
        if (kSums == 2 && entries & 2) list = add_rows<2>(list, block, sums);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
            for (uint32_t v = 0; v < kVectors; ++v) {
                float* at = acc + (r * kVectors + v) * kFloats;
                const f32v before = kFirst ? f32v{} : load_floats(at);
                store_floats(at, before + (sums[2 * r][v] - sums[2 * r + 1][v]));
            }
        }
    }
    return list;
}

template <bool kFirst>
const uint8_t* accumulate_bundles(const uint8_t* list, uint32_t bundles, uint32_t bundle,
                                  uint32_t vectors, const float* block, float* acc) {
    const auto add = bundle == 4    ? accumulate<4, 1, kFirst>
                     : bundle == 2  ? accumulate<2, 2, kFirst>
                     : vectors == 4 ? accumulate<1, 4, kFirst>
                     : vectors == 3 ? accumulate<1, 3, kFirst>
                                    : accumulate<1, 2, kFirst>;
    return add(list, bundles, block, acc);
}

const uint8_t* accumulate_lists(const uint8_t* list, uint32_t bundles, uint32_t bundle,
                                uint32_t vectors, const float* block, bool first, float* acc) {
    const auto add = first ? accumulate_bundles<true> : accumulate_bundles<false>;
    return add(list, bundles, bundle, vectors, block, acc);
}

// A vector of kSize floats; its floats 0, 2, 4, ... and those of a second one, which begins one
// float before the end of the first.
template <uint32_t kSize>
struct Floats;
template <>
struct Floats<4> {
    typedef float V __attribute__((vector_size(16)));
    static V every_second(V a, V b) { return __builtin_shufflevector(a, b, 0, 2, 5, 7); }
};
#if defined(__AVX2__)
template <>
struct Floats<8> {
    typedef float V __attribute__((vector_size(32)));
    static V every_second(V a, V b) {
        return __builtin_shufflevector(a, b, 0, 2, 4, 6, 9, 11, 13, 15);
    }
};
#endif
#if defined(__AVX512F__)
template <>
struct Floats<16> {
    typedef float V __attribute__((vector_size(64)));
    static V every_second(V a, V b) {
        return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29,
                                       31);
    }
};
#endif

template <uint32_t kSize, uint32_t kStride>
inline void copy_piece(const float* from, float* to) {
    if constexpr (kStride == 1) {
        __builtin_memcpy(to, from, 4 * kSize);
    } else {
        typename Floats<kSize>::V a, b;
        __builtin_memcpy(&a, from, sizeof a);
        __builtin_memcpy(&b, from + kSize - 1, sizeof b);
        a = Floats<kSize>::every_second(a, b);
        __builtin_memcpy(to, &a, sizeof a);
    }
}

// What a panel row copies, in pieces of kSize floats kStride apart: their places.
template <uint32_t kSize, uint32_t kStride>
struct Pieces {
    uint32_t count = 0;
    uint32_t from[64], to[64];  // a panel row has 64 floats at most

    // A run of kSize pixels or more; its last two pieces may overlap.
    void add_run(const Run& run, uint32_t to_at) {
        for (uint32_t j = 0; j < run.length; j += kSize) {
            const uint32_t at = j + kSize <= run.length ? j : run.length - kSize;
            from[count] = run.from + at * kStride;
            to[count++] = to_at + at;
        }
    }
    void copy(const float* image, float* row) const {
        for (uint32_t i = 0; i < count; ++i)
            copy_piece<kSize, kStride>(image + from[i], row + to[i]);
    }
    // The rows of four pieces, whose places stay in registers.
    void copy_fours(const float* image, const uint32_t* offsets, uint32_t rows, uint32_t width,
                    float* row) const {
        size_t place[4], at[4];
        for (uint32_t i = 0; i < 4; ++i) place[i] = from[i], at[i] = to[i];
        for (uint32_t j = 0; j < rows; ++j, row += width) {
            const float* pixels = image + offsets[j];
#pragma GCC unroll 4
            for (uint32_t i = 0; i < 4; ++i)
                copy_piece<kSize, kStride>(pixels + place[i], row + at[i]);
        }
    }
};

// The pieces of all runs; single pixels where `stride` is not kStride or a run is short.
template <uint32_t kStride>
void gather_pieces(const float* image, const uint32_t* offsets, uint32_t positions, const Run* runs,
                   uint32_t count, uint32_t stride, uint32_t width, float* block) {
    Pieces<kFloats, kStride> vectors;
    Pieces<4, kStride> fours;
    Pieces<1, 1> pixels;
    uint32_t filled = 0;
    for (uint32_t i = 0; i < count; filled += runs[i].length, ++i) {
        if (stride == kStride && runs[i].length >= kFloats) {
            vectors.add_run(runs[i], filled);
        } else if (stride == kStride && runs[i].length >= 4) {
            fours.add_run(runs[i], filled);
        } else {
            for (uint32_t j = 0; j < runs[i].length; ++j)
                pixels.add_run({runs[i].from + j * stride, 1}, filled + j);
        }
    }
    const bool four = filled == width && pixels.count == 0 && vectors.count + fours.count == 4;
    const uint32_t part = positions == 128 ? 64 : positions;  // each with a row of zeros behind
    for (; positions; positions -= part, offsets += part, block += (part + 1) * width) {
        for (uint32_t j = 0; j < width; ++j) block[part * width + j] = 0;
        if (four && vectors.count == 4) {
            vectors.copy_fours(image, offsets, part, width, block);
        } else if (four && fours.count == 4) {
            fours.copy_fours(image, offsets, part, width, block);
        } else {
            for (uint32_t i = 0; i < part; ++i) {
                const float* from = image + offsets[i];
                float* to = block + i * width;
                vectors.copy(from, to);
                fours.copy(from, to);
                pixels.copy(from, to);
                for (uint32_t j = filled; j < width; ++j) to[j] = 0;
            }
        }
    }
}

// Fills a block of a panel of `width` floats: the row of position i takes, for each run in order,
// `length` pixels `stride` apart from image + offsets[i] + run.from; what the runs leave of the row
// is zeroed.
void gather_block(const float* image, const uint32_t* offsets, uint32_t positions, const Run* runs,
                  uint32_t count, uint32_t stride, uint32_t width, float* block) {
    const auto gather = stride == 2 ? gather_pieces<2> : gather_pieces<1>;
    gather(image, offsets, positions, runs, count, stride, width, block);
}

// out = x * scale + shift (two roundings; no shift: null), then max(., 0) where relu.
void scale_shift(const float* x, size_t count, float scale, const float* shift, bool relu,
                 float* out) {
    for (size_t i = 0; i < count; ++i) {
        float y = x[i] * scale;
        if (shift) y = y + *shift;
        out[i] = relu && !(y > 0) ? 0.0f : y;
    }
}

template <bool kRelu>
inline void store_row(const float* sums, size_t count, float scale, float shift, float* out) {
    size_t i = 0;
    for (; i + kFloats <= count; i += kFloats) {
        const f32v y = load_floats(sums + i) * scale + shift;
        store_floats(out + i, kRelu ? y > 0 ? y : f32v{} : y);
    }
    for (; i < count; ++i) {
        const float y = sums[i] * scale + shift;
        out[i] = kRelu && !(y > 0) ? 0.0f : y;
    }
}

// scale_shift of `count` sums of each of `rows` rows, `width` apart, to rows `stride` apart; scale
// null: the sums.
void store_rows(const float* sums, size_t width, uint32_t rows, size_t count, const float* scale,
                const float* shift, bool relu, float* out, size_t stride) {
    for (uint32_t row = 0; row < rows; ++row, sums += width, out += stride) {
        if (!scale) {
            __builtin_memcpy(out, sums, sizeof(float) * count);
            continue;
        }
        const float add = shift ? shift[row] : -0.0f;  // which changes no number
        if (relu) {
            store_row<true>(sums, count, scale[row], add, out);
        } else {
            store_row<false>(sums, count, scale[row], add, out);
        }
    }
}

void add_floats(const float* a, const float* b, size_t count, bool relu, float* out) {
    for (size_t i = 0; i < count; ++i) {
        const float y = a[i] + b[i];
        out[i] = relu && !(y > 0) ? 0.0f : y;
    }
}

void relu_floats(const float* x, size_t count, float* out) {
    for (size_t i = 0; i < count; ++i) out[i] = x[i] > 0 ? x[i] : 0.0f;
}
