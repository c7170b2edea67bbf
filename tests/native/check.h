// What the native tests share: checks that count failures, and a deterministic source of cases that
// is not the code under test.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "isa.h"

namespace test {

// Counts one check; prints `what` where it failed.
void check(bool passed, const std::string& what);

// SplitMix64 (Steele, Lea, Flood 2014).
class Cases {
  public:
    explicit Cases(uint64_t seed) : state_(seed) {}
    uint64_t next() {
        uint64_t z = state_ += 0x9E3779B97F4A7C15u;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        return z ^ z >> 31;
    }
    // In [low, high].
    uint64_t between(uint64_t low, uint64_t high) { return low + next() % (high - low + 1); }

  private:
    uint64_t state_;
};

struct Version {
    slt::Generator generator;
    uint32_t rounds;
    const char* name;
};

inline const std::vector<Version> kVersions = {
    {slt::Generator::philox4x32, 10, "philox4x32"},
    {slt::Generator::philox4x32, 7, "philox4x32"},
    {slt::Generator::threefry4x32, 20, "threefry4x32"},
    {slt::Generator::threefry4x32, 13, "threefry4x32"},
    {slt::Generator::threefry4x32, 12, "threefry4x32"},
};

// The scores of some layer, of any generator.
slt::Plane random_scores(Cases& cases);
// Intervals of a prior layer as a header may have them.
slt::Densities random_densities(Cases& cases);

// One function for each file of tests.
void known_answers(const std::string& vectors);
void planes();
void freeze_patterns();
void deposits();
void frequencies();
void coded_tiles();
void corrupted_tiles();
void tiles_together();
void layers();
void kernels();
void dot_kernels();
void int8_kernels();
void checksums();
void peaks();
void threads();

}  // namespace test
