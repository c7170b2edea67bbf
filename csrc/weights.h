// What the kernels of one layer read its weights from: regenerated row group by row group at every
// use (stream), or kept in the form that the kernel reads (resident).
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "layer.h"
#include "threads.h"

namespace slt {

// Rows of bit planes: row first + i at kept + i * row_words, sign likewise (docs/format.md, section
// 2; padding 0).
struct PlaneRows {
    uint32_t first, count;
    size_t row_words;
    const uint64_t* kept;
    const uint64_t* sign;

    PlaneRows part(uint32_t begin, uint32_t end) const {
        return {first + begin, end - begin, row_words, kept + begin * row_words,
                sign + begin * row_words};
    }
};

// Buffers that layers share, grown as needed and kept; counted, as all that holds weights.
class WeightScratch {
  public:
    WeightScratch(const WeightMemoryPtr& memory, uint32_t threads);

    template <class T>
    static T* room(WeightVector<T>& buffer, size_t size) {
        if (buffer.size() < size) {
            WeightVector<T>(buffer.get_allocator())
                .swap(buffer);  // free first: old and new never exist together
            buffer.resize(size);
        }
        return buffer.data();
    }

    struct Planes {
        WeightVector<uint32_t> mask;
        WeightVector<uint64_t> kept, sign;
    };
    std::vector<Planes> planes;                // one per thread
    std::vector<WeightVector<uint8_t>> lists;  // one per thread
};

// Takes rows whose planes live until it returns; `part` is the calling thread's number.
using UseRows = std::function<void(const PlaneRows& rows, uint32_t part)>;

// Stream: each thread regenerates some rows at a time, at most `most` and kGroupBytes of planes
// unless a row has more, and calls use with them while they are in its second-level cache. What it
// decodes ahead is the mask bits of kTilesTogether tiles. all: each thread does so with all rows, in
// their order. Else each row comes once: the threads share the tiles, and the rows of those that are
// too many for even shares, whose planes then exist as a whole.
void stream_rows(const LayerCode& code, uint32_t most, bool all, WeightScratch& scratch,
                 Threads& threads, const Ops& ops, const UseRows& use);
constexpr size_t kGroupBytes = 1u << 15;
// Bytes that regenerating a layer and its kernel's lists take at most, beside the coded mask.
size_t group_bytes(const LayerCode& code, uint32_t threads);

// The same in ascending order and for the calling thread: use(rows) sees one tile of the file, or
// where the layer has no index at most kGroupPositions positions.
void stream_planes(const LayerCode& code, WeightScratch& scratch, Threads& threads, const Ops& ops,
                   const std::function<void(const PlaneRows&)>& use);
constexpr uint32_t kGroupPositions = 1u << 18;

// Resident planes: rows of ceil(K / 8) bytes each, kept then sign: at most 2 bits per weight and 14
// bits a row.
class ResidentPlanes {
  public:
    ResidentPlanes(const LayerCode& code, WeightScratch& scratch, Threads& threads, const Ops& ops);
    // Each thread unpacks its share of the rows, or all: at most `most` at a time, for use.
    void share_rows(uint32_t most, bool all, WeightScratch& scratch, Threads& threads,
                    const UseRows& use) const;
    size_t bytes() const { return rows_.capacity(); }

  private:
    PlaneRows unpack(uint32_t first, uint32_t count, WeightScratch::Planes& scratch) const;

    uint32_t out_, fan_in_;
    WeightVector<uint8_t> rows_;
};

// The share `part` of `parts` of rows in order, by the bytes that their weights take: `bytes` of each.
template <class Rows>
std::vector<Rows> share_bytes(const std::vector<Rows>& all, uint32_t part, uint32_t parts) {
    uint64_t total = 0, before = 0;
    for (const Rows& rows : all) total += rows.bytes;
    std::vector<Rows> mine;
    for (const Rows& rows : all) {
        const uint64_t middle = 2 * before + rows.bytes;  // times parts in 2 * total: of which share
        if (middle * parts / (2 * total + 1) == part) mine.push_back(rows);
        before += rows.bytes;
    }
    return mine;
}

// What lists made for one use take, in each thread.
constexpr size_t kListBytes = 1u << 17;

}  // namespace slt
