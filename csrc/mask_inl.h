// Mask bits into positions, and the decoder of coded tiles. Included like random_inl.h, after
// prior_inl.h and these primitives:
//   uint64_t deposit_bits(uint64_t bits, uint64_t where)   pdep
//   Mask, Mask lanes_of(uint32_t bits), uint32_t bits_of(Mask), Mask less(u32v, u32v),
//   Mask under_16_bits(u32v), Mask both(Mask, Mask), u32v select(Mask, u32v yes, u32v no)
//   and, unless SLT_REFILL is defined and refill() below is,
//   u32v expand_words(const uint8_t* p, uint32_t bits)
//       the next 16-bit words at p, one into each lane whose bit is set; may read a word per lane
// Mask stands for one truth value per 32-bit lane.

uint64_t deposit(uint64_t* free, size_t words, const uint32_t* mask, uint64_t start) {
    for (size_t i = 0; i < words; ++i) {
        const uint32_t* at = mask + start / 32;
        const uint64_t shift = start % 32;
        uint64_t low;
        __builtin_memcpy(&low, at, 8);
        // 63 - shift and one more: a shift by 64 would not be defined.
        const uint64_t bits = low >> shift | (uint64_t(at[2]) << (63 - shift) << 1);
        start += uint64_t(__builtin_popcountll(free[i]));
        free[i] = deposit_bits(bits, free[i]);
    }
    return start;
}

uint64_t count_bits(const uint64_t* words, size_t count) {
    uint64_t total = 0;
    for (size_t i = 0; i < count; ++i) total += uint64_t(__builtin_popcountll(words[i]));
    return total;
}

#if !defined(SLT_REFILL)
// The lanes that are narrow, whose bits are set in `bits`, move up and take the next words at p.
inline u32v refill(u32v y, Mask narrow, uint32_t bits, const uint8_t* p) {
    return select(narrow, (y << 16) | expand_words(p, bits), y);
}
#endif

constexpr uint32_t kLanes32 = kBytes / 4;
constexpr uint32_t kVectors32 = 32 / kLanes32;
constexpr uint32_t kLaneMask = uint32_t((uint64_t{1} << kLanes32) - 1);

// A tile that is being decoded. Frequencies are made a piece at a time, so that they and their
// planes stay in the cache.
struct TileState {
    u32v x[kVectors32];
    size_t word;             // the next of the payload's
    uint64_t at, piece_end;  // ordinals: the next, and where the frequencies end
    uint32_t* out;           // where the word of ordinal `at` goes
    uint64_t piece_word;     // ordinal div 32 of the first of numbers
    IntervalNumbers numbers;
};

// Steps, each the 32 ordinals of an output word, of kTiles tiles side by side: one waits for
// memory and multiplications while the other works. Of each word the ordinals in `active` exist.
// Ends early with a fault where the words do. Loads stay within kPayloadPadding behind a payload
// because `word` is checked after every step.
template <size_t kTiles, bool kPrior, bool kWhole>
inline void decode_steps(TileState* const (&tiles)[kTiles], TileJob* const (&jobs)[kTiles],
                         uint64_t steps, const Densities& densities, uint32_t active) {
    typedef uint16_t u16half __attribute__((vector_size(kBytes / 2)));
    const FrequencyTable table = frequency_table(densities.f);
    alignas(64) uint16_t frequencies[kTiles][2][32];  // two, so that a step need not wait
    u32v x[kTiles][kVectors32];
    size_t word[kTiles];
    const uint8_t* payload[kTiles];
    const uint32_t (*numbers[kTiles])[4];
    for (size_t t = 0; t < kTiles; ++t) {
        __builtin_memcpy(x[t], tiles[t]->x, sizeof x[t]);
        word[t] = tiles[t]->word;
        payload[t] = jobs[t]->payload;
        numbers[t] = tiles[t]->numbers.words;
        if constexpr (kPrior) numbers[t] += tiles[t]->at / 32 - tiles[t]->piece_word;
    }
    bool enough = true;
    uint64_t step = 0;
    for (; step < steps && enough; ++step) {
#pragma GCC unroll 2
        for (size_t t = 0; t < kTiles; ++t) {
            uint16_t* of_step = frequencies[t][step % 2];
            if constexpr (kPrior) store_frequencies(table, numbers[t][step], of_step);
            uint32_t bits = 0;
#pragma GCC unroll 8
            for (uint32_t v = 0; v < kVectors32; ++v) {
                u32v f = u32v{} + densities.f[0];
                if constexpr (kPrior) {
                    u16half narrow;
                    __builtin_memcpy(&narrow, of_step + v * kLanes32, sizeof narrow);
                    f = __builtin_convertvector(narrow, u32v);
                }
                u32v& y = x[t][v];
                const u32v s = y & 4095u, scaled = (y >> 12) * f;
                Mask one = less(s, f);
                const u32v next = select(one, scaled + s, y - scaled - f);
                if constexpr (kWhole) {
                    y = next;
                } else {
                    const Mask here = lanes_of(active >> (v * kLanes32) & kLaneMask);
                    one = both(one, here);
                    y = select(here, next, y);
                }
                bits |= bits_of(one) << (v * kLanes32);
                const Mask narrow = under_16_bits(y);
                const uint32_t wants = bits_of(narrow);
                y = refill(y, narrow, wants, payload[t] + 2 * word[t]);
                word[t] += uint32_t(__builtin_popcount(wants));
            }
            tiles[t]->out[step] = bits;
            enough &= word[t] <= jobs[t]->words;
        }
    }
    for (size_t t = 0; t < kTiles; ++t) {
        __builtin_memcpy(tiles[t]->x, x[t], sizeof x[t]);
        tiles[t]->word = word[t];
        tiles[t]->out += step;
        tiles[t]->at = (tiles[t]->at / 32 + step) * 32;
        if (word[t] > jobs[t]->words) jobs[t]->fault = TileFault::words_short;
    }
}

// Whole steps that a tile can take next, once its piece and a partial step are out of the way; 0
// at its end.
template <bool kPrior>
inline uint64_t whole_steps(TileState& tile, TileJob& job, const Plane& scores,
                            const Densities& densities) {
    for (;;) {
        if (job.fault != TileFault::none || tile.at >= job.last) return 0;
        if (tile.at == tile.piece_end) {
            const uint32_t block0 = uint32_t(tile.at / 128);
            const uint64_t end = uint64_t{block0} * 128 + kPieceOrdinals;
            tile.piece_end = !kPrior || end > job.last ? job.last : end;
            if constexpr (kPrior) {
                number_piece(scores, densities, block0, (tile.piece_end - 1) / 128 - block0 + 1,
                             tile.numbers);
                tile.piece_word = uint64_t{block0} * 4;
            }
        }
        uint32_t active = ~0u << tile.at % 32;
        if (tile.at / 32 == (job.last - 1) / 32) active &= ~0u >> (31 - (job.last - 1) % 32);
        if (active == ~0u) return tile.piece_end / 32 - tile.at / 32;
        TileState* const tiles[1] = {&tile};
        TileJob* const jobs[1] = {&job};
        decode_steps<1, kPrior, false>(tiles, jobs, 1, densities, active);
    }
}

inline void begin_tile(TileState& tile, TileJob& job) {
    job.fault = job.words < 64 ? TileFault::words_short : TileFault::none;
    if (job.fault != TileFault::none) return;
    // Little-endian machines only: low word, then high word.
    __builtin_memcpy(tile.x, job.payload, sizeof tile.x);
    for (uint32_t v = 0; v < kVectors32; ++v) {
        if (bits_of(under_16_bits(tile.x[v]))) job.fault = TileFault::start_state;
    }
    tile.word = 64;
    tile.at = tile.piece_end = job.first;
    tile.out = job.out;
}

inline void end_tile(const TileState& tile, TileJob& job) {
    if (job.fault != TileFault::none) return;
    uint32_t states[32];
    __builtin_memcpy(states, tile.x, sizeof states);
    for (uint32_t lane = 0; lane < 32; ++lane) {
        if (states[lane] != 0x10000u) job.fault = TileFault::final_state;
    }
    if (job.fault == TileFault::none && tile.word != job.words) job.fault = TileFault::words_left;
}

template <bool kPrior>
void decode_tiles(TileJob* jobs, size_t count, const Plane& scores, const Densities& densities) {
    TileState states[2];
    for (size_t i = 0; i < count; i += kTilesTogether) {
        TileJob *a = jobs + i, *b = i + 1 < count ? jobs + i + 1 : a;
        TileState *s = states, *t = states + 1;
        begin_tile(*s, *a);
        if (b != a) begin_tile(*t, *b);
        for (;;) {
            const uint64_t n = whole_steps<kPrior>(*s, *a, scores, densities);
            const uint64_t m = b == a ? 0 : whole_steps<kPrior>(*t, *b, scores, densities);
            if (n > 0 && m > 0) {
                decode_steps<2, kPrior, true>({s, t}, {a, b}, n < m ? n : m, densities, ~0u);
            } else if (n > 0) {
                decode_steps<1, kPrior, true>({s}, {a}, n, densities, ~0u);
            } else if (m > 0) {
                decode_steps<1, kPrior, true>({t}, {b}, m, densities, ~0u);
            } else {
                break;
            }
        }
        end_tile(*s, *a);
        if (b != a) end_tile(*t, *b);
    }
}

void decode(TileJob* jobs, size_t count, const Plane& scores, const Densities& densities) {
    if (densities.count > 1) {
        decode_tiles<true>(jobs, count, scores, densities);
    } else {
        decode_tiles<false>(jobs, count, scores, densities);
    }
}
