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

UnitRows UnitMaker::make(const PlaneRows& rows, uint32_t begin, uint32_t limit,
                         WeightVector<uint8_t>& buffer) {
    const uint32_t end = std::min({rows.count, begin + limit, begin + kUnitRows});
    const size_t wide_words = kWideBlock / 64;
    uint64_t kept = 0, most = 0;  // of a row in a wide block
    uint32_t count = 0;
    bool wide = true;
    for (; begin + count < end && most_bytes(kept, count, fan_in_, false) < kListBytes; ++count) {
        const uint64_t* row = rows.kept + (begin + count) * rows.row_words;
        for (size_t word = 0; word < rows.row_words; word += wide_words) {
            const uint64_t here =
                ops_.count_bits(row + word, std::min(wide_words, rows.row_words - word));
            kept += here;
            most = std::max(most, here);
        }
    }
    wide = most <= kNarrowKept && kept * kWideSparsity <= uint64_t{count} * fan_in_;
    uint8_t* out = WeightScratch::room(buffer, most_bytes(kept, count, fan_in_, wide) + kListPadding);
    uint8_t* at = out;
    uint16_t since[kUnitRows] = {};
    const size_t block_words = (wide ? kWideBlock : kNarrowBlock) / 64;
    for (size_t word = 0; word < rows.row_words; word += block_words) {
        const size_t first = begin * rows.row_words + word;
        at = ops_.list_units(
            rows.kept + first, rows.sign + first, rows.row_words, count,
            static_cast<uint32_t>(std::min(block_words, rows.row_words - word)), wide, since, at);
    }
    bytes_ = static_cast<size_t>(at - out);
    return {rows.first + begin, count, wide, out};
}

std::unique_ptr<ResidentUnits> ResidentUnits::make(const LayerCode& code, uint32_t group_rows,
                                                   uint32_t limit, WeightScratch& scratch,
                                                   Threads& threads, const Ops& ops) {
    const uint32_t out = code.fields().out, fan_in = code.fields().fan_in;
    const size_t most = size_t{out} * fan_in / 4 + 8 * size_t{out};
    auto units = std::make_unique<ResidentUnits>();
    UnitMaker maker(fan_in, ops);
    size_t bytes = 0;
    stream_planes(code, scratch, threads, ops, [&](const PlaneRows& rows) {
        for (uint32_t row = 0; row < rows.count && bytes <= most;) {
            const uint32_t group_end =
                ((rows.first + row) / group_rows + 1) * group_rows - rows.first;
            const PlaneRows part = rows.part(row, std::min(rows.count, group_end));
            const UnitRows made = maker.make(part, 0, limit, scratch.lists[0]);
            units->groups_.push_back({made.first, made.count, made.wide,
                                      WeightVector<uint8_t>(made.lists, made.lists + maker.bytes(),
                                                            Counted<uint8_t>(code.memory()))});
            bytes += maker.bytes();
            row += made.count;
        }
    });
    units->groups_.shrink_to_fit();
    if (units->bytes() > most) return nullptr;
    return units;
}

size_t ResidentUnits::bytes() const {
    size_t total = groups_.capacity() * sizeof(Group);
    for (const Group& group : groups_) total += group.lists.capacity();
    return total;
}

}  // namespace slt
