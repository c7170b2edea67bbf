// Tile payloads of docs/format.md, sections 4 and 5. All tiles cover free ordinals [first, last).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ops.h"

namespace slt {

// 32-bit words that hold the mask bits of a tile: words first div 32 to (last - 1) div 32, none if
// it is empty.
inline uint64_t mask_words_of(uint64_t first, uint64_t last) {
    return first == last ? 0 : (last - 1) / 32 - first / 32 + 1;
}

// Lanes of the coded tiles of a stream that has `bits` mask bits in all its tiles: 32 or 4.
constexpr uint32_t lanes_of(uint64_t bits) { return bits < uint64_t{1} << 15 ? 4 : 32; }

// `mask` holds the words first div 32 ... of the mask; bits outside the tile are ignored.
std::vector<uint8_t> encode_raw(const uint32_t* mask, uint64_t first, uint64_t last);
// A static or prior tile of 4 or 32 lanes; `scores` as in Ops::decode.
std::vector<uint8_t> encode(const uint32_t* mask, uint64_t first, uint64_t last, uint32_t lanes,
                            const Plane& scores, const Densities& densities, const Ops& ops);

// Ops::decode for tiles of 4 or 32 lanes.
void decode(TileJob* jobs, size_t count, uint32_t lanes, const Plane& scores,
            const Densities& densities, const Ops& ops);

// One density f of 4096 for all.
Densities static_density(uint32_t f);
// Throws std::invalid_argument for what docs/format.md does not allow of intervals.
void check_densities(const Densities& densities);

// Copies a raw tile of mask_words_of(first, last) words; pad_bits if a bit outside the tile is set.
TileFault decode_raw(const uint8_t* payload, uint64_t first, uint64_t last, uint32_t* out);

// What a fault means, for messages.
const char* text_of(TileFault fault);

}  // namespace slt
