// Frequencies of mask bits from the planes of the initial scores (docs/format.md, section 5).
// Included after random_inl.h and the primitives
//   FrequencyTable, FrequencyTable frequency_table(const uint16_t f[16])
//   void store_frequencies(const FrequencyTable&, const uint32_t index[4], uint16_t* out)
//     out[i] = f[n] for the 32 numbers n of which bit i of index[b] is bit b
//
// The number v of an ordinal is never formed. The planes are compared with the starts of the
// intervals bit by bit, for as many ordinals as a vector has bits, which gives an interval's number
// in four planes; its frequency is then one look-up in 16 entries, which a register holds.
// Decoding one tile by it, against a gather from 512 entries by v, Gbit/s of one Zen 5 core with 16
// intervals: AVX-512 2.99 and 1.77 with 4 planes, 2.71 and 1.50 with 8; AVX2 2.07 and 1.13, 1.72
// and 0.75.

constexpr size_t kPieceBlocks = 32;
constexpr size_t kPieceOrdinals = 128 * kPieceBlocks;  // its planes fit a first-level cache
constexpr size_t kPieceVectors = 16 * kPieceBlocks / kBytes;
constexpr size_t kRun = 4;  // vectors compared at a time
constexpr uint32_t kMaxBits = 9;

struct ScorePiece {
    u64v planes[kMaxBits][kPieceVectors];  // most significant first
    u64v index[4][kPieceVectors];          // the interval's number, least significant first
};

// The interval's number of each ordinal: the count of starts that v reaches. Bit b of that count is
// the parity of how many multiples of 2^b it reaches.
inline void number_intervals(const Densities& densities, ScorePiece& piece) {
    const uint32_t bits = densities.planes + densities.sign;
    for (size_t at = 0; at < kPieceVectors; at += kRun) {
        u64v index[4][kRun] = {};
        for (uint32_t i = 1; i < densities.count; ++i) {
            // From the lowest set bit of the start up: below it any v does.
            uint32_t bit = uint32_t(__builtin_ctz(densities.start[i]));
            u64v reaches[kRun];
            for (size_t k = 0; k < kRun; ++k) reaches[k] = piece.planes[bits - 1 - bit][at + k];
            while (++bit < bits) {
                const u64v* v = piece.planes[bits - 1 - bit] + at;
                if (densities.start[i] >> bit & 1) {
                    for (size_t k = 0; k < kRun; ++k) reaches[k] &= v[k];
                } else {
                    for (size_t k = 0; k < kRun; ++k) reaches[k] |= v[k];
                }
            }
            for (uint32_t b = 0; b < 4 && i % (1u << b) == 0; ++b) {
                for (size_t k = 0; k < kRun; ++k) index[b][k] ^= reaches[k];
            }
        }
        for (uint32_t b = 0; b < 4; ++b) {
            for (size_t k = 0; k < kRun; ++k) piece.index[b][at + k] = index[b][k];
        }
    }
}

// Interval numbers of the ordinals of kPieceBlocks blocks: bit i of words[w][b] is bit b of the
// number of ordinal 32 w + i.
struct IntervalNumbers {
    uint32_t words[4 * kPieceBlocks][4];
};

// Of `blocks` <= kPieceBlocks blocks; behind them anything.
inline void number_piece(const Plane& scores, const Densities& densities, uint32_t block0,
                         size_t blocks, IntervalNumbers& numbers) {
    ScorePiece piece;
    Plane address = scores;
    uint32_t row = 0;
    for (; row < densities.planes; ++row) {
        address.plane = row;
        plane(address, block0, blocks, piece.planes[row]);
    }
    if (densities.sign) {
        address.plane = kSignPlane;
        plane(address, block0, blocks, piece.planes[row++]);
    }
    // Comparing goes over whole pieces; what lies behind the blocks is not used, but is read.
    for (uint32_t i = 0; blocks < kPieceBlocks && i < row; ++i) {
        __builtin_memset(reinterpret_cast<char*>(piece.planes[i]) + 16 * blocks, 0,
                         16 * (kPieceBlocks - blocks));
    }
    number_intervals(densities, piece);
    uint32_t index[4][4 * kPieceBlocks];
    __builtin_memcpy(index, piece.index, sizeof index);
    for (size_t word = 0; word < 4 * kPieceBlocks; ++word) {
        for (uint32_t b = 0; b < 4; ++b) numbers.words[word][b] = index[b][word];
    }
}

void frequencies(const Plane& scores, const Densities& densities, uint32_t block0, size_t blocks,
                 uint16_t* out) {
    const FrequencyTable table = frequency_table(densities.f);
    IntervalNumbers numbers;
    for (size_t block = 0; block < blocks; block += kPieceBlocks) {
        const size_t count = blocks - block < kPieceBlocks ? blocks - block : kPieceBlocks;
        number_piece(scores, densities, uint32_t(block0 + block), count, numbers);
        for (size_t word = 0; word < 4 * count; ++word)
            store_frequencies(table, numbers.words[word], out + 128 * block + 32 * word);
    }
}
