#include "dot.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <stdexcept>

namespace slt {

namespace {

constexpr uint32_t kTileVectors = 2;
// Tiles whose sums are stored together, and rows whose weights are bytes at the same time, at most.
constexpr uint32_t kRunTiles = 4, kByteRows = 64;
constexpr size_t kByteBytes = size_t{1} << 17;

uint8_t* room(std::vector<float>& buffer, size_t bytes) {
    const size_t floats = (bytes + 64) / sizeof(float) + 1;
    if (buffer.size() < floats) {
        std::vector<float>().swap(buffer);
        buffer.resize(floats);
    }
    uint8_t* p = reinterpret_cast<uint8_t*>(buffer.data());
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

// Images [n][group][channel quad][row][column][4], padding written out.
const uint8_t* pack_images(const int8_t* x, size_t n, const ConvShape& s, const Quads& quads,
                           Workspace& work) {
    const size_t pixels = size_t{s.height} * s.width, packed = n * s.groups * quads.channel_quads;
    const size_t plane = 4 * quads.rows * quads.columns, border = 4 * size_t{s.padding};
    uint8_t* all = room(work.padded, packed * plane + kTilePadding);
    if (pixels == 1 && border == 0 && s.inputs() % 4 == 0) {  // packed but for the offset
        for (size_t i = 0; i < packed * plane; ++i)
            all[i] = static_cast<uint8_t>(x[i] + work.ops.dot_offset);
        return all;
    }
    work.threads.run([&](uint32_t part) {
        const auto [begin, end] =
            share(static_cast<uint32_t>(packed), 1, part, work.threads.count());
        for (size_t index = begin; index < end; ++index) {
            const size_t group = index / quads.channel_quads,
                         channel = index % quads.channel_quads * 4;
            const int8_t* from[4];  // channels that do not exist are like the first: weights are 0
            for (size_t c = 0; c < 4; ++c) {
                const size_t real = channel + c < s.inputs() ? channel + c : channel;
                from[c] = x + (group * s.inputs() + real) * pixels;
            }
            uint8_t* to = all + index * plane;
            if (border == 0) {
                work.ops.interleave_channels(from, pixels, to);
                continue;
            }
            std::memset(to, work.ops.dot_offset, plane);
            to += border * quads.columns + border;
            for (uint32_t row = 0; row < s.height; ++row, to += 4 * quads.columns) {
                work.ops.interleave_channels(from, s.width, to);
                for (const int8_t*& channel_row : from) channel_row += s.width;
            }
        }
    });
    return all;
}

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

// What the pixels read, tile by tile and column by column.
class Source {
  public:
    Source(const int8_t* x, size_t n, const ConvShape& s, Workspace& work)
        : layout(s, n, work.ops), shape_(s), ops_(work.ops), offsets_(layout.quads.offsets(s)) {
        const double bytes = static_cast<double>(layout.quads.group_bytes());
        if (static_cast<double>(n) * s.groups * bytes >= 0x1p34)
            throw std::length_error("images of 2^34 bytes, padding included");
        images_ = pack_images(x, n, s, layout.quads, work);
    }
    const Layout layout;

    void tile(size_t group, size_t index, std::vector<Run>& runs, uint8_t* to) const {
        gather(group, index * layout.width, layout.end(index),
               size_t{layout.vectors(index)} * layout.lanes * 4, runs, to);
    }
    void column(size_t group, size_t index, std::vector<Run>& runs, uint8_t* to) const {
        gather(group, layout.tiled + index, layout.tiled + index + 1, 4, runs, to);
    }

  private:
    void gather(size_t group, size_t begin, size_t end, size_t quad_bytes, std::vector<Run>& runs,
                uint8_t* to) const {
        find_runs(shape_, layout.quads, begin, end, runs);
        ops_.gather_quads(images_ + group * layout.quads.group_bytes(), offsets_.data(),
                          layout.quads.count, runs.data(), static_cast<uint32_t>(runs.size()),
                          shape_.stride, quad_bytes, to);
    }

    const ConvShape& shape_;
    const Ops& ops_;
    std::vector<uint32_t> offsets_;
    const uint8_t* images_;
};

// All of it, group after group, tiles and then columns.
struct Panels {
    const Layout& layout;
    const uint8_t* data;

    const uint8_t* tile(size_t group, size_t index) const {
        return data + group * layout.group_bytes() + index * layout.tile_bytes;
    }
    const uint8_t* columns(size_t group) const { return tile(group, layout.tiles); }
};

Panels make_panels(const Source& source, uint32_t groups, Workspace& work) {
    const Layout& l = source.layout;
    uint8_t* data = room(work.panels, groups * l.group_bytes());
    work.threads.run([&](uint32_t part) {
        std::vector<Run> runs;
        const auto [first, last] =
            share(static_cast<uint32_t>(l.tiles + l.columns), 1, part, work.threads.count());
        for (size_t group = 0; group < groups; ++group) {
            uint8_t* tiles = data + group * l.group_bytes();
            uint8_t* columns = tiles + l.tiles * l.tile_bytes;
            for (size_t i = first; i < std::min<size_t>(last, l.tiles); ++i)
                source.tile(group, i, runs, tiles + i * l.tile_bytes);
            for (size_t i = std::max<size_t>(first, l.tiles); i < last; ++i) {
                const size_t column = i - l.tiles;
                source.column(group, column, runs, columns + column * l.column_bytes);
            }
        }
    });
    return {l, data};
}

// Products of some rows at a time with the pixels, to the sink; one for each thread.
class Multiplier {
  public:
    Multiplier(const ConvShape& s, const Source& source, size_t first_pixel, size_t row_words,
               const Sink& sink, WeightVector<uint8_t>& weights, const Ops& ops)
        : inputs_(s.inputs()),
          source_(source),
          l_(source.layout),
          first_pixel_(first_pixel),
          row_bytes_(byte_row(s, row_words)),
          sink_(sink),
          weights_(weights),
          ops_(ops) {}

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

    // All pixels of panels, times rows of the group, limit(...) at most.
    void multiply(const PlaneRows& rows, uint32_t group, const Panels& panels) {
        unpack(rows);
        for (size_t first = 0; first < l_.tiles; first += kRunTiles) {
            const size_t last = std::min(l_.tiles, first + kRunTiles);
            for (size_t tile = first; tile < last; ++tile)
                add_tile(tile, tile - first, panels.tile(group, tile));
            store(first * l_.width, l_.end(last - 1));
        }
        if (l_.columns) add_columns(panels.columns(group));
    }

    // Share `part` of the pixels, copied tile by tile, times all rows of a layer of one group.
    void multiply(const PlaneRows& rows, uint32_t part, uint32_t parts) {
        unpack(rows);
        std::vector<Run> runs;
        std::vector<uint8_t> buffer(std::max(l_.tile_bytes, l_.columns * l_.column_bytes) + 64);
        uint8_t* copy = buffer.data() + (64 - reinterpret_cast<uintptr_t>(buffer.data()) % 64) % 64;
        const auto [begin, end] =
            share(static_cast<uint32_t>(l_.tiles), kRunTiles, part, parts);
        for (size_t first = begin; first < end; first += kRunTiles) {
            const size_t last = std::min<size_t>(end, first + kRunTiles);
            for (size_t tile = first; tile < last; ++tile) {
                source_.tile(0, tile, runs, copy);
                add_tile(tile, tile - first, copy);
            }
            store(first * l_.width, l_.end(last - 1));
        }
        if (l_.columns == 0 || part + 1 < parts) return;
        for (uint32_t column = 0; column < l_.columns; ++column)
            source_.column(0, column, runs, copy + column * l_.column_bytes);
        add_columns(copy);
    }

  private:
    size_t stride() const { return size_t{kRunTiles} * l_.width; }
    // Sums of the tile, number `place` of those that are stored together.
    void add_tile(size_t tile, size_t place, const uint8_t* data) {
        ops_.dot_tile(bytes_, row_bytes_, rows_.count, data, l_.quads.count, l_.vectors(tile),
                      start_.data(), sums_.data() + place * l_.width, stride());
    }
    void add_columns(const uint8_t* data) {
        ops_.dot_columns(bytes_, row_bytes_, rows_.count, data, l_.column_bytes, l_.columns,
                         4 * size_t{l_.quads.count}, start_.data(), sums_.data(), stride());
        store(l_.tiled, l_.pixels);
    }
    void store(size_t begin, size_t end) const {
        for (uint32_t i = 0; i < rows_.count; ++i) {
            sink_.store(rows_.first + i, first_pixel_ + begin, end - begin,
                        sums_.data() + i * stride());
        }
    }

    // Makes bytes of the rows, quad after quad, and their start values.
    void unpack(const PlaneRows& rows) {
        const size_t tap_bytes = 4 * size_t{l_.quads.channel_quads};
        const bool whole_quads = inputs_ % 4 == 0;
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
                std::memcpy(to + tap * tap_bytes, dense + size_t{tap} * inputs_, inputs_);
        }
        rows_ = rows;
        bytes_ = all;
        sums_.resize(rows.count * stride());
    }

    uint32_t inputs_;
    const Source& source_;
    const Layout& l_;
    size_t first_pixel_, row_bytes_;
    const Sink& sink_;
    WeightVector<uint8_t>& weights_;
    const Ops& ops_;
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

void dot_conv2d(const Visit& visit, const int8_t* x, size_t n, const ConvShape& s,
                const Sink& sink, Workspace& work) {
    const size_t image = size_t{s.channels} * s.height * s.width;
    const uint32_t group_rows = sink.rows / s.groups, threads = work.threads.count();
    const size_t chunk = std::max<size_t>(
        1, static_cast<size_t>(kPanelBytes / dot_scratch_bytes(s, work.ops)));
    for (size_t first = 0; first < n; first += chunk) {
        const Source source(x + first * image, std::min(chunk, n - first), s, work);
        std::optional<Panels> panels;
        visit([&](const PlaneRows& rows) {
            const uint32_t limit = Multiplier::limit(s, source.layout, rows.row_words);
            // Where every tile is used once, threads share tiles and none is kept.
            const bool once = s.groups == 1 && rows.count == sink.rows && rows.count <= limit &&
                              source.layout.tiles >= size_t{kRunTiles} * threads;
            if (!once && !panels) panels.emplace(make_panels(source, s.groups, work));
            work.threads.run([&](uint32_t part) {
                Multiplier multiplier(s, source, first * s.out_pixels(), rows.row_words, sink,
                                      work.weights.lists[part], work.ops);
                if (once) return multiplier.multiply(rows, part, threads);
                const auto [begin, end] = share(rows.count, 2, part, threads);
                for (uint32_t row = begin; row < end;) {
                    const uint32_t group = (rows.first + row) / group_rows;
                    const uint32_t group_end = (group + 1) * group_rows - rows.first;
                    const uint32_t stop = std::min({end, group_end, row + limit});
                    multiplier.multiply(rows.part(row, stop), group, *panels);
                    row = stop;
                }
            });
        });
    }
}

void dot_conv2d(const StreamRows& stream, const int8_t* x, size_t n, const ConvShape& s,
                const Sink& sink, Workspace& work) {
    const size_t image = size_t{s.channels} * s.height * s.width;
    const uint32_t group_rows = sink.rows / s.groups, threads = work.threads.count();
    const size_t row_words =
        (size_t{s.kernel_rows} * s.kernel_columns * s.inputs() + 127) / 128 * 2;
    const size_t chunk = std::max<size_t>(
        1, static_cast<size_t>(kPanelBytes / dot_scratch_bytes(s, work.ops)));
    for (size_t first = 0; first < n; first += chunk) {
        const Source source(x + first * image, std::min(chunk, n - first), s, work);
        const uint32_t limit = Multiplier::limit(s, source.layout, row_words);
        // Where threads use each tile once, with rows enough, they copy it themselves.
        const uint32_t share = (sink.rows + threads - 1) / threads;
        const bool once = s.groups == 1 && share <= limit && (threads == 1 || share >= kByteRows / 2);
        std::optional<Panels> panels;
        if (!once) panels.emplace(make_panels(source, s.groups, work));
        std::vector<std::optional<Multiplier>> multipliers(threads);
        stream(limit, [&](const PlaneRows& rows, uint32_t part) {
            if (!multipliers[part]) {
                multipliers[part].emplace(s, source, first * s.out_pixels(), row_words, sink,
                                          work.weights.lists[part], work.ops);
            }
            Multiplier& multiplier = *multipliers[part];
            if (once) return multiplier.multiply(rows, 0, 1);
            for (uint32_t row = 0; row < rows.count;) {
                const uint32_t group = (rows.first + row) / group_rows;
                const uint32_t stop = std::min(rows.count, (group + 1) * group_rows - rows.first);
                multiplier.multiply(rows.part(row, stop), group, *panels);
                row = stop;
            }
        });
    }
}

}  // namespace slt
