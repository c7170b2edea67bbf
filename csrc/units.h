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
};

// Turns rows of planes into lists, a limited number at a time.
class UnitMaker {
  public:
    UnitMaker(uint32_t fan_in, const Ops& ops) : fan_in_(fan_in), ops_(ops) {}
    // The lists of rows `begin`, ...: at most `limit` of them, and no more than one beyond
    // kListBytes. They lie in buffer, `bytes()` of them.
    UnitRows make(const PlaneRows& rows, uint32_t begin, uint32_t limit,
                  WeightVector<uint8_t>& buffer);
    size_t bytes() const { return bytes_; }

  private:
    uint32_t fan_in_;
    const Ops& ops_;
    size_t bytes_ = 0;
};

// Resident lists, in groups that do not cross a convolution group of `group_rows` rows.
class ResidentUnits {
  public:
    // Null where they would take more than 2 bits per weight and 8 bytes per row.
    static std::unique_ptr<ResidentUnits> make(const LayerCode& code, uint32_t group_rows,
                                               uint32_t limit, WeightScratch& scratch,
                                               Threads& threads, const Ops& ops);
    size_t groups() const { return groups_.size(); }
    UnitRows group(size_t index) const {
        const Group& g = groups_[index];
        return {g.first, g.count, g.wide, g.lists.data()};
    }
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
