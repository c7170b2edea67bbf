#include "weights.h"

#include <algorithm>
#include <cstring>

namespace slt {

WeightScratch::WeightScratch(const WeightMemoryPtr& memory, uint32_t threads)
    : mask(Counted<uint32_t>(memory)),
      kept(Counted<uint64_t>(memory)),
      sign(Counted<uint64_t>(memory)),
      lists(threads, WeightVector<uint8_t>(Counted<uint8_t>(memory))) {}

namespace {

// Planes of `count` rows from `first` on, all of one tile, into scratch; mask is null where the
// layer has none.
PlaneRows regenerate(const LayerCode& code, uint32_t tile, uint32_t first, uint32_t count,
                     const uint32_t* mask, WeightScratch& scratch, Threads& threads,
                     const Ops& ops) {
    const size_t words = code.row_words();
    uint64_t* kept = WeightScratch::room(scratch.kept, count * words);
    uint64_t* sign = WeightScratch::room(scratch.sign, count * words);
    if (mask) {
        scratch.counts.resize(count);
        scratch.starts.resize(count);
    }
    uint32_t* counts = mask ? scratch.counts.data() : nullptr;
    threads.run([&](uint32_t part) {
        const auto [begin, end] = share(count, 1, part, threads.count());
        if (begin == end) return;
        code.freeze_rows(first + begin, end - begin, kept + begin * words, sign + begin * words,
                         counts ? counts + begin : nullptr, ops);
    });
    if (mask) {
        uint64_t total = 0;
        for (uint32_t row = 0; row < count; ++row) {
            scratch.starts[row] = code.mask_start(tile) + total;
            total += scratch.counts[row];
        }
        code.check_free(tile, total);
    }
    const uint64_t* starts = mask ? scratch.starts.data() : nullptr;
    threads.run([&](uint32_t part) {
        const auto [begin, end] = share(count, 1, part, threads.count());
        if (begin == end) return;
        code.finish_rows(first + begin, end - begin, mask, starts ? starts + begin : nullptr,
                         kept + begin * words, sign + begin * words, ops);
    });
    return {first, count, words, kept, sign};
}

// The mask bits of kTilesTogether tiles, or of those that are left, into scratch: side by side, or
// by as many threads.
void decode_ahead(const LayerCode& code, uint32_t first, uint32_t* (&masks)[kTilesTogether],
                  WeightScratch& scratch, Threads& threads, const Ops& ops) {
    const uint32_t count = std::min<uint32_t>(kTilesTogether, code.tiles() - first);
    size_t words[kTilesTogether + 1] = {};
    for (uint32_t i = 0; i < count; ++i) words[i + 1] = words[i] + code.mask_words(first + i);
    uint32_t* mask = WeightScratch::room(scratch.mask, words[count]);
    for (uint32_t i = 0; i < count; ++i) masks[i] = mask + words[i];
    threads.run([&](uint32_t part) {
        const auto [begin, end] = share(count, 1, part, threads.count());
        if (begin < end) code.decode_masks(first + begin, end - begin, masks + begin, ops);
    });
}

uint32_t rows_at_once(size_t row_words) {
    return static_cast<uint32_t>(std::max<size_t>(1, kGroupPositions / (64 * row_words)));
}

}  // namespace

void stream_planes(const LayerCode& code, WeightScratch& scratch, Threads& threads, const Ops& ops,
                   const std::function<void(const PlaneRows&)>& use) {
    uint32_t* masks[kTilesTogether] = {};
    for (uint32_t index = 0; index < code.tiles(); ++index) {
        if (code.has_mask() && index % kTilesTogether == 0)
            decode_ahead(code, index, masks, scratch, threads, ops);
        const Tile& tile = code.tile(index);
        const uint32_t step =
            code.has_mask() ? tile.rows : std::min(tile.rows, rows_at_once(code.row_words()));
        for (uint32_t row = 0; row < tile.rows; row += step) {
            const uint32_t count = std::min(step, tile.rows - row);
            use(regenerate(code, index, tile.first_row + row, count, masks[index % kTilesTogether],
                           scratch, threads, ops));
        }
    }
}

ResidentPlanes::ResidentPlanes(const LayerCode& code, WeightScratch& scratch, Threads& threads,
                               const Ops& ops)
    : out_(code.fields().out),
      fan_in_(code.fields().fan_in),
      rows_(Counted<uint8_t>(code.memory())) {
    const size_t bytes = (size_t{fan_in_} + 7) / 8;
    rows_.resize(2 * bytes * out_);
    stream_planes(code, scratch, threads, ops, [&](const PlaneRows& rows) {
        for (uint32_t i = 0; i < rows.count; ++i) {
            uint8_t* to = rows_.data() + 2 * bytes * (rows.first + i);
            std::memcpy(to, rows.kept + i * rows.row_words, bytes);  // little-endian machines only
            std::memcpy(to + bytes, rows.sign + i * rows.row_words, bytes);
        }
    });
}

void ResidentPlanes::visit(WeightScratch& scratch,
                           const std::function<void(const PlaneRows&)>& use) const {
    const size_t bytes = (size_t{fan_in_} + 7) / 8, words = (size_t{fan_in_} + 127) / 128 * 2;
    const uint32_t step = std::min(out_, rows_at_once(words));
    uint64_t* kept = WeightScratch::room(scratch.kept, step * words);
    uint64_t* sign = WeightScratch::room(scratch.sign, step * words);
    for (uint32_t first = 0; first < out_; first += step) {
        const uint32_t count = std::min(step, out_ - first);
        for (uint32_t i = 0; i < count; ++i) {
            const uint8_t* from = rows_.data() + 2 * bytes * (first + i);
            kept[(i + 1) * words - 1] = kept[(i + 1) * words - 2] = 0;
            sign[(i + 1) * words - 1] = sign[(i + 1) * words - 2] = 0;
            std::memcpy(kept + i * words, from, bytes);
            std::memcpy(sign + i * words, from + bytes, bytes);
        }
        use({first, count, words, kept, sign});
    }
}

}  // namespace slt
