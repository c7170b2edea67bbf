#include "conv.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>

#include "depthwise.h"
#include "images.h"

namespace slt {

namespace {

constexpr uint32_t kBlock = 128;
// Rows whose sums a thread has at once: in its second-level cache, and enough to make panels for.
constexpr uint32_t kSumRows = 512;

float* aligned(float* p) { return p + (64 - reinterpret_cast<uintptr_t>(p) % 64) % 64 / sizeof *p; }

// Images as panels (conv_inl.h), which are made block by block where they are used. With bundles of
// one row they are about equally wide, 2 to 4 vectors: few vectors are left empty.
class Panels {
  public:
    Panels(const float* x, size_t n, const ConvShape& s, uint32_t bundle, Workspace& work)
        : shape_(s),
          work_(work),
          fan_in_(s.kernel_rows * s.kernel_columns * s.inputs()),
          bundle_(bundle),
          pixels_(n * s.out_pixels()),
          vectors_((pixels_ + work.ops.float_lanes - 1) / work.ops.float_lanes),
          offsets_(position_offsets(s)) {
        if (padded_size(s) * n >= uint64_t{1} << 32)
            throw std::length_error("an image of 2^32 numbers, padding included");
        images_ = pad_images(x, n, s, work.padded, work.threads);
    }

    uint32_t fan_in() const { return fan_in_; }
    uint32_t blocks() const { return (fan_in_ + kBlock - 1) / kBlock; }
    size_t count() const { return (vectors_ * bundle_ + 3) / 4; }  // of a group
    uint32_t vectors(size_t index) const {
        return static_cast<uint32_t>(first_vector(index + 1) - first_vector(index));
    }
    uint32_t width(size_t index) const { return vectors(index) * work_.ops.float_lanes; }
    size_t begin(size_t index) const { return first_vector(index) * work_.ops.float_lanes; }
    size_t end(size_t index) const { return std::min(pixels_, begin(index + 1)); }
    void runs(size_t index, std::vector<Run>& runs) const {
        find_runs(shape_, begin(index), end(index), runs);
    }

    // A block of a panel with these runs, in the thread's own memory, there until its next call.
    const float* make(size_t group, size_t index, uint32_t block, const std::vector<Run>& runs,
                      uint32_t part) const {
        float* to = aligned(room(work_.block[part], size_t{kBlockRows} * width(index) + 16));
        const size_t first = size_t{block} * kBlock;
        const uint32_t rows = std::min(kBlock, fan_in_ - block * kBlock);
        work_.ops.gather_block(images_ + group * (padded_size(shape_) / shape_.groups),
                               offsets_.data() + first, rows, runs.data(),
                               static_cast<uint32_t>(runs.size()), shape_.stride, width(index), to);
        return to;
    }

  private:
    size_t first_vector(size_t index) const {
        return bundle_ == 1 ? vectors_ * index / count() : 4 / bundle_ * index;
    }

    const ConvShape& shape_;
    Workspace& work_;
    uint32_t fan_in_, bundle_;
    size_t pixels_, vectors_;  // of all images
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
            work.ops.store_rows(sums, panels.width(index), count, length,
                                e.scale ? e.scale + first : nullptr,
                                e.shift ? e.shift + first : nullptr, e.relu,
                                to + (image * rows + first) * pixels + pixel, pixels);
            sums += length, at += length;
        }
    }

    // The span's results of one panel.
    void multiply(const Span& span, size_t index, uint32_t part) const {
        const uint32_t width = panels.width(index);
        const size_t group = span.lists->first / group_rows;
        const auto bundles = [&](const ListRows& rows) {
            return (rows.count + bundle - 1) / bundle;
        };
        float* sums = aligned(
            room(work.sums[part], (span.rows + span.count * (bundle - 1)) * size_t{width} + 16));
        std::vector<Run> runs;
        panels.runs(index, runs);
        std::vector<const uint8_t*> lists;
        for (size_t i = 0; i < span.count; ++i) lists.push_back(span.lists[i].lists);
        for (uint32_t b = 0; b < panels.blocks(); ++b) {
            const float* block = panels.make(group, index, b, runs, part);
            float* acc = sums;
            for (size_t i = 0; i < span.count; ++i) {
                const uint32_t here = bundles(span.lists[i]);
                lists[i] = work.ops.accumulate_lists(lists[i], here, bundle, panels.vectors(index),
                                                     block, b == 0, acc);
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
        const uint32_t most =
            work.threads.count() == 1
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
};

// Lists of rows of planes, made by all threads and collected until a buffer is full: panels are
// made for many rows, though a tile of the file may have few.
class Collector {
  public:
    explicit Collector(const Product& product)
        : product_(product), used_(product.work.threads.count()), lists_(used_.size()) {}

    void add(const PlaneRows& planes) {
        const Panels& panels = product_.panels;
        Workspace& work = product_.work;
        const uint32_t threads = work.threads.count(), bundle = product_.bundle;
        std::vector<uint32_t> done(threads);
        for (;;) {
            work.threads.run([&](uint32_t part) {
                const auto [begin, end] = share(planes.count, bundle, part, threads);
                ListMaker maker(product_.rows, panels.fan_in(), product_.group_rows, bundle,
                                work.ops);
                for (const ListRows& made : maker.make(planes.part(begin + done[part], end),
                                                       work.weights.lists[part], used_[part])) {
                    done[part] += made.count;
                    lists_[part].push_back(made);
                }
            });
            if (std::accumulate(done.begin(), done.end(), 0u) == planes.count) return;
            flush();
        }
    }

    // Multiplies with all that are left.
    void flush() {
        std::vector<ListRows> all;
        for (auto& some : lists_) {
            all.insert(all.end(), some.begin(), some.end());
            some.clear();
        }
        std::fill(used_.begin(), used_.end(), 0);
        std::sort(all.begin(), all.end(),
                  [](const ListRows& a, const ListRows& b) { return a.first < b.first; });
        if (!all.empty()) product_.multiply(all);
    }

  private:
    const Product& product_;
    std::vector<size_t> used_;  // bytes of each thread's buffer
    std::vector<std::vector<ListRows>> lists_;
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
    if (keep == Keep::lists && !is_depthwise(shape)) {
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
    if (is_depthwise(shape_)) return depthwise_scratch_bytes(shape_, sizeof(float));
    const double width = 4.0 * ops.float_lanes / bundle_for(shape_.out_pixels(), ops);
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
    if (is_depthwise(shape_)) {
        const auto show = [&](const UseRows& use) {
            if (planes_) return planes_->share_rows(out_, false, work.weights, work.threads, use);
            stream_rows(*code_, out_, false, work.weights, work.threads, work.ops, use);
        };
        return depthwise_conv2d(show, x, n, shape_, out_, epilogue, out, work);
    }
    const size_t image = size_t{shape_.channels} * shape_.height * shape_.width;
    const size_t chunk = std::max<size_t>(1, kPanelBytes / (sizeof(float) * padded_size(shape_)));
    for (size_t first = 0; first < n; first += chunk) {
        const size_t images = std::min(chunk, n - first), pixels = shape_.out_pixels();
        const uint32_t bundle = lists_ ? lists_->bundle() : bundle_for(images * pixels, work.ops);
        const Panels panels(x + first * image, images, shape_, bundle, work);
        const Product product{panels,
                              bundle,
                              out_,
                              out_ / shape_.groups,
                              pixels,
                              epilogue,
                              out + first * out_ * pixels,
                              work};
        if (lists_) {
            product.multiply(lists_->rows());
        } else {
            Collector lists(product);
            visit_planes(work, [&](const PlaneRows& rows) { lists.add(rows); });
            lists.flush();
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
