#include "dot.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <stdexcept>

#include "images.h"

namespace slt {

namespace {

constexpr uint32_t kTileVectors = 2;
// Tiles whose sums are stored together, and rows whose weights are bytes at the same time, at most.
constexpr uint32_t kRunTiles = 4, kByteRows = 64;
constexpr size_t kByteBytes = size_t{1} << 17;

uint8_t* aligned_room(std::vector<uint8_t>& buffer, size_t bytes) {
    uint8_t* p = room(buffer, bytes + 64);
    return p + (64 - reinterpret_cast<uintptr_t>(p) % 64) % 64;
}

// A convolution's positions in quads: those of one kernel tap, four channels each, the last quad of
// a tap filled up with weights of 0.
struct Quads {
    explicit Quads(const ConvShape& s)
        : channel_quads((s.inputs() + 3) / 4),
          taps(s.kernel_rows * s.kernel_columns),
          count(taps * channel_quads),
          rows(s.height + 2 * size_t{s.padding}),
          columns(s.width + 2 * size_t{s.padding}) {}

    uint32_t channel_quads, taps, count;
    size_t rows, columns;  // of a padded image

    size_t group_bytes() const { return 4 * channel_quads * rows * columns; }
    size_t row_bytes() const { return (4 * size_t{count} + 63) / 64 * 64; }
    // Where quads lie, in pixels of four bytes, relative to the first pixel of a window.
    std::vector<uint32_t> offsets(const ConvShape& s) const {
        std::vector<uint32_t> all;
        all.reserve(count);
        for (uint32_t row = 0; row < s.kernel_rows; ++row) {
            for (uint32_t column = 0; column < s.kernel_columns; ++column) {
                for (uint32_t quad = 0; quad < channel_quads; ++quad) {
                    all.push_back(
                        static_cast<uint32_t>((quad * rows + row) * columns + column));
                }
            }
        }
        return all;
    }
};

// The output pixels [begin, end) of all images as runs, none over the end of an output row.
void find_runs(const ConvShape& s, const Quads& quads, size_t begin, size_t end,
               std::vector<Run>& runs) {
    const size_t pixels = s.out_pixels(), columns = s.out_columns();
    runs.clear();
    while (begin < end) {
        const size_t image = begin / pixels, pixel = begin % pixels, row = pixel / columns,
                     column = pixel % columns;
        const size_t length = std::min(columns - column, end - begin);
        const size_t from = image * s.groups * quads.group_bytes() / 4 +
                            (row * quads.columns + column) * s.stride;
        runs.push_back({static_cast<uint32_t>(from), static_cast<uint32_t>(length)});
        begin += length;
    }
}

// How the output pixels of some images are divided: tiles from the first pixel on and, where few of
// the last vector's pixels exist, columns for those (dot_inl.h).
struct Layout {
    Layout(const ConvShape& s, size_t n, const Ops& ops)
        : quads(s),
          pixels(n * s.out_pixels()),
          lanes(ops.dot_pixels),
          columns(pixels % lanes <= lanes / 2 ? pixels % lanes : 0),
          tiled(pixels - columns),
          width(kTileVectors * lanes),
          tiles((tiled + width - 1) / width),
          tile_bytes(size_t{quads.count} * width * 4 + kTilePadding),
          column_bytes(quads.row_bytes() + kTilePadding) {}

    Quads quads;
    size_t pixels;
    uint32_t lanes, columns;
    size_t tiled;  // pixels in tiles
    uint32_t width;  // pixels of a tile
    size_t tiles, tile_bytes, column_bytes;  // of one group

    size_t group_bytes() const { return tiles * tile_bytes + columns * column_bytes; }
    size_t end(size_t tile) const { return std::min(tiled, (tile + 1) * width); }
    uint32_t vectors(size_t tile) const {
        return static_cast<uint32_t>((end(tile) - tile * width + lanes - 1) / lanes);
    }
};

// Some images and where their sums go.
struct Job {
    const int8_t* x;
    size_t n, first_pixel;  // of all images
    const ConvShape& shape;
    const Sink& sink;
    Workspace& work;
    Layout layout;
    Sharing& sharing;  // of the tiles of each group, `unit` as one
    uint32_t unit;

    Range tiles(const Range& units) const {
        return {units.begin * unit,
                std::min(units.end * unit, static_cast<uint32_t>(layout.tiles))};
    }
};

// Tiles of each group, and all columns or none.
struct Pixels {
    Range tiles;
    bool columns;

    static Pixels of(const Job& job, uint32_t part) {
        const bool last = part + 1 == job.work.threads.count();
        return {job.tiles(job.sharing.mine(part)),
                job.layout.columns > 0 && (last || !job.sharing.by_panels())};
    }
};

// What a thread's pixels read, packed, and from there copied tile by tile and column by column.
class Source {
  public:
    Source(const Job& job, uint32_t part)
        : layout(job.layout),
          x_(job.x),
          shape_(job.shape),
          ops_(job.work.ops),
          offsets_(layout.quads.offsets(job.shape)) {
        const double bytes = static_cast<double>(layout.quads.group_bytes());
        if (static_cast<double>(job.n) * shape_.groups * bytes >= 0x1p34)
            throw std::length_error("images of 2^34 bytes, padding included");
        const size_t all = job.n * shape_.groups * layout.quads.group_bytes();
        images_ = aligned_room(job.work.packed[part], all + kTilePadding);
    }
    const Layout& layout;

    void pack_tiles(const Range& tiles) const {
        pack(tiles.begin * size_t{layout.width}, layout.end(tiles.end - 1));
    }
    void pack_columns() const { pack(layout.tiled, layout.pixels); }
    void tile(size_t group, size_t index, std::vector<Run>& runs, uint8_t* to) const {
        gather(group, index * layout.width, layout.end(index),
               size_t{layout.vectors(index)} * layout.lanes * 4, runs, to);
    }
    void column(size_t group, size_t index, std::vector<Run>& runs, uint8_t* to) const {
        gather(group, layout.tiled + index, layout.tiled + index + 1, 4, runs, to);
    }

  private:
    // Images [n][group][channel quad][row][column][4], padding written out: the rows that the
    // output pixels [begin, end) read.
    void pack(size_t begin, size_t end) const {
        const ConvShape& s = shape_;
        const Quads& quads = layout.quads;
        const size_t pixels = size_t{s.height} * s.width, row_bytes = 4 * quads.columns;
        if (pixels == 1 && s.padding == 0 && s.inputs() % 4 == 0) {  // packed but for the offset
            for (size_t i = begin * s.channels; i < end * s.channels; ++i)
                images_[i] = static_cast<uint8_t>(x_[i] + ops_.dot_offset);
            return;
        }
        for (const ImageRows& read : rows_read(s, begin, end)) {
            const size_t first = std::max<size_t>(read.begin, s.padding),
                         last = std::min<size_t>(read.end, s.padding + s.height);
            for (size_t index = 0; index < size_t{s.groups} * quads.channel_quads; ++index) {
                const size_t group = index / quads.channel_quads,
                             channel = index % quads.channel_quads * 4;
                const int8_t* from[4];  // channels that do not exist are like the first: weights are 0
                for (size_t c = 0; c < 4; ++c) {
                    const size_t real = channel + c < s.inputs() ? channel + c : channel;
                    from[c] = x_ + (read.image * s.channels + group * s.inputs() + real) * pixels +
                              (first - s.padding) * s.width;
                }
                uint8_t* to = images_ + (read.image * s.groups * quads.channel_quads + index) *
                                        quads.rows * row_bytes;
                if (s.padding == 0) {
                    ops_.interleave_channels(from, (last - first) * s.width,
                                             to + first * row_bytes);
                    continue;
                }
                std::memset(to + read.begin * row_bytes, ops_.dot_offset,
                            (read.end - read.begin) * row_bytes);
                to += first * row_bytes + 4 * size_t{s.padding};
                for (size_t row = first; row < last; ++row, to += row_bytes) {
                    ops_.interleave_channels(from, s.width, to);
                    for (const int8_t*& channel_row : from) channel_row += s.width;
                }
            }
        }
    }

    void gather(size_t group, size_t begin, size_t end, size_t quad_bytes, std::vector<Run>& runs,
                uint8_t* to) const {
        find_runs(shape_, layout.quads, begin, end, runs);
        ops_.gather_quads(images_ + group * layout.quads.group_bytes(), offsets_.data(),
                          layout.quads.count, runs.data(), static_cast<uint32_t>(runs.size()),
                          shape_.stride, quad_bytes, to);
    }

    const int8_t* x_;
    const ConvShape& shape_;
    const Ops& ops_;
    std::vector<uint32_t> offsets_;
    uint8_t* images_;
};

// All of a thread's pixels, group after group, tiles and then columns, and room for others.
class Panels {
  public:
    Panels(const Source& source, const Pixels& mine, uint32_t groups, bool kept,
           std::vector<uint8_t>& buffer)
        : source_(source), layout_(source.layout), mine_(mine), kept_(kept) {
        const size_t all = kept ? groups * group_bytes() : 0,
                     columns = mine.columns ? layout_.columns * layout_.column_bytes : 0;
        data_ = aligned_room(buffer, all + std::max(layout_.tile_bytes, columns));
        other_ = data_ + all;
        for (size_t group = 0; kept && group < groups; ++group) {
            uint8_t* to = data_ + group * group_bytes();
            for (size_t i = mine.tiles.begin; i < mine.tiles.end; ++i, to += layout_.tile_bytes)
                source.tile(group, i, runs_, to);
            if (mine.columns) copy_columns(group, to);
        }
    }
    // There until the next call, if it is not kept.
    const uint8_t* tile(size_t group, uint32_t index) {
        if (kept_ && mine_.tiles.has(index))
            return data_ + group * group_bytes() + (index - mine_.tiles.begin) * layout_.tile_bytes;
        source_.tile(group, index, runs_, other_);
        return other_;
    }
    const uint8_t* columns(size_t group) {
        if (kept_)
            return data_ + group * group_bytes() +
                   (mine_.tiles.end - mine_.tiles.begin) * layout_.tile_bytes;
        copy_columns(group, other_);
        return other_;
    }

  private:
    size_t group_bytes() const {
        return (mine_.tiles.end - mine_.tiles.begin) * layout_.tile_bytes +
               (mine_.columns ? layout_.columns * layout_.column_bytes : 0);
    }
    void copy_columns(size_t group, uint8_t* to) {
        for (size_t i = 0; i < layout_.columns; ++i, to += layout_.column_bytes)
            source_.column(group, i, runs_, to);
    }

    const Source& source_;
    const Layout& layout_;
    Pixels mine_;
    bool kept_;
    uint8_t *data_, *other_;
    std::vector<Run> runs_;
};

// Products of some rows at a time with a thread's pixels, to the sink.
class Multiplier {
  public:
    Multiplier(const Job& job, uint32_t part, size_t row_words)
        : job_(job),
          l_(job.layout),
          part_(part),
          mine_(Pixels::of(job, part)),
          source_(job, part),
          row_bytes_(byte_row(job.shape, row_words)),
          weights_(job.work.weights.lists[part]),
          ops_(job.work.ops) {
        if (mine_.tiles.begin < mine_.tiles.end) source_.pack_tiles(mine_.tiles);
        if (mine_.columns) source_.pack_columns();
    }

    // Bytes of a row: where taps are whole quads, as many as are unpacked.
    static size_t byte_row(const ConvShape& s, size_t row_words) {
        return s.inputs() % 4 == 0 ? 64 * row_words : Quads(s).row_bytes();
    }
    // Rows that are bytes at the same time: columns use them once, while they are in the
    // first-level cache.
    static uint32_t limit(const ConvShape& s, const Layout& l, size_t row_words) {
        const size_t bytes = l.tiles ? kByteBytes : kByteBytes / 8;
        return static_cast<uint32_t>(
            std::clamp<size_t>(bytes / byte_row(s, row_words) / 4 * 4, 4, kByteRows));
    }

    // Rows of the group, limit(...) at most; all: they are all that the thread ever multiplies.
    void multiply(const PlaneRows& rows, uint32_t group, bool all) {
        if (!panels_)
            panels_.emplace(source_, mine_, job_.shape.groups, !all, job_.work.tiles[part_]);
        unpack(rows);
        job_.sharing.each(
            part_, ++round_, [&](const Range& some) { source_.pack_tiles(job_.tiles(some)); },
            [&](const Range& some) { add_tiles(group, job_.tiles(some)); });
        if (mine_.columns) add_columns(panels_->columns(group));
    }

  private:
    size_t stride() const { return size_t{kRunTiles} * l_.width; }
    void add_tiles(uint32_t group, const Range& tiles) {
        for (uint32_t first = tiles.begin; first < tiles.end; first += kRunTiles) {
            const uint32_t last = std::min(tiles.end, first + kRunTiles);
            for (uint32_t tile = first; tile < last; ++tile) {
                ops_.dot_tile(bytes_, row_bytes_, rows_.count, panels_->tile(group, tile),
                              l_.quads.count, l_.vectors(tile), start_.data(),
                              sums_.data() + (tile - first) * l_.width, stride());
            }
            store(size_t{first} * l_.width, l_.end(last - 1));
        }
    }
    void add_columns(const uint8_t* data) {
        ops_.dot_columns(bytes_, row_bytes_, rows_.count, data, l_.column_bytes, l_.columns,
                         4 * size_t{l_.quads.count}, start_.data(), sums_.data(), stride());
        store(l_.tiled, l_.pixels);
    }
    void store(size_t begin, size_t end) const {
        job_.sink.store_rows(rows_.first, rows_.count, job_.first_pixel + begin, end - begin,
                             sums_.data(), stride());
    }

    // Makes bytes of the rows, quad after quad, and their start values.
    void unpack(const PlaneRows& rows) {
        const size_t tap_bytes = 4 * size_t{l_.quads.channel_quads};
        const uint32_t inputs = job_.shape.inputs();
        const bool whole_quads = inputs % 4 == 0;
        int8_t* all = reinterpret_cast<int8_t*>(
            WeightScratch::room(weights_, rows.count * row_bytes_ + 64 * rows.row_words));
        int8_t* dense = all + rows.count * row_bytes_;  // a row without gaps between its taps
        start_.clear();
        for (uint32_t row = 0; row < rows.count; ++row) {
            int8_t* to = all + row * row_bytes_;
            const int64_t sum = ops_.unpack_signs(rows.kept + row * rows.row_words,
                                                  rows.sign + row * rows.row_words, rows.row_words,
                                                  whole_quads ? to : dense);
            start_.push_back(static_cast<int32_t>(-sum * ops_.dot_offset));
            if (whole_quads) continue;
            std::memset(to, 0, row_bytes_);
            for (uint32_t tap = 0; tap < l_.quads.taps; ++tap)
                std::memcpy(to + tap * tap_bytes, dense + size_t{tap} * inputs, inputs);
        }
        rows_ = rows;
        bytes_ = all;
        sums_.resize(rows.count * stride());
    }

    const Job& job_;
    const Layout& l_;
    uint32_t part_;
    Pixels mine_;
    uint64_t round_ = 0;
    Source source_;
    size_t row_bytes_;
    WeightVector<uint8_t>& weights_;
    const Ops& ops_;
    std::optional<Panels> panels_;
    PlaneRows rows_{};
    const int8_t* bytes_ = nullptr;
    std::vector<int32_t> start_, sums_;
};

}  // namespace

double dot_scratch_bytes(const ConvShape& s, const Ops& ops) {
    const Layout l(s, 1, ops);
    return s.groups *
           (static_cast<double>(l.tiles) * static_cast<double>(l.tile_bytes) +
            static_cast<double>(l.columns) * static_cast<double>(l.column_bytes) +
            static_cast<double>(l.quads.group_bytes()));
}

void dot_conv2d(const RowSource& source, const int8_t* x, size_t n, const ConvShape& s,
                const Sink& sink, Workspace& work) {
    const size_t image = size_t{s.channels} * s.height * s.width;
    const uint32_t group_rows = sink.rows / s.groups, threads = work.threads.count();
    const size_t row_words =
        (size_t{s.kernel_rows} * s.kernel_columns * s.inputs() + 127) / 128 * 2;
    const size_t chunk = std::max<size_t>(
        1, static_cast<size_t>(kPanelBytes / dot_scratch_bytes(s, work.ops)));
    for (size_t first = 0; first < n; first += chunk) {
        const size_t count = std::min(chunk, n - first);
        const Layout layout(s, count, work.ops);
        const bool by_pixels = layout.tiles >= size_t{kRunTiles} * threads &&
                               layout.pixels >= size_t{source.pixels_a_row} * sink.rows;
        const auto tiles = static_cast<uint32_t>(layout.tiles);
        const uint32_t unit = std::clamp(tiles / (2 * threads), 1u, kRunTiles);
        Sharing sharing((tiles + unit - 1) / unit, threads, by_pixels);
        const Job job{x + first * image, count,  first * s.out_pixels(), s, sink, work,
                      layout,            sharing, unit};
        const uint32_t limit = Multiplier::limit(s, job.layout, row_words);
        std::vector<std::optional<Multiplier>> multipliers(threads);
        source.show(limit, by_pixels, [&](const PlaneRows& rows, uint32_t part) {
            if (!multipliers[part]) multipliers[part].emplace(job, part, row_words);
            Multiplier& multiplier = *multipliers[part];
            const auto mine = by_pixels ? Range{0, sink.rows} : share(sink.rows, 4, part, threads);
            const bool all = rows.count == mine.end - mine.begin && s.groups == 1;
            for (uint32_t row = 0; row < rows.count;) {
                const uint32_t group = (rows.first + row) / group_rows;
                const uint32_t stop = std::min(rows.count, (group + 1) * group_rows - rows.first);
                multiplier.multiply(rows.part(row, stop), group, all);
                row = stop;
            }
        });
    }
}

}  // namespace slt
