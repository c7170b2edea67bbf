// Any payloads as two static or prior tiles: every ISA says and gives the same, alone and side by side, nothing
// is read or written outside, and what is accepted is what the encoder writes.
#include "input.h"

namespace {

constexpr uint64_t kMostOrdinals = 20000;

struct Tile {
    Tile(uint32_t count_of, uint32_t from, const uint8_t* bytes, size_t size)
        : count(count_of % kMostOrdinals + 1),
          first(std::min<uint64_t>(from, (uint64_t{1} << 32) - count)),
          words(size / 2),
          content(bytes),
          zeros(bytes, 2 * words, 0),
          ones(bytes, 2 * words, 0xFF),
          expected(slt::mask_words_of(first, first + count)) {}

    uint64_t count, first;
    size_t words;
    const uint8_t* content;
    fuzz::Payload zeros, ones;
    std::vector<uint32_t> expected;
    slt::TileFault fault = slt::TileFault::none;
};

void compare(std::vector<const Tile*> tiles, uint32_t lanes, const slt::Plane& scores,
             const slt::Densities& densities) {
    for (const slt::Ops* ops : slt::available_ops()) {
        std::vector<std::vector<uint32_t>> out;
        std::vector<slt::TileJob> jobs;
        for (const Tile* tile : tiles) {
            out.emplace_back(tile->expected.size());
            jobs.push_back({tile->ones.data.get(), tile->words, tile->first, tile->first + tile->count,
                            out.back().data(), slt::TileFault::none});
        }
        slt::decode(jobs.data(), jobs.size(), lanes, scores, densities, *ops);
        for (size_t i = 0; i < tiles.size(); ++i) {
            fuzz::require(jobs[i].fault == tiles[i]->fault, "two ISAs find different faults");
            fuzz::require(jobs[i].fault != slt::TileFault::none || out[i] == tiles[i]->expected,
                          "two ISAs decode different bits");
        }
    }
}

}  // namespace

// Random, densities, lanes, two times u16 ordinals - 1, u32 first ordinal; u16 words of the first
// payload; payloads.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    fuzz::Input input(data, size);
    const slt::Plane scores = fuzz::scores_of(fuzz::take_random(input));
    const slt::Densities densities = fuzz::take_densities(input);
    const uint32_t lanes = fuzz::take_lanes(input);
    const uint32_t count1 = input.take<uint16_t>(), first1 = input.take<uint32_t>();
    const uint32_t count2 = input.take<uint16_t>(), first2 = input.take<uint32_t>();
    const size_t cut = std::min<size_t>(2 * size_t{input.take<uint16_t>()}, input.size());
    Tile one(count1, first1, input.data(), cut);
    Tile two(count2, first2, input.data() + cut, input.size() - cut);
    for (Tile* tile : {&one, &two}) {
        tile->fault = fuzz::decode(slt::scalar_ops, tile->zeros.data.get(), tile->words, tile->first,
                                   tile->first + tile->count, lanes, scores, densities,
                                   tile->expected.data());
        if (tile->fault != slt::TileFault::none) continue;
        const auto encoded = slt::encode(tile->expected.data(), tile->first, tile->first + tile->count,
                                         lanes, scores, densities, slt::scalar_ops);
        fuzz::require(encoded.size() == 2 * tile->words &&
                          std::equal(encoded.begin(), encoded.end(), tile->content),
                      "another payload of the same bits is accepted");
    }
    compare({&one}, lanes, scores, densities);
    compare({&two, &one}, lanes, scores, densities);
    compare({&one, &two, &one}, lanes, scores, densities);
    return 0;
}
