#include "weights.h"

#include <algorithm>
#include <cstring>

namespace slt {

WeightScratch::WeightScratch(const WeightMemoryPtr& memory, uint32_t threads)
    : planes(threads, {WeightVector<uint32_t>(Counted<uint32_t>(memory)),
                       WeightVector<uint64_t>(Counted<uint64_t>(memory)),
                       WeightVector<uint64_t>(Counted<uint64_t>(memory))}),
      lists(threads, WeightVector<uint8_t>(Counted<uint8_t>(memory))) {}

namespace {

// The mask bits of `count` <= kTilesTogether tiles from `first` on: masks[i] are those of the i-th.
void decode_tiles(const LayerCode& code, uint32_t first, uint32_t count,
                  WeightVector<uint32_t>& buffer, uint32_t* (&masks)[kTilesTogether],
                  const Ops& ops) {
    size_t words[kTilesTogether + 1] = {};
    for (uint32_t i = 0; i < count; ++i) words[i + 1] = words[i] + code.mask_words(first + i);
    uint32_t* mask = WeightScratch::room(buffer, words[count]);
    for (uint32_t i = 0; i < count; ++i) masks[i] = mask + words[i];
    code.decode_masks(first, count, masks, ops);
}

// Rows of a tile, all of them where there is a mask, `step` at a time, on one thread.
void stream_tile(const LayerCode& code, uint32_t index, Range of_tile, const uint32_t* mask,
                 uint32_t step, WeightScratch::Planes& scratch, uint32_t part, const Ops& ops,
                 const UseRows& use) {
    const Tile& tile = code.tile(index);
    const size_t words = code.row_words(), most = std::min(step, of_tile.end - of_tile.begin);
    uint64_t* kept = WeightScratch::room(scratch.kept, most * words);
    uint64_t* sign = WeightScratch::room(scratch.sign, most * words);
    uint64_t counted = 0;
    for (uint32_t row = of_tile.begin; row < of_tile.end; row += step) {
        const uint32_t first = tile.first_row + row, count = std::min(step, of_tile.end - row);
        const uint64_t start = code.mask_start(index) + counted;
        counted += code.freeze_rows(first, count, kept, sign, ops);
        code.check_room(index, counted);
        code.finish_rows(first, count, mask, start, kept, sign, ops);
        use({first, count, words, kept, sign}, part);
    }
    code.check_free(index, counted);
}

// All rows of a tile that has a mask, `step` at a time. Threads share them, and each decodes the bits
// of all: what one has written would take the others as long to read.
void share_tile(const LayerCode& code, uint32_t index, uint32_t step, WeightScratch& scratch,
                Threads& threads, const Ops& ops, const UseRows& use) {
    const Tile& tile = code.tile(index);
    const size_t words = code.row_words();
    const uint32_t parts = threads.count();
    std::vector<uint64_t> starts(parts + 1);
    threads.run([&](uint32_t part) {
        const auto [begin, end] = share(tile.rows, 4, part, parts);
        if (begin == end) return;
        WeightScratch::Planes& mine = scratch.planes[part];
        uint64_t* kept = WeightScratch::room(mine.kept, (end - begin) * words);
        uint64_t* sign = WeightScratch::room(mine.sign, (end - begin) * words);
        starts[part + 1] =
            code.freeze_rows(tile.first_row + begin, end - begin, kept, sign, ops);
        uint32_t* masks[kTilesTogether];
        decode_tiles(code, index, 1, mine.mask, masks, ops);
    });
    starts[0] = code.mask_start(index);
    for (uint32_t part = 0; part < parts; ++part) starts[part + 1] += starts[part];
    code.check_free(index, starts[parts] - starts[0]);
    threads.run([&](uint32_t part) {
        const auto [begin, end] = share(tile.rows, 4, part, parts);
        WeightScratch::Planes& mine = scratch.planes[part];
        uint64_t *kept = mine.kept.data(), *sign = mine.sign.data(), start = starts[part];
        for (uint32_t row = begin; row < end; row += step) {
            const uint32_t first = tile.first_row + row, count = std::min(step, end - row);
            const uint64_t free = ops.count_bits(kept, count * words);
            code.finish_rows(first, count, mine.mask.data(), start, kept, sign, ops);
            use({first, count, words, kept, sign}, part);
            start += free, kept += count * words, sign += count * words;
        }
    });
}

// Rows of a tile, all of them where there is a mask, by all threads: their planes are whole in
// scratch. mask null: it is decoded here.
PlaneRows make_rows(const LayerCode& code, uint32_t index, uint32_t first, uint32_t count,
                    const uint32_t* mask, WeightScratch& scratch, Threads& threads,
                    const Ops& ops) {
    const size_t words = code.row_words();
    WeightScratch::Planes& planes = scratch.planes[0];
    uint64_t* kept = WeightScratch::room(planes.kept, count * words);
    uint64_t* sign = WeightScratch::room(planes.sign, count * words);
    const uint32_t parts = threads.count();
    const bool decoding = code.has_mask() && !mask;
    std::vector<uint64_t> starts(parts + 1);
    Work frozen(parts + decoding);
    threads.run([&](uint32_t) {
        for (uint32_t item; frozen.next(item);) {
            if (decoding && item == 0) {  // the longest, so first
                uint32_t* masks[kTilesTogether];
                decode_tiles(code, index, 1, planes.mask, masks, ops);
                continue;
            }
            const auto [begin, end] = share(count, 1, item - decoding, parts);
            starts[item - decoding + 1] = code.freeze_rows(
                first + begin, end - begin, kept + begin * words, sign + begin * words, ops);
        }
    });
    if (code.has_mask()) {
        starts[0] = code.mask_start(index);
        for (uint32_t part = 0; part < parts; ++part) starts[part + 1] += starts[part];
        code.check_free(index, starts[parts] - starts[0]);
    }
    if (decoding) mask = planes.mask.data();
    threads.run([&](uint32_t part) {
        const auto [begin, end] = share(count, 1, part, parts);
        code.finish_rows(first + begin, end - begin, mask, starts[part], kept + begin * words,
                         sign + begin * words, ops);
    });
    return {first, count, words, kept, sign};
}

// Rows of a group whose planes take kGroupBytes, `most` at most.
uint32_t group_rows(size_t row_words, uint32_t most) {
    const size_t rows = kGroupBytes / (2 * sizeof(uint64_t) * row_words);
    return static_cast<uint32_t>(std::clamp<size_t>(rows, 1, most));
}

uint32_t rows_at_once(size_t row_words) {
    return static_cast<uint32_t>(std::max<size_t>(1, kGroupPositions / (64 * row_words)));
}

}  // namespace

size_t group_bytes(const LayerCode& code, uint32_t threads) {
    size_t masks = 0, rows = code.has_mask() ? 0 : rows_at_once(code.row_words());
    for (uint32_t tile = 0; tile < code.tiles(); ++tile) {
        const size_t next = tile + 1 < code.tiles() ? code.mask_words(tile + 1) : 0;
        masks = std::max(masks, sizeof(uint32_t) * (code.mask_words(tile) + next));
        if (code.has_mask()) rows = std::max<size_t>(rows, code.tile(tile).rows);
    }
    const size_t row_bytes = 2 * sizeof(uint64_t) * code.row_words();
    // Lists of a bundle of four rows, a byte for each position and sign, may lie beyond the limit.
    const size_t lists = kListBytes + 9 * 64 * code.row_words() + kListPadding;
    return rows * row_bytes + threads * (masks + std::max(kGroupBytes, row_bytes) + lists);
}

void stream_rows(const LayerCode& code, uint32_t most, bool all, WeightScratch& scratch,
                 Threads& threads, const Ops& ops, const UseRows& use) {
    const uint32_t step = group_rows(code.row_words(), most), parts = threads.count();
    const uint32_t tiles = code.tiles();
    const auto mine = [&](uint32_t size, uint32_t part) {
        return all ? Range{0, size} : share(size, 1, part, parts);
    };
    if (!code.has_mask()) {
        threads.run([&](uint32_t part) {
            stream_tile(code, 0, mine(code.fields().out, part), nullptr, step, scratch.planes[part],
                        part, ops, use);
        });
    } else {
        const uint32_t equal = tiles - (code.tile(tiles - 1).rows < code.tile(0).rows);
        // That one thread has each.
        const uint32_t whole = all || parts == 1 ? tiles : equal - equal % parts;
        if (whole) {
            threads.run([&](uint32_t part) {
                const auto [begin, end] = mine(whole, part);
                for (uint32_t first = begin; first < end; first += kTilesTogether) {
                    uint32_t* masks[kTilesTogether];
                    const uint32_t count = std::min<uint32_t>(kTilesTogether, end - first);
                    decode_tiles(code, first, count, scratch.planes[part].mask, masks, ops);
                    for (uint32_t i = 0; i < count; ++i) {
                        stream_tile(code, first + i, {0, code.tile(first + i).rows}, masks[i], step,
                                    scratch.planes[part], part, ops, use);
                    }
                }
            });
        }
        for (uint32_t tile = whole; tile < tiles; ++tile)
            share_tile(code, tile, step, scratch, threads, ops, use);
    }
}

void stream_planes(const LayerCode& code, WeightScratch& scratch, Threads& threads, const Ops& ops,
                   const std::function<void(const PlaneRows&)>& use) {
    uint32_t* masks[kTilesTogether] = {};
    for (uint32_t index = 0; index < code.tiles(); ++index) {
        const Tile& tile = code.tile(index);
        const uint32_t most = code.has_mask() ? tile.rows : rows_at_once(code.row_words());
        if (code.has_mask() && threads.count() == 1 && index % kTilesTogether == 0) {
            const uint32_t count = std::min<uint32_t>(kTilesTogether, code.tiles() - index);
            decode_tiles(code, index, count, scratch.planes[0].mask, masks, ops);
        }
        for (uint32_t row = 0; row < tile.rows; row += most) {
            const uint32_t count = std::min(most, tile.rows - row);
            use(make_rows(code, index, tile.first_row + row, count, masks[index % kTilesTogether],
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

PlaneRows ResidentPlanes::unpack(uint32_t first, uint32_t count,
                                 WeightScratch::Planes& scratch) const {
    const size_t bytes = (size_t{fan_in_} + 7) / 8, words = (size_t{fan_in_} + 127) / 128 * 2;
    uint64_t* kept = WeightScratch::room(scratch.kept, count * words);
    uint64_t* sign = WeightScratch::room(scratch.sign, count * words);
    for (uint32_t i = 0; i < count; ++i) {
        const uint8_t* from = rows_.data() + 2 * bytes * (first + i);
        kept[(i + 1) * words - 1] = kept[(i + 1) * words - 2] = 0;
        sign[(i + 1) * words - 1] = sign[(i + 1) * words - 2] = 0;
        std::memcpy(kept + i * words, from, bytes);
        std::memcpy(sign + i * words, from + bytes, bytes);
    }
    return {first, count, words, kept, sign};
}

void ResidentPlanes::share_rows(uint32_t most, bool all, WeightScratch& scratch, Threads& threads,
                                const UseRows& use) const {
    const uint32_t step = std::min(most, rows_at_once((size_t{fan_in_} + 127) / 128 * 2));
    threads.run([&](uint32_t part) {
        const auto [begin, end] = all ? Range{0, out_} : share(out_, 4, part, threads.count());
        for (uint32_t first = begin; first < end; first += step)
            use(unpack(first, std::min(step, end - first), scratch.planes[part]), part);
    });
}

}  // namespace slt
