// The table of functions that exist once per instruction set (ISA).
//
// ops_avx2.cpp, ops_avx512.cpp and ops_neon.cpp are compiled with flags of their own and include
// the shared algorithms (*_inl.h) in a namespace of their own; ops_scalar.cpp is the slow twin that
// they are tested against. This header and all *_inl.h must hold no inline function with external
// linkage and use no standard library template: the linker could keep the copy compiled for AVX-512
// and hand it to a machine without.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace slt {

enum class Generator : uint32_t { philox4x32, threefry4x32 };

// One plane of random bits (docs/format.md, section 1): all of the counter but the block.
struct Plane {
    Generator generator;
    uint32_t rounds;
    uint64_t seed;
    uint32_t stream, layer, generation, plane;
};

// Where the planes of a freeze pattern come from (docs/format.md, section 3).
enum class FreezeLaw : uint32_t { bernoulli, mixed };

// The freeze pattern of a layer: `bits` planes of stream 1, thresholds in 2^bits.
struct FreezePattern {
    Generator generator;
    uint32_t rounds;
    uint64_t seed;
    FreezeLaw law;
    uint32_t layer, bits, prune, lock;
};

// How likely a mask bit is to be 1 (docs/format.md, section 5): v is formed by `planes` planes of
// the initial score (at most 8) and, where `sign`, its sign; in interval i, which begins at
// start[i], it is f[i] of 4096. A static layer has one interval, and no planes. start[0] = 0,
// ascending below 2^(planes + sign); f in [1, 4095].
struct Densities {
    uint32_t planes;
    bool sign;
    uint32_t count;  // intervals, 1 to 16
    uint16_t start[16], f[16];
};
constexpr uint32_t kScoreStream = 2, kSignPlane = 16;

enum class TileFault : int { none, start_state, words_short, final_state, words_left, pad_bits };

// Bytes that must be readable (whatever they are) behind a payload given to decode: vector
// loads may touch them, but no word beyond the tile's own is ever used.
constexpr size_t kPayloadPadding = 64;
// Words that must be readable behind the mask bits given to deposit.
constexpr size_t kMaskPadding = 3;

// Tiles that Ops::decode works on side by side.
constexpr size_t kTilesTogether = 2;

// One tile for Ops::decode: a payload of `words` 16-bit words covers the ordinals [first, last),
// first < last <= 2^32. Decoding writes the words first div 32 ... (last - 1) div 32 to out, bits
// outside the tile zero, and sets fault; what is in out after a fault is of no use.
struct TileJob {
    const uint8_t* payload;
    size_t words;
    uint64_t first, last;
    uint32_t* out;
    TileFault fault;
};

// A run of output pixels whose inputs are `length` floats, a stride apart, from `from`.
struct Run {
    uint32_t from, length;
};

// Bytes behind an offset list that list_bundle may write.
constexpr size_t kListPadding = 128;
// Bytes behind a tile, and behind what it is copied from, that gather_quads may touch.
constexpr size_t kTilePadding = 64;
// Panel rows of a whole block, two of them zeros.
constexpr uint32_t kBlockRows = 130;

// Unit lists (int8_inl.h): positions of a block in lists of bytes, and in wide ones, of uint16;
// kept weights whose sum int16 holds; rows that have lists together at most.
constexpr uint32_t kNarrowBlock = 256, kWideBlock = 1024, kNarrowKept = 258, kUnitRows = 128;
// Words of bits whose kept weights' sum int16 holds, 256 at most, and panel rows of a word.
constexpr uint32_t kWordBlock = 4, kWordRows = 65;
// Bytes behind images and panels that gather_bytes may touch.
constexpr size_t kGatherSlack = 64;
// The positions of a row of weights of one channel (depthwise.cpp): where in the planes each of
// them has its first pixel.
constexpr uint32_t kMostTaps = 128;
struct Taps {
    uint32_t count;
    uint32_t at[kMostTaps];
};
// Numbers behind planes and sums that sum_taps and copy_phase_bytes may touch.
constexpr size_t kTapSlack = 128;
// What bounds a kernel: lanes added, in registers or with an operand from memory,
// multiply-accumulates of bytes, bytes loaded.
enum class PeakLoop { add_f32, add_i16, add_load_f32, add_load_i16, dot, load };
// Of a buffer that lies in any first-level cache; any buffer is a multiple of it.
constexpr size_t kPeakL1Bytes = size_t{12} << 10;

// What gives one output channel's int8 value in 32 bits (int8.cpp proves it exact): with a =
// clamp(acc, lo, hi), clamp((a * m + r * m_r + c) >> s, low, 127), products and sums modulo 2^32.
struct RequantiseChannel {
    int32_t lo, hi, m, m_r, c;
    uint32_t s;
    int32_t low;
};

struct Ops {
    const char* name;

    // out[4 * i ...] = the generator's words for counters[4 * i ...] and keys[4 * i ...] (two used
    // by Philox).
    void (*words)(Generator generator, uint32_t rounds, size_t count, const uint32_t* counters,
                  const uint32_t* keys, uint32_t* out);

    // The 16 bytes of each of the blocks block0 ... block0 + blocks - 1 of the plane, in index
    // order.
    void (*plane)(const Plane& plane, uint32_t block0, size_t blocks, void* out);

    // Free and locked bits of the positions of `blocks` blocks (2 words each), padding not treated.
    void (*freeze)(const FreezePattern& pattern, uint32_t block0, size_t blocks, uint64_t* free,
                   uint64_t* locked);

    // Replaces each set bit of free[0..words) by the next mask bit, starting at bit `start` of
    // mask; clear bits stay clear. Returns the bit behind the last one read. Reads up to
    // kMaskPadding words further.
    uint64_t (*deposit)(uint64_t* free, size_t words, const uint32_t* mask, uint64_t start);

    // Set bits of words[0..count).
    uint64_t (*count_bits)(const uint64_t* words, size_t count);

    // f of the ordinals of `blocks` blocks of 128, from block0 on; `scores` is stream 2 of the
    // layer.
    void (*frequencies)(const Plane& scores, const Densities& densities, uint32_t block0,
                        size_t blocks, uint16_t* out);

    // Decodes `count` static or prior tiles of 32 lanes of one layer (docs/format.md, section 5),
    // kTilesTogether side by side, which hides latencies: give it as many where there are. Any
    // payload is safe.
    void (*decode)(TileJob* jobs, size_t count, const Plane& scores, const Densities& densities);

    // ---- kernels of the runtime; conv_inl.h says what panels and offset lists are ----

    uint32_t float_lanes;  // floats of a vector

    // Steps of the list of `rows` rows in one block of 128 positions; kept and sign point to the
    // first row's two words of the block, the next row's are row_words further.
    uint32_t (*list_steps)(const uint64_t* kept, const uint64_t* sign, size_t row_words,
                           uint32_t rows);

    // Writes that list, 2 * bundle * steps bytes, and anything up to kListPadding bytes behind it.
    // rows <= bundle; positions is 128, or less in the last block.
    void (*list_bundle)(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
                        uint32_t bundle, uint32_t positions, uint32_t steps, uint8_t* out);

    // Adds one block to acc [bundles * bundle][vectors] by the lists of its bundles, or where it is
    // the first one sets acc to what it gives; returns the lists' end. bundle is 1, 2 or 4; vectors
    // is 4 / bundle, or with bundles of one row 2, 3 or 4.
    const uint8_t* (*accumulate_lists)(const uint8_t* list, uint32_t bundles, uint32_t bundle,
                                       uint32_t vectors, const float* block, bool first,
                                       float* acc);

    // Copies pixels into a block of a panel, of `positions` positions: the row of position i takes
    // the runs, in order, of image + offsets[i], zeros behind them.
    void (*gather_block)(const float* image, const uint32_t* offsets, uint32_t positions,
                         const Run* runs, uint32_t count, uint32_t stride, uint32_t width,
                         float* block);

    // scale_shift of `count` sums of each of `rows` rows, `width` apart, to rows `stride` apart,
    // with a scale and shift of each row; scale null: the sums.
    void (*store_rows)(const float* sums, size_t width, uint32_t rows, size_t count,
                       const float* scale, const float* shift, bool relu, float* out,
                       size_t stride);

    // sums[r] = the product of row r with x (whose length is columns rounded up to 16) in 16 lanes.
    void (*linear)(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
                   uint32_t columns, const float* x, float* sums);

    // out = x * scale + *shift, two roundings (shift null: x * scale); then max(., 0) where relu.
    // In place allowed.
    void (*scale_shift)(const float* x, size_t count, float scale, const float* shift, bool relu,
                        float* out);
    void (*add_floats)(const float* a, const float* b, size_t count, bool relu, float* out);
    void (*relu_floats)(const float* x, size_t count, float* out);

    // As fast as the machine can, and what comes out is of no use: the operations of `rounds`
    // rounds, each over the whole buffer where the loop reads one. Gives their number.
    uint64_t (*peak_loop)(PeakLoop loop, uint64_t rounds, const uint8_t* buffer, size_t bytes);

    // ---- int8; int8_inl.h says what panels and unit lists are ----

    uint32_t short_lanes;  // int16 of a vector

    // Copies pixels into rows of a panel of int16: row i takes the runs, in order, of image +
    // offsets[i]; what stands behind them is anything. May read kGatherSlack bytes behind the
    // pixels and write as many behind the rows.
    void (*gather_bytes)(const int8_t* image, const uint32_t* offsets, uint32_t rows,
                         const Run* runs, uint32_t count, uint32_t stride, uint32_t width,
                         int16_t* to);

    // Writes the unit lists of a block of `words` words of each of `rows` rows, and anything up to
    // kListPadding bytes behind; returns their end. since[row]: kept weights since the sums were
    // last widened.
    uint8_t* (*list_units)(const uint64_t* kept, const uint64_t* sign, size_t row_words,
                           uint32_t rows, uint32_t words, bool wide, uint16_t* since, uint8_t* out);

    // Sums [rows][vectors] of a panel of 1, 2 or 4 vectors by the unit lists of `blocks` blocks:
    // true where they are in wide_sums, false where int16 holds them and they are in sums.
    bool (*sum_units)(const uint8_t* lists, bool wide, uint32_t blocks, const int16_t* panel,
                      uint32_t vectors, uint32_t rows, int16_t* sums, int32_t* wide_sums);

    // Adds to sums [rows][short_lanes] those of kWordBlock words or fewer of each row, without lists.
    // panel has one vector for each position and, behind those of each word, one of zeros.
    void (*sum_words)(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
                      uint32_t words, const int16_t* panel, int32_t* sums);

    // sums[image * sums_stride + row]; an image of x has 64 * row_words bytes, `x_stride` apart.
    void (*linear_bytes)(const uint64_t* kept, const uint64_t* sign, size_t row_words,
                         uint32_t rows, const int8_t* x, size_t x_stride, size_t images,
                         int32_t* sums, size_t sums_stride);

    // `rows` rows of `count` sums to int8; out and residual (null: r = 0) go on after `stride`, the
    // channel by channel_step, 0 or 1.
    void (*requantise)(const int32_t* sums, size_t sums_stride, const int8_t* residual,
                       size_t stride, uint32_t rows, size_t count, const RequantiseChannel* channel,
                       size_t channel_step, int8_t* out);
    void (*requantise_shorts)(const int16_t* sums, size_t sums_stride, const int8_t* residual,
                              size_t stride, uint32_t rows, size_t count,
                              const RequantiseChannel* channel, size_t channel_step, int8_t* out);
    // clamp(rint(x / scale), -127, 127), ties to even; x not NaN.
    void (*quantise)(const float* x, size_t count, float scale, int8_t* out);
    void (*relu_bytes)(const int8_t* x, size_t count, int8_t* out);

    // ---- dot kernels (dot.cpp); dot_inl.h says what quads and tiles are ----

    uint8_t dot_offset;   // what activations in tiles have added to them
    uint32_t dot_pixels;  // pixels of a vector of a tile

    // Bytes +1, -1 and 0 of the positions of `words` words of bit planes, 64 of each; gives their
    // sum.
    int64_t (*unpack_signs)(const uint64_t* kept, const uint64_t* sign, size_t words, int8_t* out);

    // to[4 j + c] = planes[c][j] + dot_offset, for c < 4, j < count.
    void (*interleave_channels)(const int8_t* const* planes, size_t count, uint8_t* to);

    // Copies pixels of four bytes, two vectors at most, into quads `quad_bytes` apart: quad i takes
    // the runs, in order, of image + 4 * offsets[i]; what stands behind them is anything. May read
    // and write up to kTilePadding bytes behind what it is given.
    void (*gather_quads)(const uint8_t* image, const uint32_t* offsets, uint32_t quads,
                         const Run* runs, uint32_t count, uint32_t stride, size_t quad_bytes,
                         uint8_t* tile);

    // sums[r * sums_stride + pixel] = start[r] + the products of the row at weights + r *
    // row_bytes, 4 * quads bytes, with the pixels of a tile of 1 or 2 vectors.
    void (*dot_tile)(const int8_t* weights, size_t row_bytes, uint32_t rows, const uint8_t* tile,
                     uint32_t quads, uint32_t vectors, const int32_t* start, int32_t* sums,
                     size_t sums_stride);

    // sums[r * sums_stride + c] = start[r] + the products of a row with column c, at columns + c *
    // column_bytes. Reads `bytes` rounded up to 64 of each, zeros of the rows' behind `bytes`.
    void (*dot_columns)(const int8_t* weights, size_t row_bytes, uint32_t rows,
                        const uint8_t* columns, size_t column_bytes, uint32_t count, size_t bytes,
                        const int32_t* start, int32_t* sums, size_t sums_stride);

    // ---- one channel a group (depthwise.cpp) ----

    // Row i of `rows` takes `count` pixels `stride` apart from `from` + i * from_pitch. Of bytes up
    // to 7 zeros may be written behind a row, before the next one.
    void (*copy_phase)(const float* from, size_t from_pitch, uint32_t rows, uint32_t count,
                       uint32_t stride, float* to, size_t to_pitch);
    void (*copy_phase_bytes)(const int8_t* from, size_t from_pitch, uint32_t rows, uint32_t count,
                             uint32_t stride, int16_t* to, size_t to_pitch);

    // sums [rows][columns]: of row r and column c, the sum over the kept positions, two words of
    // bits, of +-planes[tap + r * pitch + c]. flat: scratch for rows * pitch.
    void (*sum_taps)(const float* planes, const Taps& taps, const uint64_t* kept,
                     const uint64_t* sign, uint32_t rows, uint32_t pitch, uint32_t columns,
                     float* flat, float* sums);
    void (*sum_taps_shorts)(const int16_t* planes, const Taps& taps, const uint64_t* kept,
                            const uint64_t* sign, uint32_t rows, uint32_t pitch, uint32_t columns,
                            int16_t* flat, int16_t* sums);
};

// Dot kernels of an extension of an instruction set, which take the place of those in its table.
struct DotKernels {
    decltype(Ops::dot_tile) tile;
    decltype(Ops::dot_columns) columns;
};

extern const Ops scalar_ops;
#if defined(__x86_64__)
extern const Ops avx2_ops, avx512_ops;
extern const DotKernels avx512vnni_kernels;
#elif defined(__aarch64__)
extern const Ops neon_ops;
extern const DotKernels neondot_kernels;
#endif

}  // namespace slt
