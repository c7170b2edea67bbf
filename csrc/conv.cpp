#include "conv.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "images.h"

namespace slt {

namespace {

constexpr uint32_t kBlock = 128;
// Rows whose sums a thread has at once: in its second-level cache, and enough to make panels for.
constexpr uint32_t kSumRows = 512;

uint32_t panel_width(uint32_t bundle, const Ops& ops) { return 4 / bundle * ops.float_lanes; }

float* aligned(float* p) { return p + (64 - reinterpret_cast<uintptr_t>(p) % 64) % 64 / sizeof *p; }

// Images as panels (conv_inl.h), which are made block by block where they are used.
class Panels {
  public:
    Panels(const float* x, size_t n, const ConvShape& s, uint32_t width, Workspace& work)
        : shape_(s),
          work_(work),
          fan_in_(s.kernel_rows * s.kernel_columns * s.inputs()),
          width_(width),
          pixels_(n * s.out_pixels()),
          offsets_(position_offsets(s)) {
        if (padded_size(s) * n >= uint64_t{1} << 32)
            throw std::length_error("an image of 2^32 numbers, padding included");
        images_ = pad_images(x, n, s, work.padded, work.threads);
    }

    uint32_t fan_in() const { return fan_in_; }
    uint32_t blocks() const { return (fan_in_ + kBlock - 1) / kBlock; }
    uint32_t width() const { return width_; }
    size_t count() const { return (pixels_ + width_ - 1) / width_; }  // of a group
    size_t begin(size_t index) const { return index * width_; }
    size_t end(size_t index) const { return std::min(pixels_, (index + 1) * width_); }
    void runs(size_t index, std::vector<Run>& runs) const {
        find_runs(shape_, begin(index), end(index), runs);
    }

    // A block of a panel with these runs, in the thread's own memory, there until its next call.
    const float* make(size_t group, uint32_t block, const std::vector<Run>& runs,
                      uint32_t part) const {
        float* to = aligned(room(work_.block[part], size_t{kBlockRows} * width_ + 16));
        const size_t first = size_t{block} * kBlock;
        const uint32_t rows = std::min(kBlock, fan_in_ - block * kBlock);
        work_.ops.gather_block(images_ + group * (padded_size(shape_) / shape_.groups),
                               offsets_.data() + first, rows, runs.data(),
                               static_cast<uint32_t>(runs.size()), shape_.stride, width_, to);
        return to;
    }

  private:
    const ConvShape& shape_;
    Workspace& work_;
    uint32_t fan_in_, width_;  // floats of a panel row
    size_t pixels_;            // of all images
    std::vector<uint32_t> offsets_;
    const float* images_;
};

// A convolution of panels, and where its results go.
struct Product {
    const Panels& panels;
    uint32_t bundle, rows, group_rows;  // rows: output channels, of all groups and of one
    size_t pixels;                      // of one image
    Epilogue epilogue;
    float* to;
    Workspace& work;

    // Lists of one convolution group, and how many rows they have.
    struct Span {
        const ListRows* lists;
        size_t count;
        uint32_t rows;
    };

    // The results of `count` rows from `first` on in a panel; sums [count][width].
    void store(uint32_t first, uint32_t count, size_t index, const float* sums) const {
        const Epilogue& e = epilogue;
        const size_t end = panels.end(index);
        for (size_t at = panels.begin(index); at < end;) {
            const size_t image = at / pixels, pixel = at % pixels;
            const size_t length = std::min(pixels - pixel, end - at);
            work.ops.store_rows(sums, panels.width(), count, length, e.scale ? e.scale + first : nullptr,
                                e.shift ? e.shift + first : nullptr, e.relu,
                                to + (image * rows + first) * pixels + pixel, pixels);
            sums += length, at += length;
        }
    }

    // The span's results of one panel.
    void multiply(const Span& span, size_t index, uint32_t part) const {
        const uint32_t width = panels.width();
        const size_t group = span.lists->first / group_rows;
        const auto bundles = [&](const ListRows& rows) { return (rows.count + bundle - 1) / bundle; };
        float* sums = aligned(
            room(work.sums[part], (span.rows + span.count * (bundle - 1)) * size_t{width} + 16));
        std::vector<Run> runs;
        panels.runs(index, runs);
        std::vector<const uint8_t*> lists;
        for (size_t i = 0; i < span.count; ++i) lists.push_back(span.lists[i].lists);
        for (uint32_t b = 0; b < panels.blocks(); ++b) {
            const float* block = panels.make(group, b, runs, part);
            float* acc = sums;
            for (size_t i = 0; i < span.count; ++i) {
                const uint32_t here = bundles(span.lists[i]);
                lists[i] = work.ops.accumulate_lists(lists[i], here, bundle, block, b == 0, acc);
                acc += size_t{here} * bundle * width;
            }
        }
        for (size_t i = 0; i < span.count; ++i) {
            const ListRows& rows = span.lists[i];
            store(rows.first, rows.count, index, sums);
            sums += size_t{bundles(rows)} * bundle * width;
        }
    }

    // All panels with rows that lists are there of, in ascending order: a panel with as many rows
    // as keep all threads at work.
    void multiply(const std::vector<ListRows>& lists) const {
        uint32_t total = 0;
        for (const ListRows& rows : lists) total += rows.count;
        const size_t shares = (4 * work.threads.count() + panels.count() - 1) / panels.count();
        const uint32_t most = work.threads.count() == 1
                                  ? kSumRows
                                  : std::min<uint32_t>(kSumRows, static_cast<uint32_t>(total / shares));
        std::vector<Span> spans;
        for (const ListRows& rows : lists) {
            const bool joins = !spans.empty() && spans.back().rows + rows.count <= most &&
                               spans.back().lists->first / group_rows == rows.first / group_rows;
            if (!joins) spans.push_back({&rows, 0, 0});
            ++spans.back().count;
            spans.back().rows += rows.count;
        }
        Work items(static_cast<uint32_t>(spans.size() * panels.count()));
        work.threads.run([&](uint32_t part) {
            for (uint32_t item; items.next(item);)
                multiply(spans[item / panels.count()], item % panels.count(), part);
        });
    }

    // Rows of planes: each thread makes lists of some of its share of them, then all multiply with
    // all lists, until all are done.
    void multiply(const PlaneRows& planes) const {
        const uint32_t threads = work.threads.count();
        std::vector<uint32_t> done(threads);
        for (uint32_t total = 0; total < planes.count;) {
            std::vector<std::vector<ListRows>> made(threads);
            work.threads.run([&](uint32_t part) {
                const auto [begin, end] = share(planes.count, bundle, part, threads);
                ListMaker maker(panels.fan_in(), group_rows, bundle, work.ops);
                made[part] =
                    maker.make(planes.part(begin + done[part], end), work.weights.lists[part]);
                for (const ListRows& list : made[part]) done[part] += list.count;
            });
            std::vector<ListRows> lists;
            for (const auto& some : made) lists.insert(lists.end(), some.begin(), some.end());
            for (const ListRows& list : lists) total += list.count;
            multiply(lists);
        }
    }
};

}  // namespace

Workspace::Workspace(const WeightMemoryPtr& memory, uint32_t thread_count, const Ops& table)
    : threads(thread_count),
      weights(memory, threads.count()),
      ops(table),
      block(threads.count()),
      sums(threads.count()),
      padded_bytes(threads.count()),
      short_panels(threads.count()),
      packed(threads.count()),
      tiles(threads.count()),
      int_sums(threads.count()) {}

uint32_t bundle_for(size_t pixels, const Ops& ops) {
    return pixels <= ops.float_lanes ? 4 : pixels <= 2 * size_t{ops.float_lanes} ? 2 : 1;
}

LayerWeights::LayerWeights(std::shared_ptr<const LayerCode> code, Keep keep, const ConvShape& shape,
                           Workspace& work)
    : code_(std::move(code)),
      out_(code_->fields().out),
      fan_in_(code_->fields().fan_in),
      shape_(shape) {
    if (uint64_t{shape.kernel_rows} * shape.kernel_columns * shape.inputs() != fan_in_ ||
        out_ % shape.groups != 0) {
        throw std::invalid_argument("the layer's weights do not fit its shape");
    }
    if (keep == Keep::lists) {
        lists_ = std::make_unique<ResidentLists>(*code_, out_ / shape.groups,
                                                 bundle_for(shape.out_pixels(), work.ops),
                                                 work.weights, work.threads, work.ops);
        if (lists_->bytes() > size_t{out_} * fan_in_ / 4 + 8 * size_t{out_}) lists_.reset();
    }
    if (keep != Keep::none && !lists_) {
        planes_ = std::make_unique<ResidentPlanes>(*code_, work.weights, work.threads, work.ops);
    }
    if (keep != Keep::none) code_.reset();
}

size_t LayerWeights::resident_bytes() const {
    return (planes_ ? planes_->bytes() : 0) + (lists_ ? lists_->bytes() : 0);
}

double LayerWeights::scratch_bytes(const Ops& ops) const {
    const double width = panel_width(bundle_for(shape_.out_pixels(), ops), ops);
    const double rows = kBlockRows + std::min(out_, kSumRows);
    return 4.0 * (rows * width + static_cast<double>(padded_size(shape_)));
}

void LayerWeights::visit_planes(Workspace& work,
                                const std::function<void(const PlaneRows&)>& use) const {
    if (planes_) return planes_->visit(work.weights, use);
    stream_planes(*code_, work.weights, work.threads, work.ops, use);
}

void LayerWeights::conv2d(const float* x, size_t n, const Epilogue& epilogue, float* out,
                          Workspace& work) const {
    const size_t image = size_t{shape_.channels} * shape_.height * shape_.width;
    const size_t chunk =
        std::max<size_t>(1, kPanelBytes / (sizeof(float) * padded_size(shape_)));
    for (size_t first = 0; first < n; first += chunk) {
        const size_t images = std::min(chunk, n - first), pixels = shape_.out_pixels();
        const uint32_t bundle = lists_ ? lists_->bundle() : bundle_for(images * pixels, work.ops);
        const Panels panels(x + first * image, images, shape_, panel_width(bundle, work.ops), work);
        const Product product{panels, bundle,   out_, out_ / shape_.groups,
                              pixels, epilogue, out + first * out_ * pixels, work};
        if (lists_) {
            product.multiply(lists_->rows());
        } else {
            visit_planes(work, [&](const PlaneRows& rows) { product.multiply(rows); });
        }
    }
}

void LayerWeights::linear(const float* x, size_t n, const Epilogue& e, float* out,
                          Workspace& work) const {
    const size_t columns = (size_t{fan_in_} + 15) / 16 * 16;
    if (columns != fan_in_) {  // the kernel reads whole vectors
        float* copies = room(work.padded, n * columns);
        for (size_t i = 0; i < n; ++i) {
            std::memcpy(copies + i * columns, x + i * fan_in_, sizeof(float) * fan_in_);
            std::fill(copies + i * columns + fan_in_, copies + (i + 1) * columns, 0.0f);
        }
        x = copies;
    }
    visit_planes(work, [&](const PlaneRows& all) {
        work.threads.run([&](uint32_t part) {
            const auto [begin, end] = share(all.count, 4, part, work.threads.count());
            const PlaneRows rows = all.part(begin, end);
            for (size_t i = 0; i < n && rows.count; ++i) {
                float* y = out + i * out_ + rows.first;
                work.ops.linear(rows.kept, rows.sign, rows.row_words, rows.count, fan_in_,
                                x + i * columns, y);
                for (uint32_t row = 0; e.scale && row < rows.count; ++row) {
                    const uint32_t o = rows.first + row;
                    work.ops.scale_shift(y + row, 1, e.scale[o], e.shift ? e.shift + o : nullptr,
                                         e.relu, y + row);
                }
            }
        });
    });
}

}  // namespace slt
