#include "int8.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "add.h"
#include "depthwise.h"
#include "dot.h"

namespace slt {

namespace {

constexpr int64_t kMaxShift = int64_t{1} << 46;

int64_t floor_div(int64_t a, int64_t b) {  // b > 0
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}
int64_t ceil_div(int64_t a, int64_t b) { return -floor_div(-a, b); }

// The 32-bit form of one channel. T = acc * m + r * m_r + C, C = b + ((1 << s) >> 1), gives y =
// clamp(T >> s, low, 127): 127 where T >= 127 * 2^s, low where T < (low + 1) * 2^s.
//
// With |r| <= 128, R = 128 |m_r| bounds |r * m_r|. For m > 0 let
//   hi = ceil((127 * 2^s + R - C) / m):              acc >= hi gives y = 127 whatever r is,
//   lo = floor(((low + 1) * 2^s - 1 - R - C) / m):   acc <= lo gives y = low.
// So acc may be clamped to [lo, hi] first; lo <= hi, as low <= 0 makes the first numerator the
// greater. What T is then lies in
//   [(low + 1) * 2^s - 1 - 2 R - m, 127 * 2^s + 2 R + m],
// below 127 * 2^22 + 256 * 32767 + 32767 < 2^30 in magnitude: T modulo 2^32, read as int32, is T.
// For m < 0 the ends change places. Where hi is below every int32, or lo above, y does not depend
// on acc, and neither on r: m = m_r = 0 and C = +-2^30 give it. For m = 0, C beyond +-2^30 may be
// +-2^30: 2^30 - R > 127 * 2^22.
RequantiseChannel narrow(int64_t m, int64_t b, int64_t s, int64_t m_r, int64_t low) {
    constexpr int64_t kFar = int64_t{1} << 30;
    constexpr int64_t kLeast = std::numeric_limits<int32_t>::min(),
                      kMost = std::numeric_limits<int32_t>::max();
    const int64_t c = b + ((int64_t{1} << s) >> 1);
    const int64_t reach = int64_t{128} * std::abs(m_r);
    const auto make = [&](int64_t least, int64_t most, int64_t factor, int64_t residual,
                          int64_t add) {
        return RequantiseChannel{static_cast<int32_t>(least),
                                 static_cast<int32_t>(most),
                                 static_cast<int32_t>(factor),
                                 static_cast<int32_t>(residual),
                                 static_cast<int32_t>(static_cast<uint32_t>(add)),  // modulo 2^32
                                 static_cast<uint32_t>(s),
                                 static_cast<int32_t>(low)};
    };
    const auto constant = [&](int64_t value) { return make(0, 0, 0, 0, value); };
    if (m == 0) {
        if (std::abs(c) > kFar) return constant(c > 0 ? kFar : -kFar);
        return make(0, 0, 0, m_r, c);
    }
    const int64_t top = (int64_t{127} << s) + reach - c;
    const int64_t bottom = (int64_t{low} + 1) * (int64_t{1} << s) - 1 - reach - c;
    // acc * |m| >= top saturates above for m > 0; for m < 0 it is -acc that does.
    const int64_t size = std::abs(m);
    int64_t hi = ceil_div(top, size), lo = floor_div(bottom, size);
    if (m < 0) std::swap(hi, lo), hi = -hi, lo = -lo;
    const bool above = m > 0 ? hi < kLeast : lo > kMost;  // every acc is beyond the upper end
    const bool below = m > 0 ? lo > kMost : hi < kLeast;
    if (above || below) return constant(above ? kFar : -kFar);
    return make(std::clamp(lo, kLeast, kMost), std::clamp(hi, kLeast, kMost), m, m_r, c);
}

}  // namespace

Requantiser::Requantiser(std::vector<int64_t> m, std::vector<int64_t> b, int64_t s, int64_t m_r,
                         int64_t low)
    : m_(std::move(m)), b_(std::move(b)), s_(s), m_r_(m_r) {
    const auto refuse = [](const char* what) { throw std::invalid_argument(what); };
    if (m_.empty() || m_.size() != b_.size()) refuse("m and b must have one length, not 0");
    if (s < 0 || s > 22) refuse("s must be 0 to 22");
    if (low < -127 || low > 0) refuse("low must be -127 to 0");
    if (m_r < -32767 || m_r > 32767) refuse("m_r must be -32767 to 32767");
    for (size_t i = 0; i < m_.size(); ++i) {
        if (m_[i] < -32767 || m_[i] > 32767) refuse("m must be -32767 to 32767");
        if (b_[i] < -kMaxShift || b_[i] > kMaxShift) refuse("b must be -2^46 to 2^46");
        channels_.push_back(narrow(m_[i], b_[i], s, m_r, low));
    }
}

template <class Sum>
void Requantiser::store(size_t channel, uint32_t rows, size_t count, const Sum* sums,
                        size_t sums_stride, const int8_t* residual, int8_t* out, size_t stride,
                        const Ops& ops) const {
    const size_t step = channels_.size() > 1;
    const auto kernel = [&] {
        if constexpr (sizeof(Sum) == 4)
            return ops.requantise;
        else
            return ops.requantise_shorts;
    }();
    kernel(sums, sums_stride, residual, stride, rows, count, &channels_[channel * step], step, out);
}

template <class Sum>
void Requantiser::store(size_t channel, uint32_t rows, size_t count, const Sum* sums,
                        size_t sums_stride, const int8_t* residual, int32_t* out, size_t stride,
                        const Ops&) const {
    const size_t step = channels_.size() > 1;
    for (size_t row = 0; row < rows; ++row, sums += sums_stride) {
        const int64_t m = m_[(channel + row) * step],
                      c = b_[(channel + row) * step] + ((int64_t{1} << s_) >> 1);
        for (size_t i = 0; i < count; ++i) {
            const int64_t r = residual ? residual[row * stride + i] : 0;
            out[row * stride + i] = static_cast<int32_t>(std::clamp<int64_t>(
                (sums[i] * m + r * m_r_ + c) >> s_, std::numeric_limits<int32_t>::min(),
                std::numeric_limits<int32_t>::max()));
        }
    }
}

#define SLT_STORE(Sum, Out)                                                                       \
    template void Requantiser::store(size_t, uint32_t, size_t, const Sum*, size_t, const int8_t*, \
                                     Out*, size_t, const Ops&) const
SLT_STORE(int16_t, int8_t);
SLT_STORE(int32_t, int8_t);
SLT_STORE(int16_t, int32_t);
SLT_STORE(int32_t, int32_t);
#undef SLT_STORE

template <class Sum>
void Sink::store_rows(uint32_t row, uint32_t count_rows, size_t first_pixel, size_t count,
                      const Sum* sums, size_t sums_stride) const {
    while (count) {
        const size_t image = first_pixel / pixels, pixel = first_pixel % pixels;
        const size_t length = std::min(pixels - pixel, count);
        const size_t at = (image * rows + row) * pixels + pixel;
        const int8_t* r = residual ? residual + at : nullptr;
        if (out) {
            requantiser.store(row, count_rows, length, sums, sums_stride, r, out + at, pixels, ops);
        } else {
            requantiser.store(row, count_rows, length, sums, sums_stride, r, logits + at, pixels,
                              ops);
        }
        sums += length, first_pixel += length, count -= length;
    }
}

template void Sink::store_rows(uint32_t, uint32_t, size_t, size_t, const int16_t*, size_t) const;
template void Sink::store_rows(uint32_t, uint32_t, size_t, size_t, const int32_t*, size_t) const;

namespace {

// RowSource::pixels_a_row, roughly.
constexpr uint32_t kUnpackPixels = 1, kRegeneratePixels = 4;

// Whether the convolution is a product with a vector.
bool is_linear(const ConvShape& s) {
    return s.height == 1 && s.width == 1 && s.kernel_rows == 1 && s.kernel_columns == 1 &&
           s.groups == 1 && s.padding == 0;
}

}  // namespace

Int8Layer::Int8Layer(std::shared_ptr<const LayerCode> code, Keep keep, Kernel kernel,
                     const ConvShape& shape, Workspace& work)
    : code_(std::move(code)),
      out_(code_->fields().out),
      fan_in_(code_->fields().fan_in),
      kernel_(kernel),
      shape_(shape) {
    if (uint64_t{shape.kernel_rows} * shape.kernel_columns * shape.inputs() != fan_in_ ||
        out_ % shape.groups != 0) {
        throw std::invalid_argument("the layer's weights do not fit its shape");
    }
    if (keep == Keep::lists && kernel == Kernel::add && !is_linear(shape) && !is_depthwise(shape)) {
        // Threads may share the rows: no list is of two shares.
        const uint32_t shares = shape.groups == 1 ? work.threads.count() : shape.groups;
        lists_ = ResidentUnits::make(*code_, (out_ + shares - 1) / shares,
                                     add_rows(shape.out_pixels(), work.ops), work.weights,
                                     work.threads, work.ops);
    }
    if (keep != Keep::none && !lists_) {
        planes_ = std::make_unique<ResidentPlanes>(*code_, work.weights, work.threads, work.ops);
    }
    if (keep != Keep::none) code_.reset();
}

size_t Int8Layer::resident_bytes() const {
    return (planes_ ? planes_->bytes() : 0) + (lists_ ? lists_->bytes() : 0);
}

double Int8Layer::scratch_bytes(const Ops& ops) const {
    if (kernel_ == Kernel::dot) return dot_scratch_bytes(shape_, ops);
    return is_depthwise(shape_) ? depthwise_scratch_bytes(shape_, sizeof(int16_t))
                                : add_scratch_bytes(shape_, ops);
}

void Int8Layer::conv2d(const int8_t* x, size_t n, const Sink& sink, Workspace& work) const {
    if (lists_) return add_conv2d(*lists_, x, n, shape_, sink, work);
    const RowSource source{
        [&](uint32_t most, bool all, const UseRows& use) {
            if (planes_) return planes_->share_rows(most, all, work.weights, work.threads, use);
            stream_rows(*code_, most, all, work.weights, work.threads, work.ops, use);
        },
        planes_ ? kUnpackPixels : kRegeneratePixels};
    if (kernel_ == Kernel::dot) {
        dot_conv2d(source, x, n, shape_, sink, work);
    } else if (is_linear(shape_)) {
        add_linear(source, x, n, fan_in_, sink, work);
    } else if (is_depthwise(shape_)) {
        const auto show = [&](const UseRows& use) { source.show(out_, false, use); };
        depthwise_conv2d(show, x, n, shape_, sink, work);
    } else {
        add_conv2d(source, x, n, shape_, sink, work);
    }
}

void Int8Layer::linear(const int8_t* x, size_t n, const Sink& sink, Workspace& work) const {
    if (!is_linear(shape_)) throw std::invalid_argument("the layer is a convolution");
    conv2d(x, n, sink, work);
}

}  // namespace slt
