#include <algorithm>
#include <limits>

#include "conv.h"

namespace slt {

Columns inside(uint32_t k, const PoolShape& s) {
    const size_t out = s.out_columns();
    const size_t first = k >= s.padding ? 0 : (size_t{s.padding} - k + s.stride - 1) / s.stride;
    const size_t reach =
        size_t{s.width} + s.padding;  // inputs are at column * stride + k - padding < width
    const size_t last = reach <= k ? 0 : (reach - k - 1) / s.stride + 1;
    return {std::min(first, out), std::max(std::min(first, out), std::min(last, out))};
}

namespace {

// Goes over the windows row by row, column by column; a whole output row takes each step at once.
template <class Combine>
void pool(const float* x, size_t planes, const PoolShape& s, float start, float* out,
          Threads& threads, Combine combine) {
    const size_t columns = s.out_columns();
    threads.run([&](uint32_t part) {
        const auto [begin, end] = share(static_cast<uint32_t>(planes), 1, part, threads.count());
        for (size_t plane = begin; plane < end; ++plane) {
            const float* image = x + plane * s.height * s.width;
            float* to = out + plane * s.out_rows() * columns;
            for (uint32_t row = 0; row < s.out_rows(); ++row, to += columns) {
                std::fill_n(to, columns, start);
                for (uint32_t i = 0; i < s.kernel; ++i) {
                    const size_t y = size_t{row} * s.stride + i;
                    if (y < s.padding || y - s.padding >= s.height) continue;
                    const float* from = image + (y - s.padding) * s.width;
                    for (uint32_t k = 0; k < s.kernel; ++k) {
                        const auto [first, last] = inside(k, s);
                        for (size_t c = first; c < last; ++c) {
                            to[c] = combine(to[c], from[c * s.stride + k - s.padding]);
                        }
                    }
                }
            }
        }
    });
}

}  // namespace

void max_pool2d(const float* x, size_t planes, const PoolShape& shape, float* out,
                Threads& threads) {
    pool(x, planes, shape, -std::numeric_limits<float>::infinity(), out, threads,
         [](float most, float value) { return value > most ? value : most; });
}

void avg_pool2d(const float* x, size_t planes, const PoolShape& shape, float* out,
                Threads& threads) {
    pool(x, planes, shape, 0.0f, out, threads, [](float sum, float value) { return sum + value; });
    const float area = static_cast<float>(shape.kernel * shape.kernel);
    const size_t count = planes * shape.out_rows() * shape.out_columns();
    for (size_t i = 0; i < count; ++i) out[i] = out[i] / area;
}

void global_avg_pool2d(const float* x, size_t planes, size_t pixels, float* out) {
    for (size_t plane = 0; plane < planes; ++plane, x += pixels) {
        float sum = 0;
        for (size_t i = 0; i < pixels; ++i) sum = sum + x[i];
        out[plane] = sum / static_cast<float>(pixels);
    }
}

}  // namespace slt
