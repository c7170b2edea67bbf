// Mask bits into positions, and the decoder of coded tiles. Included like random_inl.h, after
// prior_inl.h and these primitives:
//   uint64_t deposit_bits(uint64_t bits, uint64_t where)   pdep
//   Mask, Mask lanes_of(uint32_t bits), uint32_t bits_of(Mask), Mask less(u32v, u32v),
//   Mask under_16_bits(u32v), Mask both(Mask, Mask), u32v select(Mask, u32v yes, u32v no)
//   u32v expand_words(const uint8_t* p, uint32_t bits)     the next 16-bit words at p, one into
//   each lane whose
//                                                          bit is set; may read a word per lane
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

constexpr uint32_t kLanes32 = kBytes / 4;
constexpr uint32_t kVectors32 = 32 / kLanes32;
constexpr uint32_t kLaneMask = uint32_t((uint64_t{1} << kLanes32) - 1);

// One step: the 32 ordinals of an output word, of which `active` exist. frequency(v) gives the
// frequencies of vector v. Advances word by what was taken; the caller checks it before the next
// step, so that loads stay within kPayloadPadding behind the payload.
template <bool kWhole, class F>
inline uint32_t decode_step(u32v (&x)[kVectors32], F frequency, uint32_t active,
                            const uint8_t* payload, size_t& word) {
    uint32_t bits = 0;
#pragma GCC unroll 8
    for (uint32_t v = 0; v < kVectors32; ++v) {
        const u32v f = frequency(v);
        const u32v s = x[v] & 4095u, scaled = (x[v] >> 12) * f;
        Mask one = less(s, f);
        const u32v next = select(one, scaled + s, x[v] - scaled - f);
        if constexpr (kWhole) {
            x[v] = next;
        } else {
            const Mask here = lanes_of(active >> (v * kLanes32) & kLaneMask);
            one = both(one, here);
            x[v] = select(here, next, x[v]);
        }
        bits |= bits_of(one) << (v * kLanes32);
        const Mask narrow = under_16_bits(x[v]);
        const uint32_t wants = bits_of(narrow);
        x[v] = select(narrow, (x[v] << 16) | expand_words(payload + 2 * word, wants), x[v]);
        word += uint32_t(__builtin_popcount(wants));
    }
    return bits;
}

// The steps of the ordinals [first, last); false where the words end early. frequencies_of(i) is
// what decode_step asks in the i-th of them.
template <class F>
inline bool decode_steps(u32v (&x)[kVectors32], F frequencies_of, uint64_t first, uint64_t last,
                         const uint8_t* payload, size_t words, size_t& word, uint32_t* out) {
    const uint64_t steps = (last - 1) / 32 - first / 32 + 1;
    for (uint64_t i = 0; i < steps; ++i) {
        uint32_t active = ~0u;
        if (i == 0) active &= ~0u << (first % 32);
        if (i == steps - 1) active &= ~0u >> (31 - (last - 1) % 32);
        const auto frequency = frequencies_of(i);
        out[i] = active == ~0u ? decode_step<true>(x, frequency, active, payload, word)
                               : decode_step<false>(x, frequency, active, payload, word);
        if (word > words) return false;
    }
    return true;
}

// Frequencies are made a piece at a time, so that they and their planes stay in the cache.
inline bool decode_pieces(u32v (&x)[kVectors32], const Plane& scores, const Densities& densities,
                          uint64_t first, uint64_t last, const uint8_t* payload, size_t words,
                          size_t& word, uint32_t* out) {
    typedef uint16_t u16half __attribute__((vector_size(kBytes / 2)));
    const FrequencyTable table = frequency_table(densities.f);
    IntervalNumbers numbers;
    alignas(64) uint16_t f[2][32];  // two, so that a step need not wait for the one before
    for (uint64_t at = first; at < last;) {
        const uint32_t block0 = uint32_t(at / 128);
        const uint64_t piece_end = uint64_t{block0} * 128 + kPieceOrdinals;
        const uint64_t end = piece_end < last ? piece_end : last;
        number_piece(scores, densities, block0, (end - 1) / 128 - block0 + 1, numbers);
        const auto* start = numbers.words + at % 128 / 32;
        const auto frequencies_of = [&](uint64_t i) {
            uint16_t* here = f[i % 2];
            store_frequencies(table, start[i], here);
            return [here](uint32_t v) {
                u16half narrow;
                __builtin_memcpy(&narrow, here + v * kLanes32, sizeof narrow);
                return __builtin_convertvector(narrow, u32v);
            };
        };
        if (!decode_steps(x, frequencies_of, at, end, payload, words, word, out)) return false;
        out += (end - 1) / 32 - at / 32 + 1;
        at = end;
    }
    return true;
}

TileFault decode(const uint8_t* payload, size_t words, uint64_t first, uint64_t last,
                 const Plane& scores, const Densities& densities, uint32_t* out) {
    if (words < 64) return TileFault::words_short;
    u32v x[kVectors32];
    __builtin_memcpy(x, payload,
                     sizeof x);  // little-endian machines only: low word, then high word
    for (uint32_t v = 0; v < kVectors32; ++v) {
        if (bits_of(under_16_bits(x[v]))) return TileFault::start_state;
    }
    size_t word = 64;
    const u32v constant = u32v{} + densities.f[0];
    const auto frequencies_of = [constant](uint64_t) {
        return [constant](uint32_t) { return constant; };
    };
    const bool enough =
        densities.count == 1
            ? decode_steps(x, frequencies_of, first, last, payload, words, word, out)
            : decode_pieces(x, scores, densities, first, last, payload, words, word, out);
    if (!enough) return TileFault::words_short;
    uint32_t states[32];
    __builtin_memcpy(states, x, sizeof states);
    for (uint32_t lane = 0; lane < 32; ++lane) {
        if (states[lane] != 0x10000u) return TileFault::final_state;
    }
    return word == words ? TileFault::none : TileFault::words_left;
}
