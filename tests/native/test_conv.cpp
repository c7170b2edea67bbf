// The runtime's kernels on every ISA, in every form of the weights and with several threads,
// against sums that follow docs/numerics.md weight by weight.
#include <algorithm>
#include <limits>
#include <memory>
#include <new>

#include "check.h"
#include "conv.h"

namespace test {
namespace {

std::vector<float> random_floats(Cases& cases, size_t count) {
    std::vector<float> values(count);
    for (float& value : values)
        value = static_cast<float>(static_cast<int64_t>(cases.next())) * 0x1p-62f;
    return values;
}

// A layer whose free weights are all kept: the freeze pattern alone makes it sparse.
std::shared_ptr<slt::LayerCode> random_layer(Cases& cases, uint32_t out, uint32_t fan_in) {
    slt::LayerFields f;
    f.seed = cases.next();
    f.out = f.tile_rows = out;
    f.fan_in = fan_in;
    f.bits = 4;
    f.prune = static_cast<uint32_t>(2 * cases.between(0, 7) + 1);
    f.lock = static_cast<uint32_t>(cases.between(0, 16 - f.prune));
    const auto memory = std::make_shared<slt::WeightMemory>();
    const std::vector<uint32_t> none;
    return std::make_shared<slt::LayerCode>(f, none, none, nullptr, 0, memory);
}

struct Matrix {
    explicit Matrix(const slt::LayerCode& code) : words(code.row_words()) {
        kept.resize(code.fields().out * words);
        sign.resize(kept.size());
        code.rows(0, code.fields().out, kept.data(), sign.data(), slt::scalar_ops);
    }
    int weight(uint32_t o, uint32_t k) const {
        const size_t word = o * words + k / 64;
        return !(kept[word] >> k % 64 & 1) ? 0 : sign[word] >> k % 64 & 1 ? -1 : 1;
    }
    size_t words;
    std::vector<uint64_t> kept, sign;
};

float pixel(const float* image, const slt::ConvShape& s, uint32_t channel, int64_t row,
            int64_t column) {
    if (row < 0 || column < 0 || row >= s.height || column >= s.width) return 0;
    return image[(size_t{channel} * s.height + static_cast<size_t>(row)) * s.width +
                 static_cast<size_t>(column)];
}

float conv_sum(const Matrix& m, const float* image, const slt::ConvShape& s, uint32_t out,
               uint32_t o, uint32_t row, uint32_t column) {
    const uint32_t fan_in = s.kernel_rows * s.kernel_columns * s.inputs(),
                   group = o / (out / s.groups);
    float acc = 0;
    for (uint32_t block = 0; block < fan_in; block += 128) {
        float plus = 0, minus = 0;
        for (uint32_t k = block; k < std::min(block + 128, fan_in); ++k) {
            const uint32_t tap = k / s.inputs(), channel = group * s.inputs() + k % s.inputs();
            const int64_t y = int64_t{row} * s.stride + tap / s.kernel_columns - s.padding;
            const int64_t x = int64_t{column} * s.stride + tap % s.kernel_columns - s.padding;
            const int weight = m.weight(o, k);
            if (weight > 0) plus += pixel(image, s, channel, y, x);
            if (weight < 0) minus += pixel(image, s, channel, y, x);
        }
        acc += plus - minus;
    }
    return acc;
}

slt::ConvShape random_shape(Cases& cases) {
    slt::ConvShape s;
    s.groups = static_cast<uint32_t>(cases.between(1, 3));
    s.channels = s.groups * static_cast<uint32_t>(cases.between(1, 70));
    s.kernel_rows = static_cast<uint32_t>(cases.between(1, 4));
    s.kernel_columns = static_cast<uint32_t>(cases.between(1, 4));
    s.height = static_cast<uint32_t>(cases.between(s.kernel_rows, 12));
    s.width = static_cast<uint32_t>(cases.between(s.kernel_columns, 12));
    s.stride = static_cast<uint32_t>(cases.between(1, 3));
    s.padding = static_cast<uint32_t>(cases.between(0, 3));
    return s;
}

// One channel a group; images of several strips, and rows of weights of two blocks.
slt::ConvShape random_depthwise(Cases& cases) {
    slt::ConvShape s;
    s.groups = s.channels = static_cast<uint32_t>(cases.between(1, 5));
    s.kernel_rows = static_cast<uint32_t>(cases.between(1, 12));
    s.kernel_columns = static_cast<uint32_t>(cases.between(1, 12));
    s.stride = static_cast<uint32_t>(cases.between(1, 5));
    s.padding = static_cast<uint32_t>(cases.between(0, 7));
    const auto size = [&](uint32_t kernel) {
        const uint32_t most = cases.between(0, 3) ? 20 : 150;
        return static_cast<uint32_t>(
            cases.between(kernel > 2 * s.padding ? kernel - 2 * s.padding : 1, most));
    };
    s.height = size(s.kernel_rows);
    s.width = size(s.kernel_columns);
    return s;
}

const slt::LayerWeights::Keep kForms[] = {
    slt::LayerWeights::Keep::none, slt::LayerWeights::Keep::planes, slt::LayerWeights::Keep::lists};

void one_convolution(Cases& cases, const slt::ConvShape& s) {
    const uint32_t out = s.groups * static_cast<uint32_t>(cases.between(1, 9));
    const auto code = random_layer(cases, out, s.kernel_rows * s.kernel_columns * s.inputs());
    const Matrix matrix(*code);
    const size_t n = cases.between(1, 3), floats = size_t{s.channels} * s.height * s.width;
    const std::vector<float> x = random_floats(cases, n * floats),
                             scale = random_floats(cases, out), shift = random_floats(cases, out);
    std::vector<float> expected, actual(n * out * s.out_pixels());
    for (size_t i = 0; i < n; ++i) {
        for (uint32_t o = 0; o < out; ++o) {
            for (uint32_t p = 0; p < s.out_pixels(); ++p) {
                const float sum = conv_sum(matrix, x.data() + i * floats, s, out, o,
                                           p / s.out_columns(), p % s.out_columns());
                const float y = sum * scale[o] + shift[o];
                expected.push_back(y > 0 ? y : 0);
            }
        }
    }
    for (const slt::Ops* ops : slt::available_ops()) {
        for (const auto form : kForms) {
            slt::Workspace work(code->memory(), static_cast<uint32_t>(cases.between(1, 3)), *ops);
            const slt::LayerWeights layer(code, form, s, work);
            actual.assign(actual.size(), std::numeric_limits<float>::quiet_NaN());
            layer.conv2d(x.data(), n, {scale.data(), shift.data(), true}, actual.data(), work);
            check(actual == expected,
                  std::string("conv2d, ") + ops->name + ", keeps " + layer.kept_name());
        }
    }
}

void one_linear(Cases& cases) {
    const auto out = static_cast<uint32_t>(cases.between(1, 40)),
               fan_in = static_cast<uint32_t>(cases.between(1, 400));
    const auto code = random_layer(cases, out, fan_in);
    const Matrix matrix(*code);
    const size_t n = cases.between(1, 3);
    const std::vector<float> x = random_floats(cases, n * fan_in);
    std::vector<float> expected, actual(n * out);
    for (size_t i = 0; i < n; ++i) {
        for (uint32_t o = 0; o < out; ++o) {
            float lane[16] = {};
            for (uint32_t k = 0; k < fan_in; ++k) {
                const int weight = matrix.weight(o, k);
                if (weight != 0)
                    lane[k % 16] += weight > 0 ? x[i * fan_in + k] : -x[i * fan_in + k];
            }
            for (size_t half : {8, 4, 2, 1}) {
                for (size_t j = 0; j < half; ++j) lane[j] += lane[j + half];
            }
            expected.push_back(lane[0]);
        }
    }
    for (const slt::Ops* ops : slt::available_ops()) {
        for (const auto form : {slt::LayerWeights::Keep::none, slt::LayerWeights::Keep::planes}) {
            slt::Workspace work(code->memory(), static_cast<uint32_t>(cases.between(1, 3)), *ops);
            slt::ConvShape shape;
            shape.channels = fan_in;
            const slt::LayerWeights layer(code, form, shape, work);
            layer.linear(x.data(), n, {}, actual.data(), work);
            check(actual == expected,
                  std::string("linear, ") + ops->name + ", keeps " + layer.kept_name());
        }
    }
}

void one_pool(Cases& cases) {
    slt::PoolShape s{2,
                     0,
                     0,
                     static_cast<uint32_t>(cases.between(1, 5)),
                     static_cast<uint32_t>(cases.between(1, 6)),
                     0};
    s.padding = static_cast<uint32_t>(cases.between(0, s.kernel / 2));
    s.height = static_cast<uint32_t>(cases.between(s.kernel, 11));
    s.width = static_cast<uint32_t>(cases.between(s.kernel, 11));
    const std::vector<float> x = random_floats(cases, size_t{2} * s.height * s.width);
    const size_t pixels = size_t{s.out_rows()} * s.out_columns();
    std::vector<float> most(2 * pixels), mean(2 * pixels);
    slt::Threads threads(2);
    slt::max_pool2d(x.data(), 2, s, most.data(), threads);
    slt::avg_pool2d(x.data(), 2, s, mean.data(), threads);
    bool right = true;
    for (size_t i = 0; i < 2 * pixels; ++i) {
        const size_t row = i % pixels / s.out_columns() * s.stride,
                     column = i % s.out_columns() * s.stride;
        float largest = -std::numeric_limits<float>::infinity(), sum = 0;
        for (size_t y = row; y < row + s.kernel; ++y) {
            for (size_t z = column; z < column + s.kernel; ++z) {
                if (y < s.padding || z < s.padding || y >= s.height + s.padding ||
                    z >= s.width + s.padding)
                    continue;
                const float value =
                    x[(i / pixels * s.height + y - s.padding) * s.width + z - s.padding];
                largest = std::max(largest, value);
                sum += value;
            }
        }
        right =
            right && most[i] == largest && mean[i] == sum / static_cast<float>(s.kernel * s.kernel);
    }
    check(right, "pools");
}

}  // namespace

void kernels() {
    Cases cases(5);
    for (int i = 0; i < 40; ++i) one_convolution(cases, random_shape(cases));
    for (int i = 0; i < 60; ++i) one_convolution(cases, random_depthwise(cases));
    for (int i = 0; i < 40; ++i) one_linear(cases);
    for (int i = 0; i < 100; ++i) one_pool(cases);
}

}  // namespace test
