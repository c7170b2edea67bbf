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

// Panel rows of the set bits of half a block, which begins at row `first`, into bytes `stride`
// apart. The first kAhead bytes are written without a branch: those behind the last bit name row
// first + 64, one of zeros.
inline uint8_t* list_word(uint64_t bits, uint32_t first, uint8_t* out, size_t stride) {
    constexpr uint32_t kAhead = 6;
    uint8_t* end = out + size_t(__builtin_popcountll(bits)) * stride;
#pragma GCC unroll 6
    for (uint32_t i = 0; i < kAhead; ++i, out += stride) {
        *out = uint8_t(first + trailing_zeros(bits));
        bits &= bits - 1;
    }
    for (; __builtin_expect(bits != 0, 0); bits &= bits - 1, out += stride) {
        *out = uint8_t(first + trailing_zeros(bits));
    }
    return end;
}

inline void fill_bytes(uint8_t* out, size_t size, uint8_t value) {
    for (size_t i = 0; i < size; i += 64) __builtin_memset(out + i, value, 64);
}

template <size_t kStride>
inline void list_whole(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
                       uint32_t steps, uint8_t* out) {
    fill_bytes(out, steps * kStride, 64);
    for (uint32_t r = 0; r < rows; ++r, kept += row_words, sign += row_words, out += 2) {
        uint8_t* plus = list_word(kept[0] & ~sign[0], 0, out, kStride);
        uint8_t* minus = list_word(sign[0], 0, out + 1, kStride);
        list_word(kept[1] & ~sign[1], 65, plus, kStride);
        list_word(sign[1], 65, minus, kStride);
    }
}

inline void list_short(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
                       uint32_t bundle, uint32_t positions, uint32_t steps, uint8_t* out) {
    const size_t stride = 2 * size_t(bundle);
    fill_bytes(out, steps * stride, uint8_t(positions));
    for (uint32_t r = 0; r < rows; ++r, kept += row_words, sign += row_words, out += 2) {
        uint8_t* at[2] = {out, out + 1};
        for (uint32_t half = 0; half < 2; ++half) {
            for (uint64_t bits = kept[half]; bits; bits &= bits - 1) {
                const uint32_t j = trailing_zeros(bits), minus = uint32_t(sign[half] >> j & 1);
                *at[minus] = uint8_t(64 * half + j);
                at[minus] += stride;
            }
        }
    }
}

// Writes the list (without the byte n) of `rows` rows as a bundle of `bundle`, in a block of
// `positions`. May write up to kListPadding bytes behind the list.
void list_bundle(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
                 uint32_t bundle, uint32_t positions, uint32_t steps, uint8_t* out) {
    if (positions < 128) {
        list_short(kept, sign, row_words, rows, bundle, positions, steps, out);
    } else if (bundle == 1) {
        list_whole<2>(kept, sign, row_words, rows, steps, out);
    } else if (bundle == 2) {
        list_whole<4>(kept, sign, row_words, rows, steps, out);
    } else {
        list_whole<8>(kept, sign, row_words, rows, steps, out);
    }
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
                                  const float* block, float* acc) {
    if (bundle == 1) return accumulate<1, 4, kFirst>(list, bundles, block, acc);
    if (bundle == 2) return accumulate<2, 2, kFirst>(list, bundles, block, acc);
    return accumulate<4, 1, kFirst>(list, bundles, block, acc);
}

const uint8_t* accumulate_lists(const uint8_t* list, uint32_t bundles, uint32_t bundle,
                                const float* block, bool first, float* acc) {
    return first ? accumulate_bundles<true>(list, bundles, bundle, block, acc)
                 : accumulate_bundles<false>(list, bundles, bundle, block, acc);
}

// What a panel row copies, in pieces of kSize floats; the places of the pieces.
template <uint32_t kSize>
struct Pieces {
    uint32_t count = 0;
    uint32_t from[64], to[64];  // a panel row has 64 floats at most

    void add(uint32_t from_at, uint32_t to_at) {
        from[count] = from_at;
        to[count++] = to_at;
    }
    // A run of kSize pixels or more; its last two pieces may overlap.
    void add_run(const Run& run, uint32_t to_at) {
        for (uint32_t j = 0; j < run.length; j += kSize) {
            const uint32_t at = j + kSize <= run.length ? j : run.length - kSize;
            add(run.from + at, to_at + at);
        }
    }
    void copy(const float* image, float* row) const {
        for (uint32_t i = 0; i < count; ++i)
            __builtin_memcpy(row + to[i], image + from[i], 4 * kSize);
    }
};

// Rows of four pieces: their places stay in registers.
template <uint32_t kSize>
void copy_fours(const float* image, const uint32_t* offsets, uint32_t rows,
                const Pieces<kSize>& pieces, uint32_t width, float* to) {
    size_t from[4], at[4];
    for (uint32_t i = 0; i < 4; ++i) from[i] = pieces.from[i], at[i] = pieces.to[i];
    for (uint32_t row = 0; row < rows; ++row, to += width) {
        const float* pixels = image + offsets[row];
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; ++i) __builtin_memcpy(to + at[i], pixels + from[i], 4 * kSize);
    }
}

// Fills a block of a panel of `width` floats: the row of position i takes, for each run in order,
// `length` pixels `stride` apart from image + offsets[i] + run.from; what the runs leave of the row
// is zeroed.
void gather_block(const float* image, const uint32_t* offsets, uint32_t positions, const Run* runs,
                  uint32_t count, uint32_t stride, uint32_t width, float* block) {
    Pieces<kFloats> vectors;
    Pieces<4> fours;
    Pieces<1> pixels;
    uint32_t filled = 0;
    for (uint32_t i = 0; i < count; filled += runs[i].length, ++i) {
        if (stride == 1 && runs[i].length >= kFloats) {
            vectors.add_run(runs[i], filled);
        } else if (stride == 1 && runs[i].length >= 4) {
            fours.add_run(runs[i], filled);
        } else {
            for (uint32_t j = 0; j < runs[i].length; ++j)
                pixels.add(runs[i].from + j * stride, filled + j);
        }
    }
    const bool four = filled == width && pixels.count == 0 && vectors.count + fours.count == 4;
    const uint32_t part = positions == 128 ? 64 : positions;  // each with a row of zeros behind
    for (; positions; positions -= part, offsets += part, block += (part + 1) * width) {
        for (uint32_t j = 0; j < width; ++j) block[part * width + j] = 0;
        if (four && vectors.count == 4) {
            copy_fours(image, offsets, part, vectors, width, block);
        } else if (four && fours.count == 4) {
            copy_fours(image, offsets, part, fours, width, block);
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
