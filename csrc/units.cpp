#include "units.h"

#include <algorithm>

namespace slt {

namespace {

// Wide lists where at most one weight in so many is kept: their entries are twice as long, their
// blocks four times.
constexpr uint64_t kWideSparsity = 9;

uint32_t blocks_of(uint32_t fan_in, bool wide) {
    const uint32_t block = wide ? kWideBlock : kNarrowBlock;
    return (fan_in + block - 1) / block;
}

// Bytes of lists at most: of each block and sign a row's number and a class for every row, and the
// ends.
size_t most_bytes(uint64_t kept, uint32_t rows, uint32_t fan_in, bool wide) {
    const size_t blocks = blocks_of(fan_in, wide);
    return (wide ? 2 : 1) * (kept + blocks * (3 + 6 * size_t{rows}));
}

}  // namespace

UnitMaker::Plan UnitMaker::plan(const PlaneRows& rows, uint32_t first, size_t room) const {
    const uint32_t group_end = ((rows.first + first) / group_rows_ + 1) * group_rows_ - rows.first;
    const uint32_t limit = std::min({rows.count, group_end, first + std::min(limit_, kUnitRows)});
    const size_t wide_words = kWideBlock / 64;
    uint64_t kept = 0, most = 0;  // of a row in a wide block
    uint32_t end = first;
    for (; end < limit && (end == first || most_bytes(kept, end - first, fan_in_, false) < room);
         ++end) {
        const uint64_t* row = rows.kept + end * rows.row_words;
        for (size_t word = 0; word < rows.row_words; word += wide_words) {
            const uint64_t here =
                ops_.count_bits(row + word, std::min(wide_words, rows.row_words - word));
            kept += here;
            most = std::max(most, here);
        }
    }
    const uint32_t count = end - first;
    const bool wide = most <= kNarrowKept && kept * kWideSparsity <= uint64_t{count} * fan_in_;
    return {first, count, wide, most_bytes(kept, count, fan_in_, wide) + 1};
}

std::vector<UnitRows> UnitMaker::make(const PlaneRows& rows, WeightVector<uint8_t>& buffer) const {
    std::vector<Plan> plans;
    size_t bytes = 0;
    for (uint32_t row = 0; row < rows.count && bytes < kListBytes; row += plans.back().count) {
        plans.push_back(plan(rows, row, kListBytes - bytes));
        bytes += plans.back().bytes;
    }
    uint8_t* at = WeightScratch::room(buffer, bytes + kListPadding);
    std::vector<UnitRows> made;
    for (const Plan& p : plans) {
        uint8_t* lists = at;
        uint16_t since[kUnitRows] = {};
        const size_t block_words = (p.wide ? kWideBlock : kNarrowBlock) / 64;
        for (size_t word = 0; word < rows.row_words; word += block_words) {
            const size_t begin = p.first * rows.row_words + word;
            at =
                ops_.list_units(rows.kept + begin, rows.sign + begin, rows.row_words, p.count,
                                static_cast<uint32_t>(std::min(block_words, rows.row_words - word)),
                                p.wide, since, at);
        }
        made.push_back(
            {rows.first + p.first, p.count, p.wide, lists, static_cast<size_t>(at - lists)});
        at += reinterpret_cast<uintptr_t>(at) % 2;  // wide lists are of uint16
    }
    return made;
}

std::unique_ptr<ResidentUnits> ResidentUnits::make(const LayerCode& code, uint32_t group_rows,
                                                   uint32_t limit, WeightScratch& scratch,
                                                   Threads& threads, const Ops& ops) {
    const uint32_t out = code.fields().out, fan_in = code.fields().fan_in;
    const size_t most = size_t{out} * fan_in / 4 + 8 * size_t{out};
    auto units = std::make_unique<ResidentUnits>();
    const UnitMaker maker(fan_in, group_rows, limit, ops);
    size_t bytes = 0;
    stream_planes(code, scratch, threads, ops, [&](const PlaneRows& rows) {
        for (uint32_t row = 0; row < rows.count && bytes <= most;) {
            for (const UnitRows& made : maker.make(rows.part(row, rows.count), scratch.lists[0])) {
                units->groups_.push_back({made.first, made.count, made.wide,
                                          WeightVector<uint8_t>(made.lists, made.lists + made.bytes,
                                                                Counted<uint8_t>(code.memory()))});
                bytes += made.bytes;
                row += made.count;
            }
        }
    });
    units->groups_.shrink_to_fit();
    if (units->bytes() > most) return nullptr;
    return units;
}

std::vector<UnitRows> ResidentUnits::rows() const {
    std::vector<UnitRows> all;
    for (const Group& g : groups_)
        all.push_back({g.first, g.count, g.wide, g.lists.data(), g.lists.size()});
    return all;
}

size_t ResidentUnits::bytes() const {
    size_t total = groups_.capacity() * sizeof(Group);
    for (const Group& group : groups_) total += group.lists.capacity();
    return total;
}

}  // namespace slt
