#include "prior.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace slt {
namespace {

constexpr uint64_t kBlocksAtOnce = 64;
constexpr uint32_t kMostRows = 10;  // 8 planes, the sign and the mask bit
constexpr size_t kMostRuns = 16;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Bit 8 i + r of the result is bit 8 r + i of x: rows of 8 bits become columns.
uint64_t transposed(uint64_t x) {
    const auto exchange = [&x](uint32_t by, uint64_t where) {
        const uint64_t y = (x ^ x >> by) & where;
        x ^= y ^ y << by;
    };
    exchange(7, 0x00AA00AA00AA00AA);
    exchange(14, 0x0000CCCC0000CCCC);
    exchange(28, 0x00000000F0F0F0F0);
    return x;
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
    uint64_t dropped, kept;
};

uint32_t frequency_of(const Sums& from, const Sums& to) {
    const uint64_t dropped = to.dropped - from.dropped, kept = to.kept - from.kept;
    const double share =
        static_cast<double>(kept) / static_cast<double>(std::max<uint64_t>(1, dropped + kept));
    return static_cast<uint32_t>(std::clamp(std::lrint(4096 * share), 1L, 4095L));
}

// The least best[i] + costs[i]; four chains of comparisons need not wait for each other.
double least_sum(const double* best, const double* costs, size_t count) {
    double least[4] = {kInfinity, kInfinity, kInfinity, kInfinity};
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        for (size_t j = 0; j < 4; ++j) {
            const double sum = best[i + j] + costs[i + j];
            least[j] = sum < least[j] ? sum : least[j];
        }
    }
    for (; i < count; ++i) least[0] = std::min(least[0], best[i] + costs[i]);
    return std::min(std::min(least[0], least[1]), std::min(least[2], least[3]));
}

}  // namespace

std::vector<uint64_t> count_cells(const uint32_t* mask, uint64_t free, const Plane& scores,
                                  uint32_t planes, const Ops& ops) {
    const uint32_t rows = planes + 2;  // of bits: the mask's is the lowest, then the sign
    std::vector<uint64_t> counts(size_t{1} << rows, 0);
    uint32_t words[kMostRows][4 * kBlocksAtOnce] = {};
    uint32_t by_number[1u << kMostRows];
    for (uint64_t block0 = 0; 128 * block0 < free; block0 += kBlocksAtOnce) {
        const uint64_t left = free - 128 * block0;
        const uint64_t ordinals = std::min(left, 128 * kBlocksAtOnce);
        const uint64_t blocks = (ordinals + 127) / 128;
        Plane address = scores;
        std::copy_n(mask + 4 * block0, (ordinals + 31) / 32, words[0]);
        for (uint32_t row = 1; row < rows; ++row) {
            address.plane = row == 1 ? kSignPlane : rows - 1 - row;
            ops.plane(address, static_cast<uint32_t>(block0), blocks, words[row]);
        }
        std::fill_n(by_number, counts.size(), 0u);
        for (uint64_t at = 0; at < ordinals; at += 8) {
            const auto byte = [&](uint32_t row) {
                return uint64_t{words[row][at / 32] >> at % 32 & 0xFF};
            };
            uint64_t low = 0;
            for (uint32_t row = 0; row < 8; ++row) low |= byte(row) << 8 * row;
            low = transposed(low);
            const uint64_t high8 = byte(8), high9 = byte(9);
            const uint32_t here = static_cast<uint32_t>(std::min<uint64_t>(8, ordinals - at));
            for (uint32_t i = 0; i < here; ++i)
                ++by_number[(low >> 8 * i & 0xFF) | (high8 >> i & 1) << 8 | (high9 >> i & 1) << 9];
        }
        for (size_t i = 0; i < counts.size(); ++i) counts[i] += by_number[i];
    }
    return counts;
}

Cut cut_cells(const uint64_t* counts, size_t cells) {
    std::vector<Sums> sums(cells + 1, Sums{});
    for (size_t i = 0; i < cells; ++i)
        sums[i + 1] = {sums[i].dropped + counts[2 * i], sums[i].kept + counts[2 * i + 1]};
    const auto& bits = bits_by_frequency();
    // Of the run of cells begin ... end - 1: costs[end * cells + begin].
    std::vector<double> costs((cells + 1) * cells);
    for (size_t end = 1; end <= cells; ++end) {
        for (size_t begin = 0; begin < end; ++begin) {
            const Sums &from = sums[begin], &to = sums[end];
            const uint32_t f = frequency_of(from, to);
            costs[end * cells + begin] =
                static_cast<double>(to.kept - from.kept) * bits[f] +
                static_cast<double>(to.dropped - from.dropped) * bits[4096 - f] +
                8 * (1 + packed_bytes(static_cast<uint32_t>(begin)) + packed_bytes(f));
        }
    }
    // best[runs][end]: of the cells before `end` in so many runs.
    const size_t most = std::min(kMostRuns, cells);
    std::vector<std::vector<double>> best(most + 1, std::vector<double>(cells + 1, kInfinity));
    best[0][0] = 0;
    size_t runs = 1;
    for (size_t r = 1; r <= most; ++r) {
        for (size_t end = r; end <= cells; ++end)
            best[r][end] = least_sum(best[r - 1].data(), &costs[end * cells], end);
        if (best[r][cells] < best[runs][cells]) runs = r;
    }
    Cut cut{{}, best[runs][cells]};
    for (size_t r = runs, end = cells; r > 0; --r) {
        size_t begin = 0;
        while (best[r - 1][begin] + costs[end * cells + begin] != best[r][end]) ++begin;
        cut.intervals.emplace_back(begin, frequency_of(sums[begin], sums[end]));
        end = begin;
    }
    std::reverse(cut.intervals.begin(), cut.intervals.end());
    return cut;
}

}  // namespace slt
