#include "depthwise.h"

#include <algorithm>
#include <bit>
#include <stdexcept>
#include <type_traits>

#include "images.h"

namespace slt {

namespace {

// What the planes of a strip take, where one output row does not take more: they are read for every
// tap, from the first-level cache, and the sums lie there too.
constexpr size_t kStripBytes = 12u << 10;

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

// The images of a thread's channels, taken apart one strip at a time.
template <class Pixel, class Number>
class Planes {
  public:
    Planes(const ConvShape& s, const Strips& strips, Number* numbers, const Ops& ops)
        : s_(s), strips_(strips), numbers_(numbers), ops_(ops) {
        // Left and right of an image nothing else is written.
        std::fill_n(numbers, strips.numbers, Number{0});
    }

    // Those of the strip whose first output row is `first`, of one channel's image.
    void fill(const Pixel* image, uint32_t first) const {
        for (uint32_t row = 0; row < strips_.row_phases; ++row) {
            const auto [top, bottom] = inside(s_.height, first * size_t{s_.stride} + row,
                                              strips_.plane_rows);
            for (uint32_t column = 0; column < strips_.column_phases; ++column) {
                Number* plane = numbers_ + strips_.plane(row, column);
                const auto [left, right] = inside(s_.width, column, strips_.pitch);
                std::fill(plane, plane + top * strips_.pitch, Number{0});
                std::fill(plane + bottom * strips_.pitch,
                          plane + size_t{strips_.plane_rows} * strips_.pitch, Number{0});
                if (left == right || top == bottom) continue;
                const size_t y = (first + top) * s_.stride + row - s_.padding,
                             x = left * s_.stride + column - s_.padding;
                copy()(image + y * s_.width + x, size_t{s_.stride} * s_.width,
                       static_cast<uint32_t>(bottom - top), static_cast<uint32_t>(right - left),
                       s_.stride, plane + top * strips_.pitch + left, strips_.pitch);
            }
        }
    }

  private:
    struct Part {
        size_t begin, end;
    };
    // Which of the numbers 0 ... count - 1 of a phase are of pixels, not of padding: number i stands
    // at start + i * stride along an axis of the padded image.
    Part inside(uint32_t pixels, size_t start, size_t count) const {
        const auto before = [&](size_t end) {
            return std::min(count, end > start ? (end - start + s_.stride - 1) / s_.stride : 0);
        };
        return {before(s_.padding), before(size_t{s_.padding} + pixels)};
    }
    auto copy() const {
        if constexpr (std::is_same_v<Pixel, float>)
            return ops_.copy_phase;
        else
            return ops_.copy_phase_bytes;
    }

    const ConvShape& s_;
    const Strips& strips_;
    Number* numbers_;
    const Ops& ops_;
};

// Where in the planes each position of a row of weights reads for the first output.
std::vector<uint32_t> tap_places(const ConvShape& s, const Strips& strips) {
    std::vector<uint32_t> places;
    for (uint32_t row = 0; row < s.kernel_rows; ++row) {
        for (uint32_t column = 0; column < s.kernel_columns; ++column) {
            places.push_back(static_cast<uint32_t>(
                strips.plane(row % s.stride, column % s.stride) +
                size_t{row / s.stride} * strips.pitch + column / s.stride));
        }
    }
    return places;
}

// The kept positions of a row of weights, in ascending order.
Taps taps_of(const uint64_t* kept, const uint64_t* sign, const std::vector<uint32_t>& places) {
    Taps taps;
    uint32_t* to = taps.at;
    const auto list = [&](bool minus) {
        for (uint32_t k = 0; k < places.size(); k += 64) {
            const uint64_t flip = minus ? 0 : ~uint64_t{0};
            for (uint64_t bits = kept[k / 64] & (sign[k / 64] ^ flip); bits; bits &= bits - 1)
                *to++ = places[k + static_cast<uint32_t>(std::countr_zero(bits))];
        }
    };
    list(false);
    taps.plus = static_cast<uint32_t>(to - taps.at);
    list(true);
    taps.minus = static_cast<uint32_t>(to - taps.at) - taps.plus;
    return taps;
}

template <class Number>
Number* aligned(Number* p) {
    return p + (64 - reinterpret_cast<uintptr_t>(p) % 64) % 64 / sizeof(Number);
}

// store(row, image, pixel, count, sums) takes the sums of `count` output pixels from `pixel` on.
template <class Pixel, class Number, class Sum, class Store>
void multiply(const PlaneRows& rows, uint32_t group_rows, const Pixel* x, size_t n,
              const ConvShape& s, std::vector<Number>& buffer, const Ops& ops, Sum sum,
              Store store) {
    const Strips strips(s, sizeof(Number));
    if (strips.numbers >= uint64_t{1} << 32)
        throw std::length_error("an image of 2^32 numbers, padding included");
    const std::vector<uint32_t> places = tap_places(s, strips);
    const uint32_t columns = s.out_columns();
    Number* numbers = aligned(room(
        buffer, strips.numbers + size_t{strips.rows} * (strips.pitch + columns) + 4 * kTapSlack));
    Number* flat = numbers + strips.numbers + kTapSlack;
    Number* sums = flat + size_t{strips.rows} * strips.pitch + kTapSlack;
    const Planes<Pixel, Number> planes(s, strips, numbers, ops);
    for (size_t image = 0; image < n; ++image) {
        for (uint32_t first = 0; first < s.out_rows(); first += strips.rows) {
            const uint32_t count = std::min(strips.rows, s.out_rows() - first);
            for (uint32_t i = 0; i < rows.count; ++i) {
                const uint32_t row = rows.first + i, channel = row / group_rows;
                if (i == 0 || row % group_rows == 0)
                    planes.fill(x + (image * s.channels + channel) * s.height * s.width, first);
                const Taps taps = taps_of(rows.kept + i * rows.row_words,
                                          rows.sign + i * rows.row_words, places);
                sum(numbers, taps, count, strips.pitch, columns, flat, sums);
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
        multiply(some, rows / s.groups, x, n, s, work.block[part], work.ops, work.ops.sum_taps,
                 store);
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
        multiply(some, sink.rows / s.groups, x, n, s, work.short_panels[part], work.ops,
                 work.ops.sum_taps_shorts, store);
    });
}

}  // namespace slt
