// rank[m][i] = number of set bits of m below bit i: which of the words read belongs to lane i of
// the lanes in m. Included by the ops_*.cpp alone, inside their own translation units.
#pragma once

#include <stdint.h>

namespace slt {
namespace {

struct LaneTable {
    alignas(64) uint8_t rank[256][8];
};

constexpr LaneTable make_lane_table() {
    LaneTable table{};
    for (int m = 0; m < 256; ++m) {
        uint8_t rank = 0;
        for (int i = 0; i < 8; ++i) {
            table.rank[m][i] = rank;
            rank = uint8_t(rank + (m >> i & 1));
        }
    }
    return table;
}

constexpr LaneTable kLaneTable = make_lane_table();

}  // namespace
}  // namespace slt
