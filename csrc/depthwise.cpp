#include "depthwise.h"

#include <algorithm>
#include <stdexcept>

#include "images.h"

namespace slt {

namespace {

// What the planes of a strip take, where one output row does not take more: they are read for every
// tap, from the first-level cache, and the sums lie there too.
constexpr size_t kStripBytes = 16u << 10;

// How a channel's image is taken apart. Output rows fall into *strips*; what a strip reads, padding
// written out, falls by rows and columns modulo the stride into *phases*, a plane each. A tap reads
// one plane only, for output (row, column) at row * pitch + column from where it reads for the
// first: sums run over whole planes, and what they give between the rows, where windows would begin
// in one row and end in the next, is left out at the end.
struct Strips {
    Strips(const ConvShape& s, size_t number_bytes)
        : row_phases(std::min(s.stride, s.kernel_rows)),
          column_phases(std::min(s.stride, s.kernel_columns)),
          pitch(s.out_columns() + (s.kernel_columns - 1) / s.stride) {
        const size_t row = size_t{row_phases} * column_phases * pitch;
        const uint32_t all = s.out_rows(), more = (s.kernel_rows - 1) / s.stride;
        const size_t most = std::max<size_t>(kStripBytes / (number_bytes * row), more + 1) - more;
        const auto count = static_cast<uint32_t>((all + most - 1) / most);
        rows = (all + count - 1) / count;
        plane_rows = rows + more;
        numbers = row * plane_rows;
    }

    uint32_t row_phases, column_phases, pitch;
    uint32_t rows;        // output rows of a strip, the last may have less
    uint32_t plane_rows;  // of each plane
    size_t numbers;       // of all planes

    size_t plane(uint32_t row_phase, uint32_t column_phase) const {
        return (size_t{row_phase} * column_phases + column_phase) * plane_rows * pitch;
    }
};

// What of a channel's image goes into a phase of a strip.
struct Copy {
    size_t from, to;  // places in the image and in the planes
    uint32_t rows, columns;
};

// Of the strip whose first output row is `first`. What they leave of the planes is padding.
std::vector<Copy> copies_of(const ConvShape& s, const Strips& strips, uint32_t first) {
    // Which of the numbers 0 ... count - 1 are of pixels: number i of a phase stands at start + i *
    // stride along an axis of the padded image.
    const auto inside = [&](uint32_t pixels, size_t start, uint32_t count) {
        const auto before = [&](size_t end) {
            const size_t steps = end > start ? (end - start + s.stride - 1) / s.stride : 0;
            return static_cast<uint32_t>(std::min<size_t>(count, steps));
        };
        return Range{before(s.padding), before(size_t{s.padding} + pixels)};
    };
    std::vector<Copy> copies;
    for (uint32_t row = 0; row < strips.row_phases; ++row) {
        const size_t start = size_t{first} * s.stride + row;
        const auto [top, bottom] = inside(s.height, start, strips.plane_rows);
        for (uint32_t column = 0; column < strips.column_phases; ++column) {
            const auto [left, right] = inside(s.width, column, strips.pitch);
            if (top == bottom || left == right) continue;
            const size_t y = start + size_t{top} * s.stride - s.padding,
                         x = column + size_t{left} * s.stride - s.padding;
            copies.push_back({y * s.width + x,
                              strips.plane(row, column) + size_t{top} * strips.pitch + left,
                              bottom - top, right - left});
        }
    }
    return copies;
}

Taps taps_of(const ConvShape& s, const Strips& strips) {
    Taps taps;
    taps.count = 0;
    for (uint32_t row = 0; row < s.kernel_rows; ++row) {
        for (uint32_t column = 0; column < s.kernel_columns; ++column) {
            taps.at[taps.count++] = static_cast<uint32_t>(
                strips.plane(row % s.stride, column % s.stride) +
                size_t{row / s.stride} * strips.pitch + column / s.stride);
        }
    }
    return taps;
}

template <class Number>
Number* aligned(Number* p) {
    return p + (64 - reinterpret_cast<uintptr_t>(p) % 64) % 64 / sizeof(Number);
}

// copy and sum are the kernels; store(row, image, pixel, count, sums) takes the sums of `count`
// output pixels from `pixel` on.
template <class Pixel, class Number, class CopyPhase, class Sum, class Store>
void multiply(const PlaneRows& rows, uint32_t group_rows, const Pixel* x, size_t n,
              const ConvShape& s, std::vector<Number>& buffer, CopyPhase copy, Sum sum,
              Store store) {
    const Strips strips(s, sizeof(Number));
    if (strips.numbers >= uint64_t{1} << 32)
        throw std::length_error("an image of 2^32 numbers, padding included");
    const Taps taps = taps_of(s, strips);
    const uint32_t columns = s.out_columns();
    const size_t pixels = size_t{s.height} * s.width;
    Number* planes = aligned(room(
        buffer, strips.numbers + size_t{strips.rows} * (strips.pitch + columns) + 4 * kTapSlack));
    Number* flat = planes + strips.numbers + kTapSlack;
    Number* sums = flat + size_t{strips.rows} * strips.pitch + kTapSlack;
    for (size_t image = 0; image < n; ++image) {
        for (uint32_t first = 0; first < s.out_rows(); first += strips.rows) {
            const uint32_t count = std::min(strips.rows, s.out_rows() - first);
            const std::vector<Copy> copies = copies_of(s, strips, first);
            std::fill_n(planes, strips.numbers, Number{0});
            for (uint32_t i = 0; i < rows.count; ++i) {
                const uint32_t row = rows.first + i, channel = row / group_rows;
                if (i == 0 || row % group_rows == 0) {
                    const Pixel* from = x + (image * s.channels + channel) * pixels;
                    for (const Copy& c : copies) {
                        copy(from + c.from, size_t{s.stride} * s.width, c.rows, c.columns, s.stride,
                             planes + c.to, strips.pitch);
                    }
                }
                sum(planes, taps, rows.kept + i * rows.row_words, rows.sign + i * rows.row_words,
                    count, strips.pitch, columns, flat, sums);
                store(row, image, size_t{first} * columns, size_t{count} * columns, sums);
            }
        }
    }
}

}  // namespace

bool is_depthwise(const ConvShape& s) {
    return s.inputs() == 1 && uint64_t{s.kernel_rows} * s.kernel_columns <= kMostTaps;
}

double depthwise_scratch_bytes(const ConvShape& s, size_t number_bytes) {
    const Strips strips(s, number_bytes);
    const double sums = static_cast<double>(strips.rows) * (strips.pitch + s.out_columns());
    return static_cast<double>(number_bytes) * (static_cast<double>(strips.numbers) + sums);
}

void depthwise_conv2d(const ShowRows& show, const float* x, size_t n, const ConvShape& s,
                      uint32_t rows, const Epilogue& e, float* out, Workspace& work) {
    show([&](const PlaneRows& some, uint32_t part) {
        const auto store = [&](uint32_t row, size_t image, size_t pixel, size_t count,
                               const float* sums) {
            work.ops.store_rows(sums, 0, 1, count, e.scale ? e.scale + row : nullptr,
                                e.shift ? e.shift + row : nullptr, e.relu,
                                out + (image * rows + row) * s.out_pixels() + pixel, 0);
        };
        multiply(some, rows / s.groups, x, n, s, work.block[part], work.ops.copy_phase,
                 work.ops.sum_taps, store);
    });
}

// A sum of kMostTaps products of at most 127 is below 2^15: int16 holds it.
void depthwise_conv2d(const ShowRows& show, const int8_t* x, size_t n, const ConvShape& s,
                      const Sink& sink, Workspace& work) {
    show([&](const PlaneRows& some, uint32_t part) {
        const auto store = [&](uint32_t row, size_t image, size_t pixel, size_t count,
                               const int16_t* sums) {
            sink.store_rows(row, 1, image * sink.pixels + pixel, count, sums, 0);
        };
        multiply(some, sink.rows / s.groups, x, n, s, work.short_panels[part],
                 work.ops.copy_phase_bytes, work.ops.sum_taps_shorts, store);
    });
}

}  // namespace slt
