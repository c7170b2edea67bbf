// Any mask through the encoder: every ISA writes the same payload, within its bound, and reads it back.
#include "input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    fuzz::Input input(data, size);
    const slt::Plane scores = fuzz::scores_of(fuzz::take_random(input));
    const slt::Densities densities = fuzz::take_densities(input);
    const uint32_t lanes = fuzz::take_lanes(input);
    const uint32_t start = input.take<uint32_t>(), cut = input.take<uint8_t>();
    const size_t bits = 8 * std::min<size_t>(input.size(), 4096);
    if (bits <= cut) return 0;
    const uint64_t count = bits - cut;
    const uint64_t first = std::min<uint64_t>(start, (uint64_t{1} << 32) - count), last = first + count;
    // bits of the input from `first` on, and ones where the tile has none: they are to be ignored
    std::vector<uint32_t> mask(slt::mask_words_of(first, last), ~0u), wanted(mask.size(), 0);
    for (uint64_t o = first; o < last; ++o) {
        const uint64_t i = o - first;
        const uint32_t bit = input.data()[i / 8] >> i % 8 & 1;
        wanted[o / 32 - first / 32] |= bit << o % 32;
        if (!bit) mask[o / 32 - first / 32] &= ~(1u << o % 32);
    }
    const auto payload = slt::encode(mask.data(), first, last, lanes, scores, densities, slt::scalar_ops);
    fuzz::require(payload.size() >= 4 * lanes && payload.size() <= 2 * (2 * lanes + count),
                  "a payload's size");
    const fuzz::Payload copy(payload.data(), payload.size(), 0xFF);
    for (const slt::Ops* ops : slt::available_ops()) {
        fuzz::require(slt::encode(mask.data(), first, last, lanes, scores, densities, *ops) == payload,
                      "two ISAs encode different payloads");
        std::vector<uint32_t> out(mask.size());
        fuzz::require(fuzz::decode(*ops, copy.data.get(), payload.size() / 2, first, last, lanes,
                                   scores, densities, out.data()) == slt::TileFault::none,
                      "an encoder's payload is refused");
        fuzz::require(out == wanted, "a mask comes back changed");
    }
    const auto raw = slt::encode_raw(mask.data(), first, last);
    std::vector<uint32_t> out(mask.size());
    fuzz::require(slt::decode_raw(raw.data(), first, last, out.data()) == slt::TileFault::none &&
                      out == wanted,
                  "a raw tile comes back changed");
    return 0;
}
