#include "add.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "images.h"

namespace slt {

namespace {

// 1, 2 or 4 vectors, as few as hold the pixels, or 4.
uint32_t vectors_for(size_t pixels, const Ops& ops) {
    const size_t lanes = ops.short_lanes;
    return pixels <= lanes ? 1 : pixels <= 2 * lanes ? 2 : 4;
}

template <class T>
T* aligned(T* p) {
    return p + (64 - reinterpret_cast<uintptr_t>(p) % 64) % 64 / sizeof(T);
}

// Images as panels (int8_inl.h): of each convolution group full ones of `vectors` vectors and a
// last one that may be narrower.
class Panels {
  public:
    Panels(const int8_t* x, size_t n, const ConvShape& s, Workspace& work)
        : shape_(s),
          work_(work),
          fan_in_(s.kernel_rows * s.kernel_columns * s.inputs()),
          pixels_(n * s.out_pixels()),
          width_(size_t{vectors_for(pixels_, work.ops)} * work.ops.short_lanes),
          offsets_(position_offsets(s)) {
        if (padded_size(s) * n >= uint64_t{1} << 32)
            throw std::length_error("an image of 2^32 numbers, padding included");
        images_ = pad_images(x, n, s, work.padded_bytes, work.threads, kGatherSlack);
    }

    uint32_t fan_in() const { return fan_in_; }
    size_t width() const { return width_; }                           // of a full one
    size_t count() const { return (pixels_ + width_ - 1) / width_; }  // of a group
    size_t begin(size_t index) const { return index * width_; }
    size_t end(size_t index) const { return std::min(pixels_, (index + 1) * width_); }
    uint32_t vectors(size_t index) const {
        return vectors_for(end(index) - begin(index), work_.ops);
    }

    // Of all panels.
    size_t bytes() const { return sizeof(int16_t) * shape_.groups * count() * size(); }

    // A panel in the thread's own memory, there until its next call.
    const int16_t* make(size_t group, size_t index, uint32_t part) const {
        int16_t* to = aligned(room(work_.short_panel[part], size() + kGatherSlack));
        gather(group, index, to);
        return to;
    }
    // All panels, for all threads; once.
    void make_all() {
        if (all_) return;
        const size_t panels = shape_.groups * count();
        int16_t* all = aligned(room(work_.short_panels, panels * size() + kGatherSlack));
        work_.threads.run([&](uint32_t part) {
            const auto [begin, end] =
                share(static_cast<uint32_t>(panels), 1, part, work_.threads.count());
            for (size_t i = begin; i < end; ++i) gather(i / count(), i % count(), all + i * size());
        });
        all_ = all;
    }
    bool have_all() const { return all_ != nullptr; }
    const int16_t* panel(size_t group, size_t index) const {
        return all_ + (group * count() + index) * size();
    }

  private:
    // Threads fill panels side by side, and write behind them.
    size_t size() const { return fan_in_ * width_ + kGatherSlack / sizeof(int16_t); }
    void gather(size_t group, size_t index, int16_t* to) const {
        std::vector<Run> runs;
        find_runs(shape_, begin(index), end(index), runs);
        work_.ops.gather_bytes(images_ + group * (padded_size(shape_) / shape_.groups),
                               offsets_.data(), fan_in_, runs.data(),
                               static_cast<uint32_t>(runs.size()), shape_.stride,
                               vectors(index) * work_.ops.short_lanes, to);
    }

    const ConvShape& shape_;
    Workspace& work_;
    uint32_t fan_in_;
    size_t pixels_, width_;  // of all images; of a panel
    std::vector<uint32_t> offsets_;
    const int8_t* images_;
    const int16_t* all_ = nullptr;
};

// A convolution of panels: where its sums go.
struct Product {
    Panels& panels;
    uint32_t group_rows;
    size_t first_pixel;  // of the panels, in all images
    const Sink& sink;
    Workspace& work;

    // The rows' sums of one panel, stored.
    void multiply(const UnitRows& rows, size_t index, const int16_t* panel, uint32_t part) const {
        const uint32_t vectors = panels.vectors(index);
        const size_t width = size_t{vectors} * work.ops.short_lanes, most = rows.count * width;
        int32_t* wide = aligned(room(work.int_sums[part], most + (most + 1) / 2 + 32));
        int16_t* sums = reinterpret_cast<int16_t*>(wide + most);
        const uint32_t block = rows.wide ? kWideBlock : kNarrowBlock;
        const size_t first = first_pixel + panels.begin(index),
                     count = panels.end(index) - panels.begin(index);
        const bool widened =
            work.ops.sum_units(rows.lists, rows.wide, (panels.fan_in() + block - 1) / block, panel,
                               vectors, rows.count, sums, wide);
        if (widened) {
            sink.store_rows(rows.first, rows.count, first, count, wide, width);
        } else {
            sink.store_rows(rows.first, rows.count, first, count, sums, width);
        }
    }

    // All panels with rows that lists are there of, in ascending order. A thread makes a panel in
    // its second-level cache and uses it with all rows, where there are panels enough for the
    // threads, and rows enough to make panels again for the next ones.
    void multiply(const std::vector<UnitRows>& lists) const {
        struct Span {  // of lists of one convolution group
            size_t group, begin, end;
        };
        std::vector<Span> spans;
        bool few_rows = false;
        for (size_t i = 0; i < lists.size();) {
            const size_t group = lists[i].first / group_rows, begin = i;
            uint32_t rows = 0;
            for (; i < lists.size() && lists[i].first / group_rows == group; ++i)
                rows += lists[i].count;
            spans.push_back({group, begin, i});
            few_rows = few_rows || (rows < kEnoughRows && rows < group_rows);
        }
        const size_t pairs = spans.size() * panels.count();
        if ((few_rows && panels.bytes() <= kPanelBytes) || pairs < work.threads.count())
            panels.make_all();
        work.threads.run([&](uint32_t part) {
            if (panels.have_all()) {
                for (size_t i = part; i < lists.size(); i += work.threads.count()) {
                    const size_t group = lists[i].first / group_rows;
                    for (size_t index = 0; index < panels.count(); ++index)
                        multiply(lists[i], index, panels.panel(group, index), part);
                }
                return;
            }
            const auto [begin, end] =
                share(static_cast<uint32_t>(pairs), 1, part, work.threads.count());
            for (size_t pair = begin; pair < end; ++pair) {
                const Span& span = spans[pair / panels.count()];
                const size_t index = pair % panels.count();
                const int16_t* panel = panels.make(span.group, index, part);
                for (size_t i = span.begin; i < span.end; ++i)
                    multiply(lists[i], index, panel, part);
            }
        });
    }
    static constexpr uint32_t kEnoughRows = 32;
};

// Calls use(product) for as many images at a time as kPanelBytes holds padded copies of.
template <class Use>
void each_chunk(const int8_t* x, size_t n, const ConvShape& s, const Sink& sink, Workspace& work,
                Use use) {
    const size_t image = size_t{s.channels} * s.height * s.width;
    const size_t chunk = std::max<size_t>(1, kPanelBytes / padded_size(s));
    for (size_t first = 0; first < n; first += chunk) {
        Panels panels(x + first * image, std::min(chunk, n - first), s, work);
        use(Product{panels, sink.rows / s.groups, first * s.out_pixels(), sink, work});
    }
}

}  // namespace

uint32_t add_rows(size_t pixels, const Ops& ops) {
    return vectors_for(pixels, ops) == 4 ? kUnitRows / 2 : kUnitRows;
}

double add_scratch_bytes(const ConvShape& s, const Ops& ops) {
    const size_t width = size_t{vectors_for(s.out_pixels(), ops)} * ops.short_lanes;
    const size_t panels = (s.out_pixels() + width - 1) / width;
    const double fan_in = static_cast<double>(s.kernel_rows) * s.kernel_columns * s.inputs();
    return 2.0 * s.groups * static_cast<double>(panels * width) * fan_in +
           static_cast<double>(padded_size(s));
}

void add_conv2d(const ResidentUnits& lists, const int8_t* x, size_t n, const ConvShape& s,
                const Sink& sink, Workspace& work) {
    std::vector<UnitRows> all;
    for (size_t i = 0; i < lists.groups(); ++i) all.push_back(lists.group(i));
    each_chunk(x, n, s, sink, work, [&](const Product& product) { product.multiply(all); });
}

void add_conv2d(const Visit& visit, const int8_t* x, size_t n, const ConvShape& s, const Sink& sink,
                Workspace& work) {
    const uint32_t threads = work.threads.count();
    each_chunk(x, n, s, sink, work, [&](const Product& product) {
        const Panels& panels = product.panels;
        const uint32_t limit = add_rows(panels.end(panels.count() - 1), work.ops);
        visit([&](const PlaneRows& rows) {
            // Each thread makes lists of some of its share of the rows, then all multiply with all
            // of them, until all are done.
            std::vector<uint32_t> done(threads);
            for (uint32_t total = 0; total < rows.count;) {
                std::vector<std::vector<UnitRows>> made(threads);
                work.threads.run([&](uint32_t part) {
                    const auto [begin, end] = share(rows.count, 1, part, threads);
                    const UnitMaker maker(panels.fan_in(), product.group_rows, limit, work.ops);
                    made[part] =
                        maker.make(rows.part(begin + done[part], end), work.weights.lists[part]);
                    for (const UnitRows& list : made[part]) done[part] += list.count;
                });
                std::vector<UnitRows> lists;
                for (const auto& some : made) lists.insert(lists.end(), some.begin(), some.end());
                for (const UnitRows& list : lists) total += list.count;
                product.multiply(lists);
            }
        });
    });
}

void add_linear(const Visit& visit, const int8_t* x, size_t n, uint32_t fan_in, const Sink& sink,
                Workspace& work) {
    const size_t columns = (size_t{fan_in} + 127) / 128 * 128;
    const size_t chunk = std::max<size_t>(1, kPanelBytes / (columns + 4 * size_t{sink.rows}));
    for (size_t first = 0; first < n; first += chunk, x += chunk * fan_in) {
        const size_t count = std::min(chunk, n - first);
        int8_t* images = room(work.padded_bytes, count * columns);  // the kernel reads whole words
        for (size_t i = 0; i < count; ++i) {
            std::memcpy(images + i * columns, x + i * fan_in, fan_in);
            std::memset(images + i * columns + fan_in, 0, columns - fan_in);
        }
        visit([&](const PlaneRows& all) {
            work.threads.run([&](uint32_t part) {
                const auto [begin, end] = share(all.count, 4, part, work.threads.count());
                if (begin == end) return;
                const PlaneRows rows = all.part(begin, end);
                int32_t* sums = room(work.int_sums[part], count * rows.count);
                work.ops.linear_bytes(rows.kept, rows.sign, rows.row_words, rows.count, images,
                                      columns, count, sums, rows.count);
                for (size_t i = 0; i < count; ++i)
                    sink.store_rows(rows.first, rows.count, first + i, 1, sums + i * rows.count, 1);
            });
        });
    }
}

}  // namespace slt
