#include "lists.h"

#include <algorithm>

namespace slt {

ListMaker::Plan ListMaker::plan(const PlaneRows& rows, uint32_t first, size_t room) {
    const uint32_t group_end = ((rows.first + first) / group_rows_ + 1) * group_rows_ - rows.first;
    const uint32_t limit = std::min({rows.count, group_end, first + kListRows});
    Plan plan{first, 0, 0, steps_.size()};
    for (uint32_t end = first; end < limit && plan.bytes < room;) {
        const uint32_t present = std::min(bundle_, limit - end);
        const size_t word = end * rows.row_words;
        for (uint32_t block = 0; block < blocks_; ++block) {
            const uint32_t steps =
                ops_.list_steps(rows.kept + word + 2 * size_t{block},
                                rows.sign + word + 2 * size_t{block}, rows.row_words, present);
            steps_.push_back(static_cast<uint8_t>(steps));
            plan.bytes += 1 + size_t{2} * bundle_ * steps;
        }
        end += present;
        plan.count = end - first;
    }
    return plan;
}

uint8_t* ListMaker::write(const PlaneRows& rows, const Plan& plan, uint8_t* out) const {
    const uint32_t end = plan.first + plan.count;
    for (uint32_t block = 0; block < blocks_; ++block) {
        const uint32_t positions = std::min(128u, fan_in_ - 128 * block);
        size_t at = plan.steps + block;
        for (uint32_t row = plan.first; row < end; row += bundle_, at += blocks_) {
            const size_t word = row * rows.row_words + 2 * size_t{block};
            *out++ = steps_[at];
            ops_.list_bundle(rows.kept + word, rows.sign + word, rows.row_words,
                             std::min(bundle_, end - row), bundle_, positions, steps_[at], out);
            out += size_t{2} * bundle_ * steps_[at];
        }
    }
    return out;
}

std::vector<ListRows> ListMaker::make(const PlaneRows& rows, WeightVector<uint8_t>& buffer,
                                      size_t& used) {
    std::vector<Plan> plans;
    size_t bytes = used;
    steps_.clear();
    for (uint32_t row = 0; row < rows.count && bytes < kListBytes; row += plans.back().count) {
        plans.push_back(plan(rows, row, kListBytes - bytes));
        bytes += plans.back().bytes;
    }
    if (used == 0) {
        const size_t bundle = blocks_ * (1 + size_t{256} * bundle_);  // bytes at most
        WeightScratch::room(buffer, std::min(kListBytes + bundle, rows_ * bundle) + kListPadding);
    }
    uint8_t* out = buffer.data() + used;
    used = bytes;
    std::vector<ListRows> made;
    for (const Plan& p : plans) {
        made.push_back({rows.first + p.first, p.count, out, p.bytes});
        out = write(rows, p, out);
    }
    return made;
}

ResidentLists::ResidentLists(const LayerCode& code, uint32_t group_rows, uint32_t bundle,
                             WeightScratch& scratch, Threads& threads, const Ops& ops)
    : bundle_(bundle) {
    ListMaker maker(code.fields().out, code.fields().fan_in, group_rows, bundle, ops);
    stream_planes(code, scratch, threads, ops, [&](const PlaneRows& rows) {
        for (uint32_t row = 0; row < rows.count;) {
            size_t used = 0;
            for (const ListRows& made :
                 maker.make(rows.part(row, rows.count), scratch.lists[0], used)) {
                groups_.push_back({made.first, made.count,
                                   WeightVector<uint8_t>(made.lists, made.lists + made.bytes,
                                                         Counted<uint8_t>(code.memory()))});
                row += made.count;
            }
        }
    });
}

std::vector<ListRows> ResidentLists::rows() const {
    std::vector<ListRows> all;
    for (const Group& group : groups_)
        all.push_back({group.first, group.count, group.lists.data(), group.lists.size()});
    return all;
}

size_t ResidentLists::bytes() const {
    size_t total = groups_.capacity() * sizeof(Group);
    for (const Group& group : groups_) total += group.lists.capacity();
    return total;
}

}  // namespace slt
