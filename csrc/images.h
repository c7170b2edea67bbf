// Where a convolution finds its pixels: padded copies of images, offsets of positions, runs of
// pixels. Shared by the kernels for float and for int8.
#pragma once

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "conv.h"

namespace slt {

// The buffer's first `size` elements.
template <class T>
T* room(std::vector<T>& buffer, size_t size) {
    if (buffer.size() < size) {
        std::vector<T>().swap(buffer);  // free first: old and new never exist together
        buffer.resize(size);
    }
    return buffer.data();
}

// Numbers of a padded image.
inline size_t padded_size(const ConvShape& s) {
    return s.channels * (s.height + 2 * size_t{s.padding}) * (s.width + 2 * size_t{s.padding});
}

// Rows of images are short: a size that the compiler knows spares a call.
template <class T>
void copy_row(const T* from, size_t count, T* to) {
    switch (count) {
        case 4:
            std::memcpy(to, from, 4 * sizeof(T));
            return;
        case 8:
            std::memcpy(to, from, 8 * sizeof(T));
            return;
        case 16:
            std::memcpy(to, from, 16 * sizeof(T));
            return;
        case 32:
            std::memcpy(to, from, 32 * sizeof(T));
            return;
        default:
            std::memcpy(to, from, count * sizeof(T));
    }
}

// The rows [begin, end) of a padded image that some of its output rows read.
struct ImageRows {
    size_t image, begin, end;
};
// Of the output pixels [begin, end) of all images, image by image.
inline std::vector<ImageRows> rows_read(const ConvShape& s, size_t begin, size_t end) {
    const size_t pixels = s.out_pixels(), columns = s.out_columns();
    std::vector<ImageRows> all;
    while (begin < end) {
        const size_t image = begin / pixels, stop = std::min(end, (image + 1) * pixels);
        const size_t first = begin % pixels / columns, last = (stop - 1) % pixels / columns;
        all.push_back({image, first * s.stride, last * s.stride + s.kernel_rows});
        begin = stop;
    }
    return all;
}

// Copies of `n` images with their padding, zeros, written out: all rows that the output pixels [begin,
// end) read, and room for `slack` more numbers. The images themselves where that is all the same.
template <class T>
const T* pad_images(const T* x, size_t n, const ConvShape& s, size_t begin, size_t end,
                    std::vector<T>& buffer, size_t slack = 0) {
    const size_t columns = s.width + 2 * size_t{s.padding}, plane = padded_size(s) / s.channels;
    if (padded_size(s) * n >= uint64_t{1} << 32)
        throw std::length_error("an image of 2^32 numbers, padding included");
    if (s.padding == 0 && slack == 0) return x;
    T* all = room(buffer, padded_size(s) * n + slack);
    for (const ImageRows& read : rows_read(s, begin, end)) {
        const size_t first = std::max<size_t>(read.begin, s.padding),
                     last = std::min<size_t>(read.end, s.padding + s.height);
        const bool whole = read.end - read.begin == plane / columns;
        T* image = all + read.image * padded_size(s);
        if (whole) std::memset(image, 0, padded_size(s) * sizeof(T));
        const T* rows = x + read.image * s.channels * s.height * s.width;
        for (size_t c = 0; c < s.channels; ++c, image += plane) {
            const T* from = rows + (c * s.height + first - s.padding) * s.width;
            if (!whole)
                std::memset(image + read.begin * columns, 0,
                            (read.end - read.begin) * columns * sizeof(T));
            T* to = image + first * columns + s.padding;
            for (size_t row = first; row < last; ++row, from += s.width, to += columns)
                copy_row(from, s.width, to);
        }
    }
    return all;
}

// Where the K positions of a row of weights lie, relative to the first pixel of a window's first
// channel.
inline std::vector<uint32_t> position_offsets(const ConvShape& s) {
    const uint32_t columns = s.width + 2 * s.padding, plane = (s.height + 2 * s.padding) * columns;
    std::vector<uint32_t> offsets(size_t{s.kernel_rows} * s.kernel_columns * s.inputs());
    uint32_t* to = offsets.data();
    for (uint32_t row = 0; row < s.kernel_rows; ++row) {
        for (uint32_t column = 0; column < s.kernel_columns; ++column, to += s.inputs()) {
            for (uint32_t channel = 0; channel < s.inputs(); ++channel)
                to[channel] = channel * plane + row * columns + column;
        }
    }
    return offsets;
}

// The output pixels [begin, end) of all images as runs, none over the end of an output row.
inline void find_runs(const ConvShape& s, size_t begin, size_t end, std::vector<Run>& runs) {
    const size_t row_size = s.width + 2 * size_t{s.padding}, image_size = padded_size(s);
    const size_t pixels = s.out_pixels(), columns = s.out_columns();
    runs.clear();
    while (begin < end) {
        const size_t image = begin / pixels, pixel = begin % pixels, row = pixel / columns,
                     column = pixel % columns;
        const size_t length = std::min(columns - column, end - begin);
        const size_t from = image * image_size + (row * row_size + column) * s.stride;
        runs.push_back({static_cast<uint32_t>(from), static_cast<uint32_t>(length)});
        begin += length;
    }
}

// How threads share a convolution: its panels, and each makes all lists of its weights; or its rows,
// and each makes all panels. So none reads what another has just written but the layer's input.
class Sharing {
  public:
    Sharing(uint32_t panels, uint32_t parts, bool by_panels)
        : panels_(panels), by_panels_(by_panels), shares_(panels, parts) {}
    bool by_panels() const { return by_panels_; }
    // Those that are the thread's in every layer of one shape.
    Range mine(uint32_t part) const { return by_panels_ ? shares_.of(part) : Range{0, panels_}; }
    // Calls use(panels) for all that the thread takes in this round (Shares), and for some of
    // another's share fetch(panels) before.
    template <class Fetch, class Use>
    void each(uint32_t part, uint64_t round, Fetch fetch, Use use) {
        if (!by_panels_) return use(mine(part));
        for (Range some; shares_.next(part, round, some);) {
            if (!mine(part).has(some.begin)) fetch(some);
            use(some);
        }
    }

  private:
    uint32_t panels_;
    bool by_panels_;
    Shares shares_;
};

}  // namespace slt
