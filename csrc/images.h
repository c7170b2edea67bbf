// Where a convolution finds its pixels: padded copies of images, offsets of positions, runs of
// pixels. Shared by the kernels for float and for int8.
#pragma once

#include <algorithm>
#include <cstring>
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

// Copies of `n` images with their padding, zeros, written out; the images themselves where there is
// none.
template <class T>
const T* pad_images(const T* x, size_t n, const ConvShape& s, std::vector<T>& buffer,
                    Threads& threads) {
    if (s.padding == 0) return x;
    const size_t columns = s.width + 2 * size_t{s.padding};
    const size_t planes = n * s.channels, size = padded_size(s) / s.channels;
    T* copies = room(buffer, planes * size);
    threads.run([&](uint32_t part) {
        const auto [begin, end] = share(static_cast<uint32_t>(planes), 1, part, threads.count());
        if (begin < end) std::memset(copies + begin * size, 0, (end - begin) * size * sizeof(T));
        const T* from = x + size_t{begin} * s.height * s.width;
        for (size_t plane = begin; plane < end; ++plane) {
            T* to = copies + plane * size + s.padding * columns + s.padding;
            for (uint32_t row = 0; row < s.height; ++row, to += columns, from += s.width)
                copy_row(from, s.width, to);
        }
    });
    return copies;
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

}  // namespace slt
