// Philox4x32 and Threefry4x32 for one counter: Salmon, Moraes, Dror, Shaw, "Parallel random
// numbers: as easy as 1, 2, 3" (SC'11), in the form of docs/format.md, section 1.
#pragma once

#include <cstdint>

#include "ops.h"

namespace slt {

// out = the generator's four words; key has four words, of which Philox uses two.
void random_words(Generator generator, uint32_t rounds, const uint32_t counter[4],
                  const uint32_t key[4], uint32_t out[4]);

}  // namespace slt
