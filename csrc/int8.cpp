#include "int8.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "dot.h"
#include "images.h"

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
    const auto make = [&](int64_t least, int64_t most, int64_t factor, int64_t residual, int64_t add) {
        return RequantiseChannel{static_cast<int32_t>(least),
                                 static_cast<int32_t>(most),
                                 static_cast<int32_t>(factor),
                                 static_cast<int32_t>(residual),
                                 static_cast<int32_t>(static_cast<uint32_t>(add)),  // modulo 2^32
                                 static_cast<uint32_t>(s),
                                 static_cast<int32_t>(low)};
    };
    const auto constant = [&](int64_t value) {
        return make(0, 0, 0, 0, value);
    };
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
        if constexpr (sizeof(Sum) == 4) return ops.requantise;
        else return ops.requantise_shorts;
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

#define SLT_STORE(Sum, Out)                                                                  \
    template void Requantiser::store(size_t, uint32_t, size_t, const Sum*, size_t,           \
                                     const int8_t*, Out*, size_t, const Ops&) const
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

// Images as panels (int8_inl.h), those of a convolution group one behind the other: full ones of
// `vectors` vectors and a last one that may be narrower.
struct Panels {
    uint32_t fan_in, lanes, vectors;
    size_t pixels;  // of all images
    size_t count;   // of a group
    const int16_t* data;

    size_t width() const { return size_t{vectors} * lanes; }
    // Threads fill panels side by side.
    size_t size() const { return fan_in * width() + kGatherSlack / sizeof(int16_t); }
    const int16_t* panel(size_t group, size_t index) const {
        return data + (group * count + index) * size();
    }
    size_t begin(size_t index) const { return index * width(); }
    size_t end(size_t index) const { return std::min(pixels, (index + 1) * width()); }
    uint32_t vectors_of(size_t index) const;
};

// Whether the convolution is a product with a vector.
bool is_linear(const ConvShape& s) {
    return s.height == 1 && s.width == 1 && s.kernel_rows == 1 && s.kernel_columns == 1 &&
           s.groups == 1 && s.padding == 0;
}

// 1, 2 or 4 vectors, as few as hold the pixels, or 4.
uint32_t vectors_for(size_t pixels, size_t lanes) {
    return pixels <= lanes ? 1 : pixels <= 2 * lanes ? 2 : 4;
}

uint32_t Panels::vectors_of(size_t index) const {
    return vectors_for(end(index) - begin(index), lanes);
}

// Rows that have lists together: their sums stay in the first-level cache.
uint32_t rows_together(size_t pixels, const Ops& ops) {
    return vectors_for(pixels, ops.short_lanes) == 4 ? kUnitRows / 2 : kUnitRows;
}

template <class T>
T* aligned(T* p) {
    return p + (64 - reinterpret_cast<uintptr_t>(p) % 64) % 64 / sizeof(T);
}

Panels make_panels(const int8_t* x, size_t n, const ConvShape& s, Workspace& work) {
    const uint32_t fan_in = s.kernel_rows * s.kernel_columns * s.inputs();
    const size_t pixels = n * s.out_pixels();
    Panels panels{fan_in, work.ops.short_lanes, vectors_for(pixels, work.ops.short_lanes), pixels,
                  0,      nullptr};
    panels.count = (pixels + panels.width() - 1) / panels.width();
    if (padded_size(s) * n >= uint64_t{1} << 32)
        throw std::length_error("an image of 2^32 numbers, padding included");
    int16_t* data = aligned(room(work.short_panels, s.groups * panels.count * panels.size() +
                                                        kGatherSlack));
    panels.data = data;
    const int8_t* images = pad_images(x, n, s, work.padded_bytes, work.threads, kGatherSlack);
    const std::vector<uint32_t> offsets = position_offsets(s);
    const size_t group_size = padded_size(s) / s.groups;
    work.threads.run([&](uint32_t part) {
        std::vector<Run> runs;
        const auto [begin, end] = share(static_cast<uint32_t>(s.groups * panels.count), 1, part,
                                        work.threads.count());
        for (size_t i = begin; i < end; ++i) {
            const size_t group = i / panels.count, index = i % panels.count;
            const uint32_t width = panels.vectors_of(index) * panels.lanes;
            find_runs(s, panels.begin(index), panels.end(index), runs);
            work.ops.gather_bytes(images + group * group_size, offsets.data(), fan_in, runs.data(),
                                  static_cast<uint32_t>(runs.size()), s.stride, width,
                                  data + i * panels.size());
        }
    });
    return panels;
}

// A convolution of panels: where its sums go, and of which group its rows are.
struct Product {
    const Panels& panels;
    uint32_t group_rows;
    size_t first_pixel;  // of the panels, in all images
    const Sink& sink;

    // The rows' sums of every panel, stored; buffer is the thread's.
    void multiply(const UnitRows& rows, std::vector<int32_t>& buffer) const {
        const size_t most = rows.count * panels.width();
        int32_t* wide = aligned(room(buffer, most + (most + 1) / 2 + 32));
        int16_t* sums = reinterpret_cast<int16_t*>(wide + most);
        const uint32_t block = rows.wide ? kWideBlock : kNarrowBlock;
        for (size_t index = 0; index < panels.count; ++index) {
            const uint32_t vectors = panels.vectors_of(index);
            const size_t width = size_t{vectors} * panels.lanes;
            const size_t first = first_pixel + panels.begin(index),
                         count = panels.end(index) - panels.begin(index);
            const bool widened = sink.ops.sum_units(
                rows.lists, rows.wide, (panels.fan_in + block - 1) / block,
                panels.panel(rows.first / group_rows, index), vectors, rows.count, sums, wide);
            if (widened) {
                sink.store_rows(rows.first, rows.count, first, count, wide, width);
            } else {
                sink.store_rows(rows.first, rows.count, first, count, sums, width);
            }
        }
    }
};

// Rows of planes, divided among the threads: lists of some rows, then their sums, until all are
// done.
void multiply_planes(const PlaneRows& rows, const Product& product, Workspace& work) {
    work.threads.run([&](uint32_t part) {
        UnitMaker maker(product.panels.fan_in, work.ops);
        const uint32_t limit = rows_together(product.panels.pixels, work.ops);
        const auto [begin, end] = share(rows.count, 1, part, work.threads.count());
        for (uint32_t row = begin; row < end;) {
            const uint32_t group_end =
                ((rows.first + row) / product.group_rows + 1) * product.group_rows - rows.first;
            const UnitRows made = maker.make(rows.part(row, std::min(end, group_end)), 0, limit,
                                             work.weights.lists[part]);
            product.multiply(made, work.int_sums[part]);
            row += made.count;
        }
    });
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
    if (keep == Keep::lists && kernel == Kernel::add && !is_linear(shape)) {
        lists_ = ResidentUnits::make(*code_, out_ / shape.groups,
                                     rows_together(shape.out_pixels(), work.ops), work.weights,
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
    const size_t width = size_t{vectors_for(shape_.out_pixels(), ops.short_lanes)} * ops.short_lanes;
    const double panels = static_cast<double>((shape_.out_pixels() + width - 1) / width);
    return 2.0 * shape_.groups * panels * fan_in_ * static_cast<double>(width) +
           static_cast<double>(padded_size(shape_));
}

void Int8Layer::visit_planes(Workspace& work,
                             const std::function<void(const PlaneRows&)>& use) const {
    if (planes_) return planes_->visit(work.weights, use);
    stream_planes(*code_, work.weights, work.threads, work.ops, use);
}

void Int8Layer::conv2d(const int8_t* x, size_t n, const Sink& sink, Workspace& work) const {
    if (kernel_ == Kernel::dot) {
        const Visit visit = [&](const auto& use) { visit_planes(work, use); };
        return dot_conv2d(visit, x, n, shape_, sink, work);
    }
    if (is_linear(shape_)) return linear(x, n, sink, work);
    const size_t image = size_t{shape_.channels} * shape_.height * shape_.width;
    const size_t chunk =
        std::max<size_t>(1, static_cast<size_t>(kPanelBytes / scratch_bytes(work.ops)));
    for (size_t first = 0; first < n; first += chunk) {
        const Panels panels =
            make_panels(x + first * image, std::min(chunk, n - first), shape_, work);
        const Product product{panels, out_ / shape_.groups, first * shape_.out_pixels(), sink};
        if (lists_) {
            work.threads.run([&](uint32_t part) {
                for (size_t group = part; group < lists_->groups(); group += work.threads.count())
                    product.multiply(lists_->group(group), work.int_sums[part]);
            });
        } else {
            visit_planes(work, [&](const PlaneRows& rows) { multiply_planes(rows, product, work); });
        }
    }
}

void Int8Layer::linear(const int8_t* x, size_t n, const Sink& sink, Workspace& work) const {
    if (!is_linear(shape_)) throw std::invalid_argument("the layer is a convolution");
    if (kernel_ == Kernel::dot) {
        const Visit visit = [&](const auto& use) { visit_planes(work, use); };
        return dot_linear(visit, x, n, fan_in_, sink, work);
    }
    const size_t columns = (size_t{fan_in_} + 127) / 128 * 128;
    int8_t* images = room(work.padded_bytes, n * columns);  // the kernel reads whole words
    for (size_t i = 0; i < n; ++i) {
        std::memcpy(images + i * columns, x + i * fan_in_, fan_in_);
        std::memset(images + i * columns + fan_in_, 0, columns - fan_in_);
    }
    visit_planes(work, [&](const PlaneRows& all) {
        work.threads.run([&](uint32_t part) {
            const auto [begin, end] = share(all.count, 4, part, work.threads.count());
            const PlaneRows rows = all.part(begin, end);
            int32_t* sums = room(work.int_sums[part], n * rows.count);
            work.ops.linear_bytes(rows.kept, rows.sign, rows.row_words, rows.count, images, columns,
                                  n, sums, rows.count);
            for (size_t i = 0; i < n && rows.count; ++i)
                sink.store_rows(rows.first, rows.count, i, 1, sums + i * rows.count, 1);
        });
    });
}

}  // namespace slt
