// Offset lists (conv_inl.h): what the f32 kernel reads its weights from.
#pragma once

#include <vector>

#include "weights.h"

namespace slt {

// The offset lists of `count` rows from `first` on, at most kListRows, block after block, bundle
// after bundle. Where count is no multiple of the bundle, the last bundle's other rows are empty.
struct ListRows {
    uint32_t first, count;
    const uint8_t* lists;
    size_t bytes;
};
constexpr uint32_t kListRows = 64;

// Turns rows of planes, of a layer of `rows` rows, into lists: rows of one convolution group of
// `group_rows` rows together.
class ListMaker {
  public:
    ListMaker(uint32_t rows, uint32_t fan_in, uint32_t group_rows, uint32_t bundle, const Ops& ops)
        : rows_(rows),
          fan_in_(fan_in),
          blocks_((fan_in + 127) / 128),
          group_rows_(group_rows),
          bundle_(bundle),
          ops_(ops) {}
    // The lists of the first of the rows, behind `used` bytes of others in the buffer, which then
    // has no more than one bundle beyond kListBytes. The buffer grows only where used is 0.
    std::vector<ListRows> make(const PlaneRows& rows, WeightVector<uint8_t>& buffer, size_t& used);

  private:
    // Some of the rows, the bytes of their lists, and where in steps_ theirs begin.
    struct Plan {
        uint32_t first, count;
        size_t bytes, steps;
    };
    Plan plan(const PlaneRows& rows, uint32_t first, size_t room);
    uint8_t* write(const PlaneRows& rows, const Plan& plan, uint8_t* out) const;

    uint32_t rows_, fan_in_, blocks_, group_rows_, bundle_;
    const Ops& ops_;
    std::vector<uint8_t> steps_;  // [bundle][block]
};

// Resident lists, in groups that do not cross a convolution group of `group_rows` rows.
class ResidentLists {
  public:
    ResidentLists(const LayerCode& code, uint32_t group_rows, uint32_t bundle,
                  WeightScratch& scratch, Threads& threads, const Ops& ops);
    uint32_t bundle() const { return bundle_; }
    // All of them, there as long as this is.
    std::vector<ListRows> rows() const;
    size_t bytes() const;

  private:
    struct Group {
        uint32_t first, count;
        WeightVector<uint8_t> lists;
    };
    uint32_t bundle_;
    std::vector<Group> groups_;
};

}  // namespace slt
