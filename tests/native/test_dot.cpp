// The dot kernels on every ISA and with several threads, against sums weight by weight.
#include <algorithm>
#include <limits>

#include "check.h"
#include "dot.h"

namespace test {
namespace {

enum class Extreme { no, most, least };  // all kept: every product 127, or -127

// Rows of bit planes; the bits behind K are 0.
struct Weights {
    Weights(Cases& cases, uint32_t out, uint32_t fan_in, Extreme extreme)
        : out(out), fan_in(fan_in), words((size_t{fan_in} + 127) / 128 * 2) {
        const uint64_t density = extreme == Extreme::no ? cases.between(0, 4) : 4;
        kept.resize(out * words);
        sign.resize(out * words);
        for (uint32_t o = 0; o < out; ++o) {
            for (uint32_t k = 0; k < fan_in; ++k) {
                if (cases.between(1, 4) > density) continue;
                const uint64_t bit = uint64_t{1} << k % 64;
                const bool minus =
                    extreme == Extreme::no ? cases.next() % 2 : extreme == Extreme::least;
                kept[o * words + k / 64] |= bit;
                if (minus) sign[o * words + k / 64] |= bit;
            }
        }
    }
    int weight(uint32_t o, uint32_t k) const {
        const size_t word = o * words + k / 64;
        return !(kept[word] >> k % 64 & 1) ? 0 : sign[word] >> k % 64 & 1 ? -1 : 1;
    }
    // Shares of rows, `step` at a time.
    slt::RowSource source(uint32_t step, uint32_t pixels_a_row, slt::Threads& threads) const {
        const auto show = [this, step, &threads](uint32_t most, bool all_rows,
                                                 const slt::UseRows& use) {
            const slt::PlaneRows all{0, out, words, kept.data(), sign.data()};
            threads.run([&](uint32_t part) {
                const auto [begin, end] =
                    all_rows ? slt::Range{0, out} : slt::share(out, 1, part, threads.count());
                for (uint32_t row = begin; row < end; row += std::min(most, step))
                    use(all.part(row, std::min(end, row + std::min(most, step))), part);
            });
        };
        return {show, pixels_a_row};
    }
    uint32_t out, fan_in;
    size_t words;
    std::vector<uint64_t> kept, sign;
};

std::vector<int8_t> random_bytes(Cases& cases, size_t count, Extreme extreme) {
    std::vector<int8_t> values(count, 127);
    for (int8_t& value : values) {
        if (extreme != Extreme::no) break;
        value = static_cast<int8_t>(static_cast<int>(cases.between(0, 254)) - 127);
    }
    return values;
}

std::vector<int32_t> expected_sums(const Weights& w, const slt::ConvShape& s, const int8_t* x,
                                   size_t n) {
    std::vector<int32_t> sums;
    for (size_t i = 0; i < n; ++i) {
        for (uint32_t o = 0; o < w.out; ++o) {
            for (uint32_t p = 0; p < s.out_pixels(); ++p) {
                int32_t sum = 0;
                for (uint32_t k = 0; k < w.fan_in; ++k) {
                    const uint32_t tap = k / s.inputs();
                    const size_t channel = o / (w.out / s.groups) * s.inputs() + k % s.inputs();
                    const int64_t row = int64_t{p / s.out_columns()} * s.stride +
                                        tap / s.kernel_columns - s.padding;
                    const int64_t column = int64_t{p % s.out_columns()} * s.stride +
                                           tap % s.kernel_columns - s.padding;
                    if (row < 0 || column < 0 || row >= s.height || column >= s.width) continue;
                    const size_t at = ((i * s.channels + channel) * s.height +
                                       static_cast<size_t>(row)) * s.width +
                                      static_cast<size_t>(column);
                    sum += w.weight(o, k) * x[at];
                }
                sums.push_back(sum);
            }
        }
    }
    return sums;
}

// A requantiser that gives the sums themselves, as logits.
const slt::Requantiser& identity() {
    static const slt::Requantiser requantiser({1}, {0}, 0, 0, -127);
    return requantiser;
}

void one_layer(Cases& cases, const slt::ConvShape& s, uint32_t out, size_t n,
               Extreme extreme) {
    const uint32_t fan_in = s.kernel_rows * s.kernel_columns * s.inputs();
    const Weights weights(cases, out, fan_in, extreme);
    const std::vector<int8_t> x =
        random_bytes(cases, n * s.channels * s.height * s.width, extreme);
    const std::vector<int32_t> expected = expected_sums(weights, s, x.data(), n);
    const auto memory = std::make_shared<slt::WeightMemory>();
    for (const slt::Ops* ops : slt::available_ops()) {
        const auto threads = static_cast<uint32_t>(cases.between(1, 3));
        slt::Workspace work(memory, threads, *ops);
        std::vector<int32_t> actual(expected.size(), std::numeric_limits<int32_t>::min());
        const slt::Sink sink{identity(), nullptr,       out, s.out_pixels(),
                             nullptr,    actual.data(), *ops};
        const auto step = static_cast<uint32_t>(cases.between(1, out));
        const auto pixels_a_row = static_cast<uint32_t>(cases.between(0, 8));
        slt::dot_conv2d(weights.source(step, pixels_a_row, work.threads), x.data(), n, s, sink,
                        work);
        check(actual == expected, std::string("dot_conv2d, ") + ops->name +
                                      ", K = " + std::to_string(fan_in) + ", " +
                                      std::to_string(out) + " rows, " + std::to_string(n) +
                                      " images of " + std::to_string(s.out_pixels()) + " pixels, " +
                                      std::to_string(threads) + " threads");
    }
}

slt::ConvShape random_shape(Cases& cases) {
    const auto draw = [&](uint64_t low, uint64_t high) {
        return static_cast<uint32_t>(cases.between(low, high));
    };
    slt::ConvShape s;
    s.groups = draw(1, 3);
    s.channels = s.groups * (cases.next() % 2 ? draw(1, 70) : 4 * draw(1, 32));
    s.kernel_rows = draw(1, 4);
    s.kernel_columns = draw(1, 4);
    s.height = draw(s.kernel_rows, 12);
    s.width = draw(s.kernel_columns, cases.next() % 4 ? 12 : 70);
    s.stride = draw(1, 3);
    s.padding = draw(0, 3);
    return s;
}

slt::ConvShape one_pixel(uint32_t channels) {
    slt::ConvShape s;
    s.channels = channels;
    return s;
}

}  // namespace

void dot_kernels() {
    Cases cases(7);
    for (int i = 0; i < 60; ++i) {
        const slt::ConvShape s = random_shape(cases);
        const uint32_t out = s.groups * static_cast<uint32_t>(cases.between(1, 21));
        one_layer(cases, s, out, cases.between(1, 3), Extreme::no);
    }
    for (int i = 0; i < 60; ++i) {
        const auto out = static_cast<uint32_t>(cases.between(1, 150)),
                   fan_in = static_cast<uint32_t>(cases.between(1, 700));
        one_layer(cases, one_pixel(fan_in), out, cases.between(1, 40), Extreme::no);
    }
    // The largest sums in 16 bits, at and around the steps between two widenings; and deep layers.
    for (const uint32_t fan_in : {4u, 127u, 252u, 256u, 260u, 512u, 1032u, 4608u}) {
        for (const Extreme extreme : {Extreme::most, Extreme::least, Extreme::no}) {
            one_layer(cases, one_pixel(fan_in), 9, 1, extreme);
            one_layer(cases, one_pixel(fan_in), 9, 33, extreme);
        }
    }
    slt::ConvShape deep = one_pixel(512);
    deep.kernel_rows = deep.kernel_columns = 3;
    deep.height = deep.width = 4;
    deep.padding = 1;
    for (const Extreme extreme : {Extreme::most, Extreme::least, Extreme::no})
        one_layer(cases, deep, 70, 2, extreme);
}

}  // namespace test
