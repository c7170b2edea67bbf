// The int8 kernels on every ISA, in every form of the weights and with several threads, against
// sums in int64, weight by weight, and the formula of docs/numerics.md.
#include <algorithm>
#include <limits>
#include <memory>

#include "check.h"
#include "int8.h"

namespace test {
namespace {

std::vector<int8_t> random_bytes(Cases& cases, size_t count, bool extreme) {
    std::vector<int8_t> values(count);
    for (int8_t& value : values) {
        const auto any = static_cast<int>(cases.between(0, 254)) - 127;
        value = static_cast<int8_t>(!extreme ? any : any < 0 ? -127 : 127);
    }
    return values;
}

// prune of 16 are pruned, lock locked, the rest kept: all free mask bits are set.
std::shared_ptr<slt::LayerCode> layer(uint64_t seed, uint32_t out, uint32_t fan_in, uint32_t bits,
                                      uint32_t prune, uint32_t lock) {
    slt::LayerFields f;
    f.seed = seed;
    f.out = f.tile_rows = out;
    f.fan_in = fan_in;
    f.bits = bits;
    f.prune = prune;
    f.lock = lock;
    const std::vector<uint32_t> none;
    return std::make_shared<slt::LayerCode>(f, none, none, nullptr, 0,
                                            std::make_shared<slt::WeightMemory>());
}

// Dense, sparse or very sparse.
std::shared_ptr<slt::LayerCode> random_layer(Cases& cases, uint32_t out, uint32_t fan_in) {
    const uint32_t prune[] = {0, 1, 120, 201, 243, 253};
    const uint32_t pruned = prune[cases.between(0, 5)];
    if (pruned == 0) return layer(cases.next(), out, fan_in, 0, 0, 0);
    return layer(cases.next(), out, fan_in, 8, pruned, 1);
}

std::vector<int> weights_of(const slt::LayerCode& code) {
    const uint32_t out = code.fields().out, fan_in = code.fields().fan_in;
    std::vector<uint64_t> kept(out * code.row_words()), sign(kept.size());
    code.rows(0, out, kept.data(), sign.data(), slt::scalar_ops);
    std::vector<int> weights;
    for (uint32_t o = 0; o < out; ++o) {
        for (uint32_t k = 0; k < fan_in; ++k) {
            const size_t word = o * code.row_words() + k / 64;
            weights.push_back(!(kept[word] >> k % 64 & 1) ? 0 : sign[word] >> k % 64 & 1 ? -1 : 1);
        }
    }
    return weights;
}

int64_t conv_sum(const int* weights, const int8_t* image, const slt::ConvShape& s, uint32_t group,
                 uint32_t row, uint32_t column) {
    int64_t sum = 0;
    for (uint32_t k = 0; k < s.kernel_rows * s.kernel_columns * s.inputs(); ++k) {
        const uint32_t tap = k / s.inputs(), channel = group * s.inputs() + k % s.inputs();
        const int64_t y = int64_t{row} * s.stride + tap / s.kernel_columns - s.padding;
        const int64_t x = int64_t{column} * s.stride + tap % s.kernel_columns - s.padding;
        if (y < 0 || x < 0 || y >= s.height || x >= s.width) continue;
        const size_t at = (size_t{channel} * s.height + static_cast<size_t>(y)) * s.width;
        sum += weights[k] * image[at + static_cast<size_t>(x)];
    }
    return sum;
}

struct Rounding {
    std::vector<int64_t> m, b;
    int64_t s, m_r, low;

    int64_t raw(size_t channel, int64_t acc, int64_t r) const {
        if (m.size() == 1) channel = 0;
        return (acc * m[channel] + r * m_r + b[channel] + ((int64_t{1} << s) >> 1)) >> s;
    }
    int8_t value(size_t channel, int64_t acc, int64_t r) const {
        return static_cast<int8_t>(std::clamp<int64_t>(raw(channel, acc, r), low, 127));
    }
    int32_t logit(size_t channel, int64_t acc, int64_t r) const {
        return static_cast<int32_t>(std::clamp<int64_t>(raw(channel, acc, r),
                                                        std::numeric_limits<int32_t>::min(),
                                                        std::numeric_limits<int32_t>::max()));
    }
    slt::Requantiser requantiser() const { return slt::Requantiser(m, b, s, m_r, low); }
};

// Of sums of about `spread`; extreme: any numbers that are allowed.
Rounding random_rounding(Cases& cases, size_t channels, int64_t spread, bool extreme) {
    Rounding r;
    r.s = static_cast<int64_t>(cases.between(0, 22));
    r.low = cases.between(0, 1) ? -127 : 0;
    const auto around = [&](int64_t most) {
        return static_cast<int64_t>(cases.between(0, 2 * static_cast<uint64_t>(most))) - most;
    };
    r.m_r = around(extreme ? 32767 : 32767 >> cases.between(0, 14));
    const int64_t most = extreme ? 32767 : std::clamp<int64_t>((127 << r.s) / spread, 1, 32767);
    for (size_t i = 0; i < channels; ++i) {
        r.m.push_back(extreme && cases.between(0, 9) == 0 ? 0 : around(most));
        r.b.push_back(extreme ? around(int64_t{1} << cases.between(0, 46)) : around(64 << r.s));
    }
    return r;
}

void one_rounding(Cases& cases) {
    const size_t count = cases.between(1, 70), rows = cases.between(1, 3);
    const Rounding rounding = random_rounding(cases, rows, 1, true);
    const slt::Requantiser requantiser = rounding.requantiser();
    std::vector<int32_t> sums(rows * count);
    for (int32_t& sum : sums) {
        sum = static_cast<int32_t>(cases.next()) >> cases.between(0, 31);
        if (cases.between(0, 9) == 0) sum = std::numeric_limits<int32_t>::min();
        if (cases.between(0, 9) == 0) sum = std::numeric_limits<int32_t>::max();
    }
    const std::vector<int8_t> residual = random_bytes(cases, rows * count, true);
    for (const slt::Ops* ops : slt::available_ops()) {
        for (const bool with : {false, true}) {
            std::vector<int8_t> out(rows * count);
            std::vector<int32_t> logits(rows * count);
            const int8_t* r = with ? residual.data() : nullptr;
            const auto n = static_cast<uint32_t>(rows);
            requantiser.store(0, n, count, sums.data(), count, r, out.data(), count, *ops);
            requantiser.store(0, n, count, sums.data(), count, r, logits.data(), count, *ops);
            bool right = true;
            for (size_t i = 0; i < rows * count; ++i) {
                right = right && out[i] == rounding.value(i / count, sums[i], r ? r[i] : 0) &&
                        logits[i] == rounding.logit(i / count, sums[i], r ? r[i] : 0);
            }
            check(right, std::string("requantise, ") + ops->name);
        }
    }
}

const slt::Int8Layer::Keep kForms[] = {slt::Int8Layer::Keep::none, slt::Int8Layer::Keep::planes,
                                       slt::Int8Layer::Keep::lists};

// Of a layer and images, every ISA, form and kernel; with a residual and without, and as logits.
void check_layer(Cases& cases, const std::shared_ptr<slt::LayerCode>& code, const slt::ConvShape& s,
                 size_t n, bool extreme) {
    const uint32_t out = code->fields().out;
    const size_t floats = size_t{s.channels} * s.height * s.width, pixels = s.out_pixels();
    const std::vector<int> weights = weights_of(*code);
    std::vector<int8_t> x = random_bytes(cases, n * floats, extreme);
    if (extreme && cases.between(0, 1)) std::fill(x.begin(), x.end(), int8_t{127});
    std::vector<int64_t> sums;
    int64_t most = 1;
    for (size_t i = 0; i < n; ++i) {
        for (uint32_t o = 0; o < out; ++o) {
            for (uint32_t p = 0; p < pixels; ++p) {
                sums.push_back(conv_sum(weights.data() + size_t{o} * code->fields().fan_in,
                                        x.data() + i * floats, s, o / (out / s.groups),
                                        p / s.out_columns(), p % s.out_columns()));
                most = std::max({most, sums.back(), -sums.back()});
            }
        }
    }
    const Rounding rounding =
        random_rounding(cases, cases.between(0, 1) ? out : 1, (most + 3) / 4, false);
    const slt::Requantiser requantiser = rounding.requantiser();
    const std::vector<int8_t> residual = random_bytes(cases, sums.size(), false);
    for (const slt::Ops* ops : slt::available_ops()) {
        for (const auto form : kForms) {
            for (const auto kernel : {slt::Int8Layer::Kernel::add, slt::Int8Layer::Kernel::dot}) {
                const auto threads = static_cast<uint32_t>(cases.between(1, 3));
                slt::Workspace work(code->memory(), threads, *ops);
                const slt::Int8Layer layer(code, form, kernel, s, work);
                std::vector<int8_t> values(sums.size(), 99);
                std::vector<int32_t> logits(sums.size(), 99);
                const int8_t* r = cases.between(0, 1) ? residual.data() : nullptr;
                layer.conv2d(x.data(), n,
                             {requantiser, r, out, pixels, values.data(), nullptr, *ops}, work);
                layer.conv2d(x.data(), n,
                             {requantiser, r, out, pixels, nullptr, logits.data(), *ops}, work);
                bool right = true;
                for (size_t i = 0; i < sums.size(); ++i) {
                    const size_t o = i / pixels % out;
                    right = right && values[i] == rounding.value(o, sums[i], r ? r[i] : 0) &&
                            logits[i] == rounding.logit(o, sums[i], r ? r[i] : 0);
                }
                check(right, std::string("int8 layer, ") + ops->name + ", keeps " +
                                 layer.kept_name() +
                                 (kernel == slt::Int8Layer::Kernel::add ? ", adds" : ", dots"));
            }
        }
    }
}

void one_convolution(Cases& cases) {
    slt::ConvShape s;
    s.groups = static_cast<uint32_t>(cases.between(1, 3));
    s.channels = s.groups * static_cast<uint32_t>(cases.between(1, 90));
    s.kernel_rows = static_cast<uint32_t>(cases.between(1, 4));
    s.kernel_columns = static_cast<uint32_t>(cases.between(1, 4));
    s.height = static_cast<uint32_t>(cases.between(s.kernel_rows, 12));
    s.width = static_cast<uint32_t>(cases.between(s.kernel_columns, 12));
    s.stride = static_cast<uint32_t>(cases.between(1, 3));
    s.padding = static_cast<uint32_t>(cases.between(0, 3));
    const uint32_t out = s.groups * static_cast<uint32_t>(cases.between(1, 9));
    const uint32_t fan_in = s.kernel_rows * s.kernel_columns * s.inputs();
    check_layer(cases, random_layer(cases, out, fan_in), s, cases.between(1, 3), false);
}

// One channel a group.
void one_depthwise(Cases& cases) {
    slt::ConvShape s;
    s.groups = s.channels = static_cast<uint32_t>(cases.between(1, 4));
    s.kernel_rows = static_cast<uint32_t>(cases.between(1, 12));
    s.kernel_columns = static_cast<uint32_t>(cases.between(1, 12));
    s.stride = static_cast<uint32_t>(cases.between(1, 4));
    s.padding = static_cast<uint32_t>(cases.between(0, 6));
    s.height = static_cast<uint32_t>(cases.between(s.kernel_rows, 70));
    s.width = static_cast<uint32_t>(cases.between(s.kernel_columns, 150));
    const uint32_t out = s.groups * static_cast<uint32_t>(cases.between(1, 3));
    const uint32_t fan_in = s.kernel_rows * s.kernel_columns;
    check_layer(cases, random_layer(cases, out, fan_in), s, cases.between(1, 2),
                cases.between(0, 1));
}

void one_linear(Cases& cases) {
    slt::ConvShape s;
    s.channels = static_cast<uint32_t>(cases.between(1, 3000));
    const auto out = static_cast<uint32_t>(cases.between(1, 40));
    check_layer(cases, random_layer(cases, out, s.channels), s, cases.between(1, 9), false);
}

// Every weight kept and every activation as large as can be, around the sizes of blocks: any signs,
// and those that give the largest and the least sums.
void extremes(Cases& cases) {
    for (const uint32_t fan_in :
         {127u, 128u, 129u, 255u, 256u, 257u, 258u, 259u, 511u, 513u, 1030u, 4097u}) {
        for (const uint32_t width : {1u, 3u, 17u}) {
            slt::ConvShape s;
            s.channels = fan_in;
            s.width = width;
            check_layer(cases, layer(cases.next(), 3, fan_in, 0, 0, 0), s, 1, true);
            const auto code = layer(cases.next(), 1, fan_in, 0, 0, 0);
            const std::vector<int> weights = weights_of(*code);
            std::vector<int8_t> x;
            for (const int weight : weights)
                x.insert(x.end(), width, static_cast<int8_t>(127 * weight));
            for (const slt::Ops* ops : slt::available_ops()) {
                for (const auto form : kForms) {
                    slt::Workspace work(code->memory(), 1, *ops);
                    const slt::Int8Layer made(code, form, slt::Int8Layer::Kernel::add, s, work);
                    const slt::Requantiser one({1}, {0}, 0, 0, -127);
                    std::vector<int32_t> sums(width);
                    made.conv2d(x.data(), 1, {one, nullptr, 1, width, nullptr, sums.data(), *ops},
                                work);
                    check(sums == std::vector<int32_t>(width, static_cast<int32_t>(127 * fan_in)),
                          std::string("the largest sums, ") + ops->name);
                    for (int8_t& value : x) value = static_cast<int8_t>(-value);
                    made.conv2d(x.data(), 1, {one, nullptr, 1, width, nullptr, sums.data(), *ops},
                                work);
                    check(sums == std::vector<int32_t>(width, -static_cast<int32_t>(127 * fan_in)),
                          std::string("the least sums, ") + ops->name);
                    for (int8_t& value : x) value = static_cast<int8_t>(-value);
                }
            }
        }
    }
}

}  // namespace

void int8_kernels() {
    Cases cases(8);
    for (int i = 0; i < 2000; ++i) one_rounding(cases);
    for (int i = 0; i < 40; ++i) one_convolution(cases);
    for (int i = 0; i < 30; ++i) one_depthwise(cases);
    for (int i = 0; i < 25; ++i) one_linear(cases);
    extremes(cases);
}

}  // namespace test
