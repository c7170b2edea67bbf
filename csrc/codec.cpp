#include "codec.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <iterator>
#include <memory>
#include <stdexcept>

namespace slt {
namespace {

constexpr uint64_t kBlocksAtOnce = 64;  // of frequencies
constexpr uint32_t kFewLanes = lanes_of(0);

// ceil(2^44 / g): x / g is x times this, shifted, for every g < 2^12 and x < g * 2^20. With
// e < 1 what was rounded up, x * e / 2^44 is below 1 / g, as x * g < 2^44: too little to reach the
// next integer. And the product is at most (g * 2^20 - 1) * (2^44 / g + 1) < 2^64, as g^2 <= 2^24.
constexpr std::array<uint64_t, 4096> kReciprocals = [] {
    std::array<uint64_t, 4096> made{};
    for (uint64_t g = 1; g < made.size(); ++g) made[g] = ((uint64_t{1} << 44) + g - 1) / g;
    return made;
}();

// Bits of word i (of `words`) that belong to the tile.
uint32_t tile_bits(uint64_t i, uint64_t words, uint64_t first, uint64_t last) {
    uint32_t bits = ~0u;
    if (i == 0) bits &= ~0u << first % 32;
    if (i == words - 1) bits &= ~0u >> (31 - (last - 1) % 32);
    return bits;
}

// Encodes the bits to - 1, ..., from of a mask word, f[i] of 4096 being the frequency of a 1 at bit
// i; writes words in front of `at` and returns where they begin.
template <uint32_t kLanes>
[[gnu::always_inline]] inline uint16_t* encode_bits(uint32_t bits, const uint16_t* frequencies,
                                                    uint32_t from, uint32_t to, uint32_t* states,
                                                    uint16_t* at) {
#pragma GCC unroll 32
    for (uint32_t i = to - 1; i + 1 > from; --i) {
        // No branches: the mask's bits cannot be foreseen.
        const uint32_t f = frequencies[i], zero = (bits >> i & 1) - 1;  // all bits set, or none
        const uint32_t g = (f ^ zero) + (4097 & zero);                  // 4096 - f, or f
        uint32_t x = states[i % kLanes];
        const uint32_t full = x >> 20 >= g;
        at[-1] = static_cast<uint16_t>(x);
        at -= full;
        x = full ? x >> 16 : x;
        const uint32_t quotient = static_cast<uint32_t>(x * kReciprocals[g] >> 44);
        states[i % kLanes] = x + quotient * (4096 - g) + (f & zero);  // 4096 q + remainder + 0 or f
    }
    return at;
}

// A tile of kFewLanes lanes.
TileFault decode_few(const TileJob& job, const Plane& scores, const Densities& densities,
                     const Ops& ops) {
    uint32_t states[kFewLanes];
    if (job.words < 2 * kFewLanes) return TileFault::words_short;
    std::memcpy(states, job.payload, sizeof states);  // little-endian: low word, then high word
    for (uint32_t x : states) {
        if (x < 0x10000u) return TileFault::start_state;
    }
    std::fill_n(job.out, mask_words_of(job.first, job.last), 0u);
    const uint8_t *at = job.payload + sizeof states, *end = job.payload + 2 * job.words;
    uint16_t frequencies[128 * kBlocksAtOnce];
    std::fill_n(frequencies, std::size(frequencies), densities.f[0]);
    for (uint64_t begin = job.first; begin < job.last;) {
        const uint64_t block0 = begin / 128;
        const uint64_t stop = std::min(job.last, 128 * (block0 + kBlocksAtOnce));
        if (densities.count > 1)
            ops.frequencies(scores, densities, static_cast<uint32_t>(block0),
                            (stop - 1) / 128 - block0 + 1, frequencies);
        for (uint64_t ordinal = begin; ordinal < stop; ++ordinal) {
            // No branches but for the words' end: the mask's bits cannot be foreseen.
            const uint32_t f = frequencies[ordinal - 128 * block0];
            uint32_t x = states[ordinal % kFewLanes];
            const uint32_t s = x % 4096, scaled = f * (x / 4096);
            const uint32_t one = s < f;
            x = one ? scaled + s : x - scaled - f;
            job.out[ordinal / 32 - job.first / 32] |= one << ordinal % 32;
            uint16_t word;
            std::memcpy(&word, at, sizeof word);  // within the padding if there is none left
            const uint32_t wants = x < 0x10000u;
            states[ordinal % kFewLanes] = wants ? x << 16 | word : x;
            at += 2 * wants;
            if (at > end) return TileFault::words_short;
        }
        begin = stop;
    }
    for (uint32_t x : states) {
        if (x != 0x10000u) return TileFault::final_state;
    }
    return at == end ? TileFault::none : TileFault::words_left;
}

}  // namespace

std::vector<uint8_t> encode_raw(const uint32_t* mask, uint64_t first, uint64_t last) {
    const uint64_t words = mask_words_of(first, last);
    std::vector<uint8_t> payload(4 * words);
    for (uint64_t i = 0; i < words; ++i) {
        const uint32_t word = mask[i] & tile_bits(i, words, first, last);
        for (int byte = 0; byte < 4; ++byte)
            payload[4 * i + byte] = static_cast<uint8_t>(word >> 8 * byte);
    }
    return payload;
}

TileFault decode_raw(const uint8_t* payload, uint64_t first, uint64_t last, uint32_t* out) {
    const uint64_t words = mask_words_of(first, last);
    if (words == 0) return TileFault::none;
    std::memcpy(out, payload, words * sizeof(uint32_t));  // little-endian machines only
    const auto outside = [&](uint64_t i) { return out[i] & ~tile_bits(i, words, first, last); };
    return outside(0) | outside(words - 1) ? TileFault::pad_bits : TileFault::none;
}

std::vector<uint8_t> encode(const uint32_t* mask, uint64_t first, uint64_t last, uint32_t lanes,
                            const Plane& scores, const Densities& densities, const Ops& ops) {
    if (first == last) return {};
    uint32_t states[32];
    std::fill_n(states, lanes, 0x10000u);
    // Filled from its end: coding runs backward. One word a bit at most, and one that is written
    // but not kept.
    const size_t most = last - first + 2 * lanes + 1;
    const auto words = std::make_unique_for_overwrite<uint16_t[]>(most);
    uint16_t* at = words.get() + most;
    std::vector<uint16_t> frequencies(128 * kBlocksAtOnce, densities.f[0]);
    for (uint64_t end = last; end > first;) {
        const uint64_t block0 = (end - 1) / 128 / kBlocksAtOnce * kBlocksAtOnce;
        const uint64_t begin = std::max(first, 128 * block0);
        if (densities.count > 1)
            ops.frequencies(scores, densities, static_cast<uint32_t>(block0),
                            (end - 1) / 128 - block0 + 1, frequencies.data());
        while (end > begin) {
            const uint64_t word = (end - 1) / 32;
            const uint32_t bits = mask[word - first / 32];
            const uint16_t* f = frequencies.data() + 32 * (word - 4 * block0);
            const uint32_t from = static_cast<uint32_t>(std::max(begin, 32 * word) - 32 * word);
            const uint32_t to = static_cast<uint32_t>(end - 32 * word);
            if (lanes != 32) {
                at = encode_bits<kFewLanes>(bits, f, from, to, states, at);
            } else if (to - from < 32) {
                at = encode_bits<32>(bits, f, from, to, states, at);
            } else {
                at = encode_bits<32>(bits, f, 0, 32, states, at);  // unrolled: known places
            }
            end = 32 * word + from;
        }
    }
    at -= 2 * lanes;
    static_assert(std::endian::native == std::endian::little);
    std::memcpy(at, states, lanes * sizeof states[0]);
    const auto* bytes = reinterpret_cast<const uint8_t*>(at);
    return {bytes, reinterpret_cast<const uint8_t*>(words.get() + most)};
}

void decode(TileJob* jobs, size_t count, uint32_t lanes, const Plane& scores,
            const Densities& densities, const Ops& ops) {
    if (lanes == 32) {
        ops.decode(jobs, count, scores, densities);
    } else {
        for (size_t i = 0; i < count; ++i)
            jobs[i].fault = decode_few(jobs[i], scores, densities, ops);
    }
}

Densities static_density(uint32_t f) {
    Densities densities{};
    densities.count = 1;
    densities.f[0] = static_cast<uint16_t>(f);
    return densities;
}

void check_densities(const Densities& d) {
    const auto need = [](bool holds, const char* what) {
        if (!holds) throw std::invalid_argument(what);
    };
    need(d.planes <= 8, "planes must be at most 8");
    need(d.count >= 1 && d.count <= 16, "there must be 1 to 16 intervals");
    need(d.start[0] == 0, "the first interval must start at 0");
    for (uint32_t i = 0; i < d.count; ++i) {
        need(d.start[i] < 1u << (d.planes + d.sign),
             "an interval starts at 2^(planes + sign) or above");
        need(d.f[i] >= 1 && d.f[i] <= 4095, "a density must be 1 to 4095");
        if (i == 0) continue;
        need(d.start[i] > d.start[i - 1], "the intervals' starts must ascend");
        need(d.f[i] != d.f[i - 1], "neighbouring intervals must differ in density");
    }
}

const char* text_of(TileFault fault) {
    switch (fault) {
        case TileFault::none:
            return "no fault";
        case TileFault::start_state:
            return "a starting state is below 2^16";
        case TileFault::words_short:
            return "the words end before the last bit";
        case TileFault::final_state:
            return "a final state is not 2^16";
        case TileFault::words_left:
            return "words are left behind the last bit";
        case TileFault::pad_bits:
            return "bits outside the tile are set";
    }
    return "unknown fault";
}

}  // namespace slt
