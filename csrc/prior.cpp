#include "prior.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

namespace slt {
namespace {

constexpr uint64_t kBlocksAtOnce = 64;
using Block = uint64_t __attribute__((vector_size(16)));
constexpr uint32_t kRows = 16;  // 10 at most of 8 planes, the sign and the mask bit, then zeros
constexpr uint32_t kMostNumbers = 1 << 10;
constexpr size_t kMostRuns = 16;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The numbers that 16 rows of bits form at 128 ordinals: lane g of rows[c] becomes the number at
// ordinal 16 g + c, bit r of which is that ordinal's bit of rows[r].
void number(Block (&rows)[kRows]) {
    constexpr uint64_t kWhere[] = {0x00FF00FF00FF00FF, 0x0F0F0F0F0F0F0F0F, 0x3333333333333333,
                                   0x5555555555555555};
    for (uint32_t stage = 0; stage < 4; ++stage) {  // exchanges quarters, in each lane
        const uint32_t by = 8 >> stage;
        for (uint32_t i = 0; i < kRows; ++i) {
            if (i & by) continue;
            const Block x = (rows[i] >> by ^ rows[i + by]) & kWhere[stage];
            rows[i] ^= x << by;
            rows[i + by] ^= x;
        }
    }
}

// Bytes that MessagePack takes for a number below 2^16.
uint32_t packed_bytes(uint32_t number) { return 1 + (number >= 128) + (number >= 256); }

// Bits of an outcome of frequency f of 4096, by f.
const std::array<double, 4096>& bits_by_frequency() {
    static const std::array<double, 4096> bits = [] {
        std::array<double, 4096> made{};
        for (size_t f = 1; f < made.size(); ++f) made[f] = 12 - std::log2(static_cast<double>(f));
        return made;
    }();
    return bits;
}

struct Sums {
    double dropped, kept;  // whole numbers
};

uint32_t frequency_of(const Sums& from, const Sums& to) {
    const double dropped = to.dropped - from.dropped, kept = to.kept - from.kept;
    const double share = kept / std::max(1.0, dropped + kept);
    return static_cast<uint32_t>(std::clamp(std::lrint(4096 * share), 1L, 4095L));
}

using Pair = double __attribute__((vector_size(16)));

}  // namespace

std::vector<uint64_t> count_cells(const uint32_t* mask, uint64_t free, const Plane& scores,
                                  uint32_t planes, const Ops& ops) {
    const uint32_t rows = planes + 2;  // of bits: the mask's is the lowest, then the sign
    std::vector<uint64_t> counts(size_t{1} << rows, 0);
    Block bits[kRows][kBlocksAtOnce] = {};
    uint32_t by_number[kMostNumbers];
    for (uint64_t block0 = 0; 128 * block0 < free; block0 += kBlocksAtOnce) {
        const uint64_t left = free - 128 * block0;
        const uint64_t ordinals = std::min(left, 128 * kBlocksAtOnce);
        const uint64_t blocks = (ordinals + 127) / 128;
        Plane address = scores;
        std::memcpy(bits[0], mask + 4 * block0, (ordinals + 31) / 32 * sizeof mask[0]);
        for (uint32_t row = 1; row < rows; ++row) {
            address.plane = row == 1 ? kSignPlane : rows - 1 - row;
            ops.plane(address, static_cast<uint32_t>(block0), blocks, bits[row]);
        }
        std::fill_n(by_number, counts.size(), 0u);
        for (uint64_t block = 0; block < blocks; ++block) {
            Block of_block[kRows];
            for (uint32_t row = 0; row < kRows; ++row) of_block[row] = bits[row][block];
            number(of_block);
            uint16_t numbers[kRows][8];
            std::memcpy(numbers, of_block, sizeof numbers);
            const uint64_t here = ordinals - 128 * block;
            for (uint32_t c = 0; c < kRows; ++c) {
                for (uint32_t g = 0; g < 8; ++g) {
                    if (here >= 128 || 16 * g + c < here) ++by_number[numbers[c][g]];
                }
            }
        }
        for (size_t i = 0; i < counts.size(); ++i) counts[i] += by_number[i];
    }
    return counts;
}

Cut cut_cells(const uint64_t* counts, size_t cells) {
    std::vector<Sums> sums(cells + 1, Sums{});
    for (size_t i = 0; i < cells; ++i)
        sums[i + 1] = {sums[i].dropped + static_cast<double>(counts[2 * i]),
                       sums[i].kept + static_cast<double>(counts[2 * i + 1])};
    const auto& bits = bits_by_frequency();
    const auto cost = [&](size_t begin, size_t end) {  // of the run of cells begin ... end - 1
        const Sums &from = sums[begin], &to = sums[end];
        const uint32_t f = frequency_of(from, to);
        return (to.kept - from.kept) * bits[f] + (to.dropped - from.dropped) * bits[4096 - f] +
               8 * (1 + packed_bytes(static_cast<uint32_t>(begin)) + packed_bytes(f));
    };
    // best[end][runs]: of the cells before `end` in so many runs.
    std::vector<std::array<double, kMostRuns + 1>> best(cells + 1);
    for (auto& of_end : best) of_end.fill(kInfinity);
    best[0][0] = 0;
    for (size_t end = 1; end <= cells; ++end) {
        Pair least[kMostRuns / 2];
        std::fill_n(least, kMostRuns / 2, Pair{kInfinity, kInfinity});
        for (size_t begin = 0; begin < end; ++begin) {
            const double last = cost(begin, end);
            for (size_t i = 0; i < kMostRuns / 2; ++i) {
                Pair sum;
                std::memcpy(&sum, &best[begin][2 * i], sizeof sum);
                sum += last;
                least[i] = sum < least[i] ? sum : least[i];
            }
        }
        std::memcpy(&best[end][1], least, sizeof least);
    }
    size_t runs = std::min_element(best[cells].begin(), best[cells].end()) - best[cells].begin();
    Cut cut{{}, best[cells][runs]};
    for (size_t end = cells; runs > 0; --runs) {
        size_t begin = 0;
        while (best[begin][runs - 1] + cost(begin, end) != best[end][runs]) ++begin;
        cut.intervals.emplace_back(begin, frequency_of(sums[begin], sums[end]));
        end = begin;
    }
    std::reverse(cut.intervals.begin(), cut.intervals.end());
    return cut;
}

}  // namespace slt
