#include "conv.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "images.h"

namespace slt {

namespace {

constexpr size_t kBlock = 128;

size_t panel_rows(uint32_t fan_in) {
    return size_t{fan_in / 128} * kBlockRows + (fan_in % 128 ? fan_in % 128 + 1 : 0);
}

uint32_t panel_width(uint32_t bundle, const Ops& ops) { return 4 / bundle * ops.float_lanes; }

float* aligned(float* p) { return p + (64 - reinterpret_cast<uintptr_t>(p) % 64) % 64 / sizeof *p; }

// Images as panels (conv_inl.h), all of one width.
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
    uint32_t blocks() const { return static_cast<uint32_t>((fan_in_ + kBlock - 1) / kBlock); }
    uint32_t width() const { return width_; }
    size_t count() const { return (pixels_ + width_ - 1) / width_; }  // of a group
    size_t begin(size_t index) const { return index * width_; }
    size_t end(size_t index) const { return std::min(pixels_, (index + 1) * width_); }

    // Of all panels.
    size_t bytes() const { return sizeof(float) * shape_.groups * count() * size(); }

    // A panel in the thread's own memory, there until its next call.
    const float* make(size_t group, size_t index, uint32_t part) const {
        float* to = aligned(room(work_.panel[part], size() + 16));
        std::vector<Run> runs;
        find_runs(shape_, begin(index), end(index), runs);
        for (uint32_t block = 0; block < blocks(); ++block) gather(group, block, runs, to);
        return to;
    }
    // All panels, for all threads; once.
    void make_all() {
        if (all_) return;
        const size_t panels = shape_.groups * count();
        float* all = aligned(room(work_.panels, panels * size() + 16));
        Work items(static_cast<uint32_t>(panels * blocks()));
        work_.threads.run([&](uint32_t) {
            std::vector<Run> runs;
            for (uint32_t item; items.next(item);) {
                const size_t panel = item / blocks(), index = panel % count();
                find_runs(shape_, begin(index), end(index), runs);
                gather(panel / count(), item % blocks(), runs, all + panel * size());
            }
        });
        all_ = all;
    }
    bool have_all() const { return all_ != nullptr; }
    const float* panel(size_t group, size_t index) const {
        return all_ + (group * count() + index) * size();
    }

  private:
    size_t size() const { return panel_rows(fan_in_) * width_; }
    // One block of a panel.
    void gather(size_t group, uint32_t block, const std::vector<Run>& runs, float* panel) const {
        const float* images = images_ + group * (padded_size(shape_) / shape_.groups);
        float* to = panel + size_t{block} * kBlockRows * width_;
        const auto rows = [&](size_t first, size_t count) {  // and one of zeros
            work_.ops.gather_rows(images, offsets_.data() + first, static_cast<uint32_t>(count),
                                  runs.data(), static_cast<uint32_t>(runs.size()), shape_.stride,
                                  width_, to);
            to = std::fill_n(to + count * width_, width_, 0.0f);
        };
        const size_t first = block * kBlock, count = std::min(kBlock, fan_in_ - first);
        if (count < kBlock) return rows(first, count);
        rows(first, kBlock / 2);
        rows(first + kBlock / 2, kBlock / 2);
    }

    const ConvShape& shape_;
    Workspace& work_;
    uint32_t fan_in_, width_;  // floats of a panel row
    size_t pixels_;            // of all images
    std::vector<uint32_t> offsets_;
    const float* images_;
    const float* all_ = nullptr;
};

// out [image][channel][pixel] of one row of sums over the pixels [begin, end) of all images.
void store(const float* sums, size_t begin, size_t end, size_t row, size_t rows, size_t pixels,
           const Epilogue& e, float* out, const Ops& ops) {
    while (begin < end) {
        const size_t image = begin / pixels, pixel = begin % pixels;
        const size_t length = std::min(pixels - pixel, end - begin);
        float* to = out + (image * rows + row) * pixels + pixel;
        if (e.scale) {
            ops.scale_shift(sums, length, e.scale[row], e.shift ? e.shift + row : nullptr, e.relu,
                            to);
        } else {
            std::memcpy(to, sums, sizeof(float) * length);
        }
        sums += length, begin += length;
    }
}

// A convolution of panels, and where its results go.
struct Product {
    Panels& panels;
    uint32_t bundle, rows, group_rows;  // rows: output channels, of all groups and of one
    size_t pixels;                      // of one image
    Epilogue epilogue;
    float* to;
    Workspace& work;

    // The rows' results of one panel.
    void multiply(const ListRows& rows, size_t index, const float* panel, uint32_t part) const {
        const uint32_t bundles = (rows.count + bundle - 1) / bundle, width = panels.width();
        const size_t floats = size_t{bundles} * bundle * width;
        float* sums = aligned(room(work.sums[part], floats + 16));
        std::fill_n(sums, floats, 0.0f);
        const uint8_t* lists = rows.lists;
        for (uint32_t b = 0; b < panels.blocks(); ++b, panel += size_t{kBlockRows} * width)
            lists = work.ops.accumulate_lists(lists, bundles, bundle, panel, sums);
        for (uint32_t row = 0; row < rows.count; ++row) {
            store(sums + size_t{row} * width, panels.begin(index), panels.end(index),
                  rows.first + row, this->rows, pixels, epilogue, to, work.ops);
        }
    }

    // All panels with rows that lists are there of, in ascending order. A thread makes a panel in
    // its second-level cache and uses it with all rows, where there are panels enough for the
    // threads, and rows enough to make panels again for the next ones.
    void multiply(const std::vector<ListRows>& lists) const {
        struct Span {  // of lists of one convolution group
            size_t group, begin, end;
        };
        std::vector<Span> spans;
        bool few_rows = false;
        for (size_t i = 0; i < lists.size();) {
            const size_t group = lists[i].first / group_rows, begin = i;
            uint32_t count = 0;
            for (; i < lists.size() && lists[i].first / group_rows == group; ++i)
                count += lists[i].count;
            spans.push_back({group, begin, i});
            few_rows = few_rows || (count < kEnoughRows && count < group_rows);
        }
        const size_t pairs = spans.size() * panels.count();
        if ((few_rows && panels.bytes() <= kPanelBytes) || pairs < work.threads.count())
            panels.make_all();
        const bool all = panels.have_all();
        Work items(static_cast<uint32_t>(all ? lists.size() * panels.count() : pairs));
        work.threads.run([&](uint32_t part) {
            for (uint32_t item; items.next(item);) {
                if (all) {
                    const ListRows& rows = lists[item % lists.size()];
                    const size_t index = item / lists.size();
                    multiply(rows, index, panels.panel(rows.first / group_rows, index), part);
                    continue;
                }
                const Span& span = spans[item / panels.count()];
                const size_t index = item % panels.count();
                const float* panel = panels.make(span.group, index, part);
                for (size_t i = span.begin; i < span.end; ++i)
                    multiply(lists[i], index, panel, part);
            }
        });
    }
    static constexpr uint32_t kEnoughRows = 32;

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
      panel(threads.count()),
      sums(threads.count()),
      short_panel(threads.count()),
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
    const uint32_t width = panel_width(bundle_for(shape_.out_pixels(), ops), ops);
    const double panels = static_cast<double>((shape_.out_pixels() + width - 1) / width);
    const double rows = static_cast<double>(panel_rows(fan_in_));
    return 4.0 * (shape_.groups * panels * rows * width + static_cast<double>(padded_size(shape_)));
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
        Panels panels(x + first * image, images, shape_, panel_width(bundle, work.ops), work);
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
