#include <algorithm>
#include <vector>

#include "int8.h"

namespace slt {

namespace {

void take_larger(int8_t* most, const int8_t* values, size_t count) {
    for (size_t i = 0; i < count; ++i) most[i] = std::max(most[i], values[i]);
}

}  // namespace

// Down the columns of the image first, then along the row of what is largest in each: both go over
// bytes side by side, and only what the stride leaves is picked one by one.
void max_pool2d_int8(const int8_t* x, size_t planes, const PoolShape& s, int8_t* out,
                     Threads& threads) {
    const size_t columns = s.out_columns(), rows = s.out_rows();
    const size_t places = s.width + 2 * size_t{s.padding} - s.kernel + 1;  // windows of stride 1
    threads.run([&](uint32_t part) {
        std::vector<int8_t> padded(s.width + 2 * size_t{s.padding}, -128), largest(places);
        const auto [begin, end] = share(static_cast<uint32_t>(planes), 1, part, threads.count());
        for (size_t plane = begin; plane < end; ++plane) {
            const int8_t* image = x + plane * s.height * s.width;
            for (size_t row = 0; row < rows; ++row) {
                int8_t* of_columns = padded.data() + s.padding;
                std::fill_n(of_columns, s.width, static_cast<int8_t>(-128));
                for (uint32_t i = 0; i < s.kernel; ++i) {
                    const size_t y = row * s.stride + i;
                    if (y < s.padding || y - s.padding >= s.height) continue;
                    take_larger(of_columns, image + (y - s.padding) * s.width, s.width);
                }
                std::copy_n(padded.data(), places, largest.data());
                for (uint32_t k = 1; k < s.kernel; ++k)
                    take_larger(largest.data(), padded.data() + k, places);
                int8_t* to = out + (plane * rows + row) * columns;
                for (size_t c = 0; c < columns; ++c) to[c] = largest[c * s.stride];
            }
        }
    });
}

// Row by row, column by column, as pool2d.cpp does: a whole output row takes each step at once.
void sum_pool2d_int8(const int8_t* x, size_t planes, const PoolShape& s, const Sink& sink,
                     Threads& threads) {
    const size_t columns = s.out_columns();
    threads.run([&](uint32_t part) {
        std::vector<int32_t> sums(columns);
        const auto [begin, end] = share(static_cast<uint32_t>(planes), 1, part, threads.count());
        for (size_t plane = begin; plane < end; ++plane) {
            const int8_t* image = x + plane * s.height * s.width;
            for (uint32_t row = 0; row < s.out_rows(); ++row) {
                std::fill(sums.begin(), sums.end(), 0);
                for (uint32_t i = 0; i < s.kernel; ++i) {
                    const size_t y = size_t{row} * s.stride + i;
                    if (y < s.padding || y - s.padding >= s.height) continue;
                    const int8_t* from = image + (y - s.padding) * s.width;
                    for (uint32_t k = 0; k < s.kernel; ++k) {
                        const auto [first, last] = inside(k, s);
                        for (size_t c = first; c < last; ++c)
                            sums[c] += from[c * s.stride + k - s.padding];
                    }
                }
                sink.store(static_cast<uint32_t>(plane % sink.rows),
                           plane / sink.rows * sink.pixels + row * columns, columns, sums.data());
            }
        }
    });
}

void global_sum_int8(const int8_t* x, size_t planes, size_t pixels, const Sink& sink) {
    std::vector<int32_t> sums(sink.rows);
    for (size_t image = 0; image < planes / sink.rows; ++image) {
        for (int32_t& sum : sums) {
            sum = 0;
            for (size_t i = 0; i < pixels; ++i) sum += x[i];
            x += pixels;
        }
        sink.store_rows(0, sink.rows, image, 1, sums.data(), 1);
    }
}

namespace {

template <class Out>
void add(const int8_t* a, const int8_t* b, size_t count, const Requantiser& requantiser, Out* out,
         const Ops& ops) {
    constexpr size_t kAtOnce = 1024;
    int16_t wide[kAtOnce];
    for (size_t i = 0; i < count; i += kAtOnce) {
        const size_t length = std::min(kAtOnce, count - i);
        std::copy_n(a + i, length, wide);
        requantiser.store(0, 1, length, wide, 0, b + i, out + i, 0, ops);
    }
}

}  // namespace

void add_int8(const int8_t* a, const int8_t* b, size_t count, const Requantiser& requantiser,
              int8_t* out, const Ops& ops) {
    add(a, b, count, requantiser, out, ops);
}

void add_int8(const int8_t* a, const int8_t* b, size_t count, const Requantiser& requantiser,
              int32_t* logits, const Ops& ops) {
    add(a, b, count, requantiser, logits, ops);
}

}  // namespace slt
