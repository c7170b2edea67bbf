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
    size_t tile_bytes(const Ops& ops) const {
        return size_t{count} * kTileVectors * ops.dot_pixels * 4 + kTilePadding;
    }
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

// Images as tiles (dot_inl.h); those of a convolution group follow each other.
struct Panels {
    uint32_t quads, width;           // width: pixels of a tile
    size_t pixels, tiles, tile_bytes;  // of all images; of a group
    const uint8_t* data;

    const uint8_t* tile(size_t group, size_t index) const {
        return data + (group * tiles + index) * tile_bytes;
    }
    size_t end(size_t index) const { return std::min(pixels, (index + 1) * width); }
    uint32_t vectors(size_t index, const Ops& ops) const {
        return static_cast<uint32_t>((end(index) - index * width + ops.dot_pixels - 1) /
                                     ops.dot_pixels);
    }
};

Panels make_panels(const int8_t* x, size_t n, const ConvShape& s, Workspace& work) {
    const Quads quads(s);
    const Ops& ops = work.ops;
    Panels panels{quads.count,           kTileVectors * ops.dot_pixels, n * s.out_pixels(), 0,
                  quads.tile_bytes(ops), nullptr};
    panels.tiles = (panels.pixels + panels.width - 1) / panels.width;
    if (static_cast<double>(n) * s.groups * static_cast<double>(quads.group_bytes()) >= 0x1p34)
        throw std::length_error("images of 2^34 bytes, padding included");
    const uint8_t* images = pack_images(x, n, s, quads, work);
    uint8_t* data = room(work.panels, s.groups * panels.tiles * panels.tile_bytes);
    panels.data = data;
    const std::vector<uint32_t> offsets = quads.offsets(s);
    work.threads.run([&](uint32_t part) {
        std::vector<Run> runs;
        const auto [begin, end] =
            share(static_cast<uint32_t>(panels.tiles), 1, part, work.threads.count());
        for (size_t index = begin; index < end; ++index) {
            find_runs(s, quads, index * panels.width, panels.end(index), runs);
            for (size_t group = 0; group < s.groups; ++group) {
                ops.gather_quads(images + group * quads.group_bytes(), offsets.data(), quads.count,
                                 runs.data(), static_cast<uint32_t>(runs.size()), s.stride,
                                 panels.vectors(index, ops),
                                 data + (group * panels.tiles + index) * panels.tile_bytes);
            }
        }
    });
    return panels;
}

// Rows of weights as bytes, quad after quad, and their start values.
class ByteRows {
  public:
    ByteRows(const ConvShape& s, size_t row_words, const Ops& ops)
        : inputs_(s.inputs()), quads_(s), row_words_(row_words), ops_(ops) {
        // Where taps are whole quads, rows are bytes as they are unpacked.
        row_bytes_ = inputs_ % 4 == 0 ? 64 * row_words : 4 * size_t{quads_.count};
        if (inputs_ % 4 != 0) one_.resize(64 * row_words);
    }
    size_t row_bytes() const { return row_bytes_; }
    uint32_t limit() const {
        return static_cast<uint32_t>(std::clamp<size_t>(kByteBytes / row_bytes_, 8, kByteRows));
    }
    const int8_t* make(const PlaneRows& rows, WeightVector<uint8_t>& buffer,
                       std::vector<int32_t>& start) {
        int8_t* all =
            reinterpret_cast<int8_t*>(WeightScratch::room(buffer, rows.count * row_bytes_));
        start.clear();
        for (uint32_t row = 0; row < rows.count; ++row) {
            const uint64_t *kept = rows.kept + row * row_words_,
                           *sign = rows.sign + row * row_words_;
            const int64_t sum = static_cast<int64_t>(ops_.count_bits(kept, row_words_)) -
                                2 * static_cast<int64_t>(ops_.count_bits(sign, row_words_));
            start.push_back(static_cast<int32_t>(-sum * ops_.dot_offset));
            int8_t* to = all + row * row_bytes_;
            if (one_.empty()) {
                ops_.unpack_signs(kept, sign, row_words_, to);
            } else {
                ops_.unpack_signs(kept, sign, row_words_, one_.data());
                for (uint32_t tap = 0; tap < quads_.taps; ++tap, to += 4 * quads_.channel_quads) {
                    std::memset(to + 4 * quads_.channel_quads - 4, 0, 4);
                    std::memcpy(to, one_.data() + size_t{tap} * inputs_, inputs_);
                }
            }
        }
        return all;
    }

  private:
    uint32_t inputs_;
    Quads quads_;
    size_t row_words_, row_bytes_;
    const Ops& ops_;
    std::vector<int8_t> one_;
};

// Sums of rows of one convolution group over all pixels, to the sink.
void multiply(const PlaneRows& rows, uint32_t group, const Panels& panels, size_t first_pixel,
              ByteRows& bytes, const Sink& sink, Workspace& work, uint32_t part) {
    std::vector<int32_t> start;
    const int8_t* weights = bytes.make(rows, work.weights.lists[part], start);
    const size_t stride = size_t{kRunTiles} * panels.width;
    std::vector<int32_t> sums(rows.count * stride);
    for (size_t tile = 0; tile < panels.tiles; tile += kRunTiles) {
        const size_t end = std::min(panels.tiles, tile + kRunTiles);
        for (size_t index = tile; index < end; ++index) {
            work.ops.dot_tile(weights, bytes.row_bytes(), rows.count, panels.tile(group, index),
                              panels.quads, panels.vectors(index, work.ops), start.data(),
                              sums.data() + (index - tile) * panels.width, stride);
        }
        const size_t from = tile * panels.width;
        for (uint32_t row = 0; row < rows.count; ++row) {
            sink.store(rows.first + row, first_pixel + from, panels.end(end - 1) - from,
                       sums.data() + row * stride);
        }
    }
}

}  // namespace

double dot_scratch_bytes(const ConvShape& s, const Ops& ops) {
    const Quads quads(s);
    const size_t width = size_t{kTileVectors} * ops.dot_pixels;
    const double tiles = static_cast<double>((s.out_pixels() + width - 1) / width);
    return s.groups * (tiles * static_cast<double>(quads.tile_bytes(ops)) +
                       static_cast<double>(quads.group_bytes()));
}

void dot_conv2d(const Visit& visit, const int8_t* x, size_t n, const ConvShape& s,
                const Sink& sink, Workspace& work) {
    const size_t image = size_t{s.channels} * s.height * s.width;
    const uint32_t group_rows = sink.rows / s.groups;
    const size_t chunk = std::max<size_t>(
        1, static_cast<size_t>(kPanelBytes / dot_scratch_bytes(s, work.ops)));
    for (size_t first = 0; first < n; first += chunk) {
        const Panels panels =
            make_panels(x + first * image, std::min(chunk, n - first), s, work);
        visit([&](const PlaneRows& rows) {
            work.threads.run([&](uint32_t part) {
                ByteRows bytes(s, rows.row_words, work.ops);
                const auto [begin, end] = share(rows.count, 2, part, work.threads.count());
                for (uint32_t row = begin; row < end;) {
                    const uint32_t group = (rows.first + row) / group_rows;
                    const uint32_t stop = std::min(
                        {end, (group + 1) * group_rows - rows.first, row + bytes.limit()});
                    multiply(rows.part(row, stop), group, panels, first * s.out_pixels(), bytes,
                             sink, work, part);
                    row = stop;
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
