#include "conv.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <stdexcept>

#include "depthwise.h"
#include "images.h"

namespace slt {

namespace {

constexpr uint32_t kBlock = 128;
// Rows whose sums a thread has at once: in its second-level cache, and enough to make panels for.
constexpr uint32_t kSumRows = 512;
// Panels for each thread, for even shares of the pixels.
constexpr size_t kManyPanels = 4;
// A row of weights takes about as long to make as the copies that so many output pixels read.
constexpr size_t kUnpackPixels = 1, kRegeneratePixels = 4;

float* aligned(float* p) { return p + (64 - reinterpret_cast<uintptr_t>(p) % 64) % 64 / sizeof *p; }

// How the output pixels of some images are divided into panels (conv_inl.h), which are made block by
// block where they are used. With bundles of one row they are about equally wide, 2 to 4 vectors:
// few vectors are left empty.
struct Layout {
    Layout(const ConvShape& s, size_t n, uint32_t row_bundle, const Ops& ops)
        : fan_in(s.kernel_rows * s.kernel_columns * s.inputs()),
          bundle(row_bundle),
          lanes(ops.float_lanes),
          pixels(n * s.out_pixels()),
          all_vectors((pixels + lanes - 1) / lanes),
          count(static_cast<uint32_t>((all_vectors * bundle + 3) / 4)) {}

    uint32_t fan_in, bundle, lanes;
    size_t pixels, all_vectors;  // of all images
    uint32_t count;              // panels of a group

    uint32_t blocks() const { return (fan_in + kBlock - 1) / kBlock; }
    uint32_t vectors(size_t index) const {
        return static_cast<uint32_t>(first_vector(index + 1) - first_vector(index));
    }
    uint32_t width(size_t index) const { return vectors(index) * lanes; }
    size_t begin(size_t index) const { return first_vector(index) * lanes; }
    size_t end(size_t index) const { return std::min(pixels, begin(index + 1)); }

  private:
    size_t first_vector(size_t index) const {
        return bundle == 1 ? all_vectors * index / count : 4 / bundle * index;
    }
};

// Some images and where their results go.
struct Job {
    const float* x;
    size_t n;
    const ConvShape& shape;
    uint32_t rows;
    const Epilogue& epilogue;
    float* to;
    Workspace& work;
    Layout layout;
    Sharing& sharing;  // of the panels of each group

    uint32_t group_rows() const { return rows / shape.groups; }
};

// A thread's part of the pixels, and their products.
class Product {
  public:
    Product(const Job& job, uint32_t part)
        : job_(job),
          l_(job.layout),
          part_(part),
          mine_(job.sharing.mine(part)),
          offsets_(position_offsets(job.shape)),
          maker_(job.rows, l_.fan_in, job.group_rows(), l_.bundle, job.work.ops) {
        if (mine_.begin < mine_.end) pad(mine_);
    }

    // Rows that lists are there of.
    void multiply(const std::vector<ListRows>& lists) {
        const uint32_t group_rows = job_.group_rows();
        for (size_t begin = 0, end = 0; begin < lists.size(); begin = end) {
            Span span{&lists[begin], 0, 0};
            const uint32_t group = lists[begin].first / group_rows;
            for (; end < lists.size() && lists[end].first / group_rows == group; ++end) {
                if (span.count && span.rows + lists[end].count > kSumRows) break;
                ++span.count, span.rows += lists[end].count;
            }
            job_.sharing.each(
                part_, ++round_, [&](const Range& panels) { pad(panels); },
                [&](const Range& panels) {
                    for (uint32_t index = panels.begin; index < panels.end; ++index)
                        multiply(span, group, index);
                });
        }
    }

    // Makes lists of rows of planes. They are collected until a buffer is full: panels are made for
    // many rows, though few may come at a time.
    void add(const PlaneRows& rows) {
        for (uint32_t row = 0;;) {
            for (const ListRows& made : maker_.make(rows.part(row, rows.count),
                                                    job_.work.weights.lists[part_], used_)) {
                lists_.push_back(made);
                row += made.count;
            }
            if (row == rows.count) return;
            flush();
        }
    }

    // Multiplies with all rows that are left.
    void flush() {
        multiply(lists_);
        lists_.clear();
        used_ = 0;
    }

  private:
    // Lists of one convolution group, and how many rows they have.
    struct Span {
        const ListRows* lists;
        size_t count;
        uint32_t rows;
    };

    // Copies what the panels read.
    void pad(const Range& panels) {
        images_ = pad_images(job_.x, job_.n, job_.shape, l_.begin(panels.begin),
                             l_.end(panels.end - 1), job_.work.padded[part_]);
    }

    // The panel's sums of the span's rows, stored.
    void multiply(const Span& span, uint32_t group, uint32_t index) {
        Workspace& work = job_.work;
        const ConvShape& s = job_.shape;
        const uint32_t width = l_.width(index), bundle = l_.bundle;
        const auto bundles = [&](const ListRows& rows) {
            return (rows.count + bundle - 1) / bundle;
        };
        float* sums = aligned(
            room(work.sums[part_], (span.rows + span.count * (bundle - 1)) * size_t{width} + 16));
        float* block = aligned(room(work.block[part_], size_t{kBlockRows} * width + 16));
        find_runs(s, l_.begin(index), l_.end(index), runs_);
        ends_.clear();
        for (size_t i = 0; i < span.count; ++i) ends_.push_back(span.lists[i].lists);
        for (uint32_t b = 0; b < l_.blocks(); ++b) {
            work.ops.gather_block(images_ + group * (padded_size(s) / s.groups),
                                  offsets_.data() + size_t{b} * kBlock,
                                  std::min(kBlock, l_.fan_in - b * kBlock), runs_.data(),
                                  static_cast<uint32_t>(runs_.size()), s.stride, width, block);
            float* acc = sums;
            for (size_t i = 0; i < span.count; ++i) {
                const uint32_t here = bundles(span.lists[i]);
                ends_[i] = work.ops.accumulate_lists(ends_[i], here, bundle, l_.vectors(index),
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

    // The results of `count` rows from `first` on in a panel; sums [count][width].
    void store(uint32_t first, uint32_t count, uint32_t index, const float* sums) const {
        const Epilogue& e = job_.epilogue;
        const size_t end = l_.end(index), pixels = job_.shape.out_pixels();
        for (size_t at = l_.begin(index); at < end;) {
            const size_t image = at / pixels, pixel = at % pixels;
            const size_t length = std::min(pixels - pixel, end - at);
            job_.work.ops.store_rows(sums, l_.width(index), count, length,
                                     e.scale ? e.scale + first : nullptr,
                                     e.shift ? e.shift + first : nullptr, e.relu,
                                     job_.to + (image * job_.rows + first) * pixels + pixel,
                                     pixels);
            sums += length, at += length;
        }
    }

    const Job& job_;
    const Layout& l_;
    uint32_t part_;
    Range mine_;  // of the panels of each group
    uint64_t round_ = 0;
    std::vector<uint32_t> offsets_;
    ListMaker maker_;
    size_t used_ = 0;  // bytes of the buffer of lists
    std::vector<ListRows> lists_;
    std::vector<Run> runs_;
    std::vector<const uint8_t*> ends_;  // of the lists of a block
    const float* images_ = nullptr;
};

}  // namespace

Workspace::Workspace(const WeightMemoryPtr& memory, uint32_t thread_count, const Ops& table)
    : threads(thread_count),
      weights(memory, threads.count()),
      ops(table),
      padded(threads.count()),
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
        // Threads may share the rows: no list is of two shares.
        const uint32_t shares = shape.groups == 1 ? work.threads.count() : shape.groups;
        lists_ = std::make_unique<ResidentLists>(*code_, (out_ + shares - 1) / shares,
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

void LayerWeights::show_rows(bool all, Workspace& work, const UseRows& use) const {
    if (planes_) return planes_->share_rows(out_, all, work.weights, work.threads, use);
    stream_rows(*code_, out_, all, work.weights, work.threads, work.ops, use);
}

void LayerWeights::conv2d(const float* x, size_t n, const Epilogue& epilogue, float* out,
                          Workspace& work) const {
    if (is_depthwise(shape_)) {
        const auto show = [&](const UseRows& use) { show_rows(false, work, use); };
        return depthwise_conv2d(show, x, n, shape_, out_, epilogue, out, work);
    }
    const size_t image = size_t{shape_.channels} * shape_.height * shape_.width;
    const size_t pixels = shape_.out_pixels(), parts = work.threads.count();
    const size_t chunk = std::max<size_t>(1, kPanelBytes / (sizeof(float) * padded_size(shape_)));
    const size_t pixels_a_row = lists_ ? 0 : planes_ ? kUnpackPixels : kRegeneratePixels;
    for (size_t first = 0; first < n; first += chunk) {
        const size_t images = std::min(chunk, n - first);
        const uint32_t bundle = lists_ ? lists_->bundle() : bundle_for(images * pixels, work.ops);
        const Layout layout(shape_, images, bundle, work.ops);
        const bool even = layout.count % parts == 0 || layout.count >= kManyPanels * parts;
        Sharing sharing(layout.count, work.threads.count(),
                        even && layout.pixels >= pixels_a_row * out_);
        const Job job{x + first * image,
                      images,
                      shape_,
                      out_,
                      epilogue,
                      out + first * out_ * pixels,
                      work,
                      layout,
                      sharing};
        if (lists_) {
            work.threads.run([&](uint32_t part) {
                const auto mine = sharing.by_panels() ? lists_->rows()
                                                : share_bytes(lists_->rows(), part, parts);
                if (!mine.empty()) Product(job, part).multiply(mine);
            });
            continue;
        }
        std::vector<std::optional<Product>> products(parts);
        show_rows(sharing.by_panels(), work, [&](const PlaneRows& rows, uint32_t part) {
            if (!products[part]) products[part].emplace(job, part);
            products[part]->add(rows);
        });
        work.threads.run([&](uint32_t part) {
            if (products[part]) products[part]->flush();
        });
    }
}

void LayerWeights::linear(const float* x, size_t n, const Epilogue& e, float* out,
                          Workspace& work) const {
    const size_t columns = (size_t{fan_in_} + 15) / 16 * 16;
    if (columns != fan_in_) {  // the kernel reads whole vectors
        float* copies = room(work.padded[0], n * columns);
        for (size_t i = 0; i < n; ++i) {
            std::memcpy(copies + i * columns, x + i * fan_in_, sizeof(float) * fan_in_);
            std::fill(copies + i * columns + fan_in_, copies + (i + 1) * columns, 0.0f);
        }
        x = copies;
    }
    show_rows(false, work, [&](const PlaneRows& rows, uint32_t) {
        for (size_t i = 0; i < n; ++i) {
            float* y = out + i * out_ + rows.first;
            work.ops.linear(rows.kept, rows.sign, rows.row_words, rows.count, fan_in_,
                            x + i * columns, y);
            if (e.scale) {
                work.ops.store_rows(y, 1, rows.count, 1, e.scale + rows.first,
                                    e.shift ? e.shift + rows.first : nullptr, e.relu, y, 1);
            }
        }
    });
}

}  // namespace slt
