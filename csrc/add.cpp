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

// Panels that stay in the second-level cache with all else.
constexpr size_t kSmallBytes = size_t{3} << 17;

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
        gather(group, index, 0, fan_in_, to);
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
            for (size_t i = begin; i < end; ++i)
                gather(i / count(), i % count(), 0, fan_in_, all + i * size());
        });
        all_ = all;
    }
    // The panel that Ops::sum_words reads, where the only panel is one vector wide; once.
    const int16_t* make_words() {
        const size_t lanes = work_.ops.short_lanes, words = (fan_in_ + 63) / 64;
        int16_t* to = aligned(room(work_.short_panels, words * kWordRows * lanes + kGatherSlack));
        const int16_t* first = to;
        for (uint32_t at = 0; at < fan_in_; at += 64, to += kWordRows * lanes) {
            gather(0, 0, at, std::min(fan_in_, at + 64), to);
            std::fill_n(to + 64 * lanes, lanes, int16_t{0});  // behind it: gathering may write there
        }
        return first;
    }
    bool have_all() const { return all_ != nullptr; }
    const int16_t* panel(size_t group, size_t index) const {
        return all_ + (group * count() + index) * size();
    }

  private:
    // Threads fill panels side by side, and write behind them.
    size_t size() const { return fan_in_ * width_ + kGatherSlack / sizeof(int16_t); }
    void gather(size_t group, size_t index, uint32_t first, uint32_t last, int16_t* to) const {
        std::vector<Run> runs;
        find_runs(shape_, begin(index), end(index), runs);
        work_.ops.gather_bytes(images_ + group * (padded_size(shape_) / shape_.groups),
                               offsets_.data() + first, last - first, runs.data(),
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

    // The rows' sums of the only panel, made by make_words(), stored.
    void multiply(const PlaneRows& rows, const int16_t* panel, uint32_t part) const {
        const size_t lanes = work.ops.short_lanes, words = (panels.fan_in() + 63) / 64;
        int32_t* sums = aligned(room(work.int_sums[part], rows.count * lanes + 16));
        std::fill_n(sums, rows.count * lanes, 0);
        for (size_t word = 0; word < words; word += kWordBlock) {
            const auto count = static_cast<uint32_t>(std::min<size_t>(kWordBlock, words - word));
            work.ops.sum_words(rows.kept + word, rows.sign + word, rows.row_words, rows.count, count,
                               panel + word * kWordRows * lanes, sums);
        }
        sink.store_rows(rows.first, rows.count, first_pixel, panels.end(0), sums, lanes);
    }

    // The same of all panels, for one thread, with rows that lists are there of.
    void multiply(const std::vector<UnitRows>& lists, uint32_t part) const {
        for (size_t begin = 0, end = 0; begin < lists.size(); begin = end) {
            const size_t group = lists[begin].first / group_rows;
            while (end < lists.size() && lists[end].first / group_rows == group) ++end;
            for (size_t index = 0; index < panels.count(); ++index) {
                const int16_t* panel = panels.have_all() ? panels.panel(group, index)
                                                         : panels.make(group, index, part);
                for (size_t i = begin; i < end; ++i) multiply(lists[i], index, panel, part);
            }
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

void add_conv2d(const StreamRows& stream, const int8_t* x, size_t n, const ConvShape& s,
                const Sink& sink, Workspace& work) {
    each_chunk(x, n, s, sink, work, [&](const Product& product) {
        Panels& panels = product.panels;
        if (s.groups == 1 && panels.end(panels.count() - 1) <= work.ops.short_lanes) {
            const int16_t* panel = panels.make_words();
            return stream(sink.rows, [&](const PlaneRows& rows, uint32_t part) {
                product.multiply(rows, panel, part);
            });
        }
        const uint32_t limit = add_rows(panels.end(panels.count() - 1), work.ops);
        // A thread may make a panel anew for each group of rows: that costs less than panels that
        // leave its second-level cache, where rows are enough.
        const size_t rows = kGroupBytes / ((panels.fan_in() + 127) / 128 * 32);
        const bool few = rows < Product::kEnoughRows || panels.bytes() <= kSmallBytes;
        if ((few || work.threads.count() > 1) && panels.bytes() <= kPanelBytes) panels.make_all();
        const UnitMaker maker(panels.fan_in(), product.group_rows, limit, work.ops);
        stream(sink.rows, [&](const PlaneRows& some, uint32_t part) {
            for (uint32_t row = 0; row < some.count;) {
                const auto lists =
                    maker.make(some.part(row, some.count), work.weights.lists[part]);
                product.multiply(lists, part);
                for (const UnitRows& list : lists) row += list.count;
            }
        });
    });
}

namespace {

// Calls use(images, first, count) for as many images at a time as kPanelBytes hold, their rows
// filled up with zeros to `columns`: the kernel reads whole words.
template <class Use>
void each_batch(const int8_t* x, size_t n, uint32_t fan_in, const Sink& sink, Workspace& work,
                Use use) {
    const size_t columns = (size_t{fan_in} + 127) / 128 * 128;
    const size_t chunk = std::max<size_t>(1, kPanelBytes / (columns + 4 * size_t{sink.rows}));
    for (size_t first = 0; first < n; first += chunk, x += chunk * fan_in) {
        const size_t count = std::min(chunk, n - first);
        int8_t* images = room(work.padded_bytes, count * columns);
        for (size_t i = 0; i < count; ++i) {
            std::memcpy(images + i * columns, x + i * fan_in, fan_in);
            std::memset(images + i * columns + fan_in, 0, columns - fan_in);
        }
        use([&, images, columns, first, count](const PlaneRows& rows, uint32_t part) {
            int32_t* sums = room(work.int_sums[part], count * rows.count);
            work.ops.linear_bytes(rows.kept, rows.sign, rows.row_words, rows.count, images, columns,
                                  count, sums, rows.count);
            for (size_t i = 0; i < count; ++i)
                sink.store_rows(rows.first, rows.count, first + i, 1, sums + i * rows.count, 1);
        });
    }
}

}  // namespace

void add_linear(const Visit& visit, const int8_t* x, size_t n, uint32_t fan_in, const Sink& sink,
                Workspace& work) {
    each_batch(x, n, fan_in, sink, work, [&](const UseRows& multiply) {
        visit([&](const PlaneRows& all) {
            work.threads.run([&](uint32_t part) {
                const auto [begin, end] = share(all.count, 4, part, work.threads.count());
                if (begin < end) multiply(all.part(begin, end), part);
            });
        });
    });
}

void add_linear(const StreamRows& stream, const int8_t* x, size_t n, uint32_t fan_in,
                const Sink& sink, Workspace& work) {
    each_batch(x, n, fan_in, sink, work,
               [&](const UseRows& multiply) { stream(sink.rows, multiply); });
}

}  // namespace slt
