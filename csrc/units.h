// Unit lists (int8_inl.h): what the int8 kernel that adds reads its weights from.
#pragma once

#include <memory>
#include <vector>

#include "weights.h"

namespace slt {

// The unit lists of `count` rows from `first` on, at most kUnitRows, block after block. wide:
// entries are uint16 and blocks kWideBlock positions, not bytes and kNarrowBlock.
struct UnitRows {
    uint32_t first, count;
    bool wide;
    const uint8_t* lists;
    size_t bytes;
};

// Turns rows of planes into lists: at most `limit` rows together, all of one convolution group of
// `group_rows` rows.
class UnitMaker {
  public:
    UnitMaker(uint32_t fan_in, uint32_t group_rows, uint32_t limit, const Ops& ops)
        : fan_in_(fan_in), group_rows_(group_rows), limit_(limit), ops_(ops) {}
    // The lists of the first of the rows: no more than one row beyond kListBytes. They lie in
    // buffer, one behind the other.
    std::vector<UnitRows> make(const PlaneRows& rows, WeightVector<uint8_t>& buffer) const;

  private:
    // Some rows, and bytes that their lists take at most.
    struct Plan {
        uint32_t first, count;
        bool wide;
        size_t bytes;
    };
    Plan plan(const PlaneRows& rows, uint32_t first, size_t room) const;

    uint32_t fan_in_, group_rows_, limit_;
    const Ops& ops_;
};

// Resident lists, in groups that do not cross a convolution group of `group_rows` rows.
class ResidentUnits {
  public:
    // Null where they would take more than 2 bits per weight and 8 bytes per row.
    static std::unique_ptr<ResidentUnits> make(const LayerCode& code, uint32_t group_rows,
                                               uint32_t limit, WeightScratch& scratch,
                                               Threads& threads, const Ops& ops);
    // All of them, there as long as this is.
    std::vector<UnitRows> rows() const;
    size_t bytes() const;

  private:
    struct Group {
        uint32_t first, count;
        bool wide;
        WeightVector<uint8_t> lists;
    };
    std::vector<Group> groups_;
};

}  // namespace slt
