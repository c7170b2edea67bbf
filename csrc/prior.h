// What a layer's initial scores say of its mask: the writer's side of prior masks (docs/format.md,
// section 5).
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "ops.h"

namespace slt {

// How many of `free` weights are dropped and kept by the number v of their cell, v having
// planes <= 8 planes of the score and the sign as its lowest bit: [2^(planes + 1)][2]. `mask` holds
// the mask bits by free ordinal, `scores` is as in Ops::decode.
std::vector<uint64_t> count_cells(const uint32_t* mask, uint64_t free, const Plane& scores,
                                  uint32_t planes, const Ops& ops);

// Runs of cells with one density each: (first cell, f of 4096), and the bits that they take in the
// header and ideally in tiles.
struct Cut {
    std::vector<std::pair<uint32_t, uint32_t>> intervals;
    double bits;
};

// The cheapest cut of the cells of counts[cells][2] into at most 16 runs; 1 <= cells <= 512.
Cut cut_cells(const uint64_t* counts, size_t cells);

}  // namespace slt
