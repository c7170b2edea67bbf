#include "dot.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace slt {

namespace {

constexpr uint32_t kTileVectors = 2;
// Tiles whose sums are stored together, and rows whose weights are bytes at the same time: at most
// kByteRows, and one register block beyond kByteBytes.
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

// What the pixels read: group after group, tiles and then columns.
struct Panels {
    Layout layout;
    const uint8_t* data;

    const uint8_t* tile(size_t group, size_t index) const {
        return data + group * layout.group_bytes() + index * layout.tile_bytes;
    }
    const uint8_t* columns(size_t group) const { return tile(group, layout.tiles); }
};

Panels make_panels(const int8_t* x, size_t n, const ConvShape& s, Workspace& work) {
    const Layout layout(s, n, work.ops);
    const Quads& quads = layout.quads;
    if (static_cast<double>(n) * s.groups * static_cast<double>(quads.group_bytes()) >= 0x1p34)
        throw std::length_error("images of 2^34 bytes, padding included");
    const uint8_t* images = pack_images(x, n, s, quads, work);
    uint8_t* data = room(work.panels, s.groups * layout.group_bytes());
    const std::vector<uint32_t> offsets = quads.offsets(s);
    work.threads.run([&](uint32_t part) {
        std::vector<Run> runs;
        const auto gather = [&](size_t group, size_t begin, size_t end, size_t quad_bytes, uint8_t* to) {
            find_runs(s, quads, begin, end, runs);
            work.ops.gather_quads(images + group * quads.group_bytes(), offsets.data(),
                                  quads.count, runs.data(), static_cast<uint32_t>(runs.size()),
                                  s.stride, quad_bytes, to);
        };
        const auto [first, last] = share(static_cast<uint32_t>(layout.tiles + layout.columns), 1,
                                         part, work.threads.count());
        for (size_t group = 0; group < s.groups; ++group) {
            uint8_t* tiles = data + group * layout.group_bytes();
            uint8_t* columns = tiles + layout.tiles * layout.tile_bytes;
            for (size_t i = first; i < last; ++i) {
                if (i < layout.tiles) {
                    gather(group, i * layout.width, layout.end(i),
                           size_t{layout.vectors(i)} * layout.lanes * 4,
                           tiles + i * layout.tile_bytes);
                } else {
                    const size_t column = i - layout.tiles, pixel = layout.tiled + column;
                    gather(group, pixel, pixel + 1, 4, columns + column * layout.column_bytes);
                }
            }
        }
    });
    return {layout, data};
}

// Products of some rows at a time with panels, to the sink; one for each thread.
class Multiplier {
  public:
    Multiplier(const ConvShape& s, const Panels& panels, size_t first_pixel, const Sink& sink,
               WeightVector<uint8_t>& weights, const Ops& ops)
        : inputs_(s.inputs()),
          panels_(panels),
          first_pixel_(first_pixel),
          sink_(sink),
          weights_(weights),
          ops_(ops) {}

    // Rows of one convolution group, from `row` on, and not `end` or what follows; gives where it
    // stopped.
    uint32_t multiply(const PlaneRows& all, uint32_t row, uint32_t end, uint32_t group) {
        const Layout& l = panels_.layout;
        // Where taps are whole quads, rows are bytes as they are unpacked.
        row_bytes_ = inputs_ % 4 == 0 ? 64 * all.row_words : l.quads.row_bytes();
        const auto limit =
            static_cast<uint32_t>(std::clamp<size_t>(kByteBytes / row_bytes_, 8, kByteRows));
        const PlaneRows rows = all.part(row, std::min(end, row + limit));
        const int8_t* weights = unpack(rows);
        const size_t stride = size_t{kRunTiles} * l.width;
        sums_.resize(rows.count * stride);
        const auto store = [&](size_t begin, size_t count) {
            for (uint32_t i = 0; i < rows.count; ++i)
                sink_.store(rows.first + i, first_pixel_ + begin, count, sums_.data() + i * stride);
        };
        for (size_t first = 0; first < l.tiles; first += kRunTiles) {
            const size_t last = std::min(l.tiles, first + kRunTiles);
            for (size_t tile = first; tile < last; ++tile) {
                ops_.dot_tile(weights, row_bytes_, rows.count, panels_.tile(group, tile),
                              l.quads.count, l.vectors(tile), start_.data(),
                              sums_.data() + (tile - first) * l.width, stride);
            }
            store(first * l.width, l.end(last - 1) - first * l.width);
        }
        if (l.columns) {
            ops_.dot_columns(weights, row_bytes_, rows.count, panels_.columns(group),
                             l.column_bytes, l.columns, 4 * size_t{l.quads.count}, start_.data(),
                             sums_.data(), stride);
            store(l.tiled, l.columns);
        }
        return row + rows.count;
    }

  private:
    // Bytes of the rows, quad after quad, and their start values.
    const int8_t* unpack(const PlaneRows& rows) {
        const Quads& quads = panels_.layout.quads;
        const size_t tap_bytes = 4 * size_t{quads.channel_quads};
        int8_t* all = reinterpret_cast<int8_t*>(
            WeightScratch::room(weights_, rows.count * row_bytes_ + 64 * rows.row_words));
        int8_t* whole = all + rows.count * row_bytes_;  // a row without gaps between its taps
        start_.clear();
        for (uint32_t row = 0; row < rows.count; ++row) {
            int8_t* to = all + row * row_bytes_;
            const int64_t sum = ops_.unpack_signs(rows.kept + row * rows.row_words,
                                                  rows.sign + row * rows.row_words, rows.row_words,
                                                  inputs_ % 4 == 0 ? to : whole);
            start_.push_back(static_cast<int32_t>(-sum * ops_.dot_offset));
            if (inputs_ % 4 == 0) continue;
            std::memset(to, 0, row_bytes_);
            for (uint32_t tap = 0; tap < quads.taps; ++tap)
                std::memcpy(to + tap * tap_bytes, whole + size_t{tap} * inputs_, inputs_);
        }
        return all;
    }

    uint32_t inputs_;
    const Panels& panels_;
    size_t first_pixel_;
    const Sink& sink_;
    WeightVector<uint8_t>& weights_;
    const Ops& ops_;
    size_t row_bytes_ = 0;
    std::vector<int32_t> start_, sums_;
};

}  // namespace

double dot_scratch_bytes(const ConvShape& s, const Ops& ops) {
    const Layout layout(s, 1, ops);
    return s.groups * (static_cast<double>(layout.group_bytes()) +
                       static_cast<double>(layout.quads.group_bytes()));
}

void dot_conv2d(const Visit& visit, const int8_t* x, size_t n, const ConvShape& s,
                const Sink& sink, Workspace& work) {
    const size_t image = size_t{s.channels} * s.height * s.width;
    const uint32_t group_rows = sink.rows / s.groups;
    const size_t chunk = std::max<size_t>(
        1, static_cast<size_t>(kPanelBytes / dot_scratch_bytes(s, work.ops)));
    for (size_t first = 0; first < n; first += chunk) {
        const Panels panels = make_panels(x + first * image, std::min(chunk, n - first), s, work);
        visit([&](const PlaneRows& rows) {
            work.threads.run([&](uint32_t part) {
                Multiplier multiplier(s, panels, first * s.out_pixels(), sink,
                                      work.weights.lists[part], work.ops);
                const auto [begin, end] = share(rows.count, 2, part, work.threads.count());
                for (uint32_t row = begin; row < end;) {
                    const uint32_t group = (rows.first + row) / group_rows;
                    const uint32_t group_end = (group + 1) * group_rows - rows.first;
                    row = multiplier.multiply(rows, row, std::min(end, group_end), group);
                }
            });
        });
    }
}

void dot_linear(const Visit& visit, const int8_t* x, size_t n, uint32_t fan_in, const Sink& sink,
                Workspace& work) {
    ConvShape shape;  // every image one pixel
    shape.channels = fan_in;
    dot_conv2d(visit, x, n, shape, sink, work);
}

}  // namespace slt
