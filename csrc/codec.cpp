#include "codec.h"

#include <algorithm>

namespace slt {
namespace {

// Bits of word i (of `words`) that belong to the tile.
uint32_t tile_bits(uint64_t i, uint64_t words, uint64_t first, uint64_t last) {
    uint32_t bits = ~0u;
    if (i == 0) bits &= ~0u << first % 32;
    if (i == words - 1) bits &= ~0u >> (31 - (last - 1) % 32);
    return bits;
}

}  // namespace

std::vector<uint8_t> encode_raw(const uint32_t* mask, uint64_t first, uint64_t last) {
    const uint64_t words = mask_words_of(first, last);
    std::vector<uint8_t> payload;
    payload.reserve(4 * words);
    for (uint64_t i = 0; i < words; ++i) {
        const uint32_t word = mask[i] & tile_bits(i, words, first, last);
        for (int byte = 0; byte < 4; ++byte)
            payload.push_back(static_cast<uint8_t>(word >> 8 * byte));
    }
    return payload;
}

TileFault decode_raw(const uint8_t* payload, uint64_t first, uint64_t last, uint32_t* out) {
    const uint64_t words = mask_words_of(first, last);
    bool clean = true;
    for (uint64_t i = 0; i < words; ++i, payload += 4) {
        out[i] = payload[0] | payload[1] << 8 | payload[2] << 16 | uint32_t{payload[3]} << 24;
        clean &= (out[i] & ~tile_bits(i, words, first, last)) == 0;
    }
    return clean ? TileFault::none : TileFault::pad_bits;
}

std::vector<uint8_t> encode_static(const uint32_t* mask, uint64_t first, uint64_t last,
                                   uint32_t density) {
    if (first == last) return {};
    const uint32_t f = 16 * density;
    uint32_t states[32];
    std::fill_n(states, 32, 0x10000u);
    std::vector<uint16_t> words;  // backward, as emitted
    for (uint64_t ordinal = last; ordinal-- > first;) {
        uint32_t& x = states[ordinal % 32];
        const bool bit = mask[ordinal / 32 - first / 32] >> ordinal % 32 & 1;
        const uint32_t g = bit ? f : 4096 - f;
        if (x >= uint64_t{g} << 20) {
            words.push_back(static_cast<uint16_t>(x));
            x >>= 16;
        }
        x = 4096 * (x / g) + x % g + (bit ? 0 : f);
    }
    for (int lane = 32; lane-- > 0;) {
        words.push_back(static_cast<uint16_t>(states[lane] >> 16));
        words.push_back(static_cast<uint16_t>(states[lane]));
    }
    std::vector<uint8_t> payload;
    payload.reserve(2 * words.size());
    for (size_t i = words.size(); i-- > 0;) {
        payload.push_back(static_cast<uint8_t>(words[i]));
        payload.push_back(static_cast<uint8_t>(words[i] >> 8));
    }
    return payload;
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
