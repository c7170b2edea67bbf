#include <algorithm>
#include <vector>

#include "int8.h"

namespace slt {

namespace {

// Visits the windows of each plane row by row, column by column, as pool2d.cpp does: a whole output
// row of `sums` takes each step at once, then use(plane, first pixel of the row, sums).
template <class Combine, class Use>
void pool(const int8_t* x, size_t planes, const PoolShape& s, int32_t start, Threads& threads,
          Combine combine, Use use) {
    const size_t columns = s.out_columns();
    threads.run([&](uint32_t part) {
        std::vector<int32_t> row_sums(columns);
        int32_t* sums = row_sums.data();
        const auto [begin, end] = share(static_cast<uint32_t>(planes), 1, part, threads.count());
        for (size_t plane = begin; plane < end; ++plane) {
            const int8_t* image = x + plane * s.height * s.width;
            for (uint32_t row = 0; row < s.out_rows(); ++row) {
                std::fill_n(sums, columns, start);
                for (uint32_t i = 0; i < s.kernel; ++i) {
                    const size_t y = size_t{row} * s.stride + i;
                    if (y < s.padding || y - s.padding >= s.height) continue;
                    const int8_t* from = image + (y - s.padding) * s.width;
                    for (uint32_t k = 0; k < s.kernel; ++k) {
                        const auto [first, last] = inside(k, s);
                        for (size_t c = first; c < last; ++c)
                            sums[c] = combine(sums[c], from[c * s.stride + k - s.padding]);
                    }
                }
                use(plane, row * columns, sums);
            }
        }
    });
}

}  // namespace

void max_pool2d_int8(const int8_t* x, size_t planes, const PoolShape& s, int8_t* out,
                     Threads& threads) {
    const size_t columns = s.out_columns();
    pool(
        x, planes, s, -128, threads,
        [](int32_t most, int8_t value) { return std::max<int32_t>(most, value); },
        [&](size_t plane, size_t pixel, const int32_t* most) {
            std::copy_n(most, columns, out + plane * s.out_rows() * columns + pixel);
        });
}

void sum_pool2d_int8(const int8_t* x, size_t planes, const PoolShape& s, const Sink& sink,
                     Threads& threads) {
    const size_t columns = s.out_columns();
    pool(
        x, planes, s, 0, threads, [](int32_t sum, int8_t value) { return sum + value; },
        [&](size_t plane, size_t pixel, const int32_t* sums) {
            sink.store(static_cast<uint32_t>(plane % sink.rows),
                       plane / sink.rows * sink.pixels + pixel, columns, sums);
        });
}

void global_sum_int8(const int8_t* x, size_t planes, size_t pixels, const Sink& sink) {
    for (size_t plane = 0; plane < planes; ++plane, x += pixels) {
        int32_t sum = 0;
        for (size_t i = 0; i < pixels; ++i) sum += x[i];
        sink.store(static_cast<uint32_t>(plane % sink.rows), plane / sink.rows, 1, &sum);
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
