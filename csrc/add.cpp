#include "add.h"

#include <algorithm>
#include <cstring>
#include <optional>
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

// How the output pixels of some images are divided into panels (int8_inl.h): of each convolution
// group full ones of 1, 2 or 4 vectors and a last one that may be narrower.
struct Layout {
    Layout(const ConvShape& s, size_t n, const Ops& ops)
        : fan_in(s.kernel_rows * s.kernel_columns * s.inputs()),
          lanes(ops.short_lanes),
          pixels(n * s.out_pixels()),
          width(size_t{vectors_for(pixels, ops)} * lanes),
          count(static_cast<uint32_t>((pixels + width - 1) / width)) {}

    uint32_t fan_in, lanes;
    size_t pixels, width;  // of all images; of a full panel
    uint32_t count;        // of a group

    size_t begin(size_t index) const { return index * width; }
    size_t end(size_t index) const { return std::min(pixels, (index + 1) * width); }
    // Of one panel, and what may be written behind it.
    size_t size() const { return fan_in * width + kGatherSlack / sizeof(int16_t); }
};

// Some images and where their sums go.
struct Job {
    const int8_t* x;
    size_t n, first_pixel;  // of all images
    const ConvShape& shape;
    const Sink& sink;
    Workspace& work;
    Layout layout;
    Sharing& sharing;  // of the panels of each group

    uint32_t group_rows() const { return sink.rows / shape.groups; }
};

// A thread's part of the pixels: its panels, and their products.
class Product {
  public:
    Product(const Job& job, uint32_t part)
        : job_(job),
          l_(job.layout),
          part_(part),
          mine_(job.sharing.mine(part)),
          offsets_(position_offsets(job.shape)) {
        if (mine_.begin < mine_.end) pad(mine_);
    }

    // All panels with rows that lists are there of, in ascending order. A panel stays in the
    // second-level cache while all rows use it, and is made again for the next ones unless these
    // are few.
    void multiply(const std::vector<UnitRows>& lists) {
        for (size_t begin = 0, end = 0; begin < lists.size(); begin = end) {
            const size_t group = lists[begin].first / job_.group_rows();
            uint32_t rows = 0;
            for (; end < lists.size() && lists[end].first / job_.group_rows() == group; ++end)
                rows += lists[end].count;
            if (rows < kEnoughRows && rows < job_.group_rows()) keep();
            job_.sharing.each(
                part_, ++round_, [&](const Range& panels) { pad(panels); },
                [&](const Range& panels) {
                    for (uint32_t index = panels.begin; index < panels.end; ++index) {
                        const int16_t* made = panel(group, index);
                        for (size_t i = begin; i < end; ++i) multiply(lists[i], index, made);
                    }
                });
        }
    }

    // The same with rows of planes, by lists that are made for this use.
    void multiply(const PlaneRows& rows, const UnitMaker& maker) {
        if (l_.pixels <= l_.lanes && job_.shape.groups == 1) return add_words(rows);
        if (panel_bytes() <= kSmallBytes) keep();
        for (uint32_t row = 0; row < rows.count;) {
            const std::vector<UnitRows> lists =
                maker.make(rows.part(row, rows.count), job_.work.weights.lists[part_]);
            multiply(lists);
            for (const UnitRows& list : lists) row += list.count;
        }
    }

  private:
    static constexpr uint32_t kEnoughRows = 32;
    // Panels that stay in the second-level cache with all else.
    static constexpr size_t kSmallBytes = size_t{3} << 17;

    uint32_t vectors(size_t index) const {
        return vectors_for(l_.end(index) - l_.begin(index), job_.work.ops);
    }

    // Copies what the panels read.
    void pad(const Range& panels) {
        images_ = pad_images(job_.x, job_.n, job_.shape, l_.begin(panels.begin),
                             l_.end(panels.end - 1), job_.work.padded_bytes[part_], kGatherSlack);
    }

    // Positions [first, last) of a panel.
    void gather(size_t group, size_t index, uint32_t first, uint32_t last, int16_t* to) {
        const ConvShape& s = job_.shape;
        find_runs(s, l_.begin(index), l_.end(index), runs_);
        job_.work.ops.gather_bytes(images_ + group * (padded_size(s) / s.groups),
                                   offsets_.data() + first, last - first, runs_.data(),
                                   static_cast<uint32_t>(runs_.size()), s.stride,
                                   vectors(index) * l_.lanes, to);
    }

    size_t panels() const { return size_t{job_.shape.groups} * (mine_.end - mine_.begin); }
    size_t panel_bytes() const { return panels() * l_.size() * sizeof(int16_t); }
    // From now on panels are made once, where kPanelBytes hold them.
    void keep() {
        if (kept_.empty() && panel_bytes() <= kPanelBytes) kept_.resize(panels());
    }
    // There until the next call, or until the last where it is kept: those that are this thread's.
    const int16_t* panel(size_t group, uint32_t index) {
        int16_t* all = aligned(room(job_.work.short_panels[part_],
                                    (kept_.size() + 1) * l_.size() + kGatherSlack));
        const bool keeps = !kept_.empty() && mine_.has(index);
        const size_t place =
            keeps ? group * (mine_.end - mine_.begin) + index - mine_.begin : kept_.size();
        int16_t* to = all + place * l_.size();
        if (!keeps || !kept_[place]) gather(group, index, 0, l_.fan_in, to);
        if (keeps) kept_[place] = true;
        return to;
    }

    // The rows' sums of the only panel, of one vector, stored: without lists.
    void add_words(const PlaneRows& rows) {
        Workspace& work = job_.work;
        const size_t words = (size_t{l_.fan_in} + 63) / 64, row = size_t{kWordRows} * l_.lanes;
        int16_t* panel =
            aligned(room(work.short_panels[part_], words * row + kGatherSlack));
        if (!words_made_) {
            for (uint32_t word = 0; word < words; ++word) {
                int16_t* to = panel + word * row;
                gather(0, 0, 64 * word, std::min(l_.fan_in, 64 * word + 64), to);
                std::fill_n(to + 64 * l_.lanes, l_.lanes, int16_t{0});  // gathering writes there too
            }
            words_made_ = true;
        }
        int32_t* sums = aligned(room(work.int_sums[part_], rows.count * l_.lanes + 16));
        std::fill_n(sums, rows.count * l_.lanes, 0);
        for (size_t word = 0; word < words; word += kWordBlock) {
            const auto count = static_cast<uint32_t>(std::min<size_t>(kWordBlock, words - word));
            work.ops.sum_words(rows.kept + word, rows.sign + word, rows.row_words, rows.count, count,
                               panel + word * row, sums);
        }
        job_.sink.store_rows(rows.first, rows.count, job_.first_pixel, l_.pixels, sums, l_.lanes);
    }

    // The rows' sums of one panel, stored.
    void multiply(const UnitRows& rows, size_t index, const int16_t* panel) const {
        Workspace& work = job_.work;
        const size_t width = size_t{vectors(index)} * l_.lanes, most = rows.count * width;
        int32_t* wide = aligned(room(work.int_sums[part_], most + (most + 1) / 2 + 32));
        int16_t* sums = reinterpret_cast<int16_t*>(wide + most);
        const uint32_t block = rows.wide ? kWideBlock : kNarrowBlock;
        const size_t first = job_.first_pixel + l_.begin(index),
                     count = l_.end(index) - l_.begin(index);
        const bool widened =
            work.ops.sum_units(rows.lists, rows.wide, (l_.fan_in + block - 1) / block, panel,
                               vectors(index), rows.count, sums, wide);
        if (widened) {
            job_.sink.store_rows(rows.first, rows.count, first, count, wide, width);
        } else {
            job_.sink.store_rows(rows.first, rows.count, first, count, sums, width);
        }
    }

    const Job& job_;
    const Layout& l_;
    uint32_t part_;
    Range mine_;  // of the panels of each group
    std::vector<uint32_t> offsets_;
    std::vector<Run> runs_;
    uint64_t round_ = 0;
    const int8_t* images_ = nullptr;
    std::vector<bool> kept_;
    bool words_made_ = false;
};

// Calls use(job) for as many images at a time as kPanelBytes holds padded copies of. A row of weights
// takes as long to make as `pixels_a_row` pixels.
template <class Use>
void each_chunk(const int8_t* x, size_t n, const ConvShape& s, const Sink& sink, Workspace& work,
                uint32_t pixels_a_row, Use use) {
    constexpr uint32_t kManyPanels = 4;  // for even shares
    const size_t image = size_t{s.channels} * s.height * s.width;
    const size_t chunk = std::max<size_t>(1, kPanelBytes / padded_size(s));
    for (size_t first = 0; first < n; first += chunk) {
        const size_t count = std::min(chunk, n - first);
        const Layout layout(s, count, work.ops);
        const bool by_pixels = layout.count >= kManyPanels * work.threads.count() &&
                               layout.pixels >= size_t{pixels_a_row} * sink.rows;
        Sharing sharing(layout.count, work.threads.count(), by_pixels);
        use(Job{x + first * image, count, first * s.out_pixels(), s, sink, work, layout, sharing});
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
    each_chunk(x, n, s, sink, work, 0, [&](const Job& job) {
        work.threads.run([&](uint32_t part) {
            const auto mine = job.sharing.by_panels()
                                  ? lists.rows()
                                  : share_bytes(lists.rows(), part, work.threads.count());
            if (!mine.empty()) Product(job, part).multiply(mine);
        });
    });
}

void add_conv2d(const RowSource& source, const int8_t* x, size_t n, const ConvShape& s,
                const Sink& sink, Workspace& work) {
    each_chunk(x, n, s, sink, work, source.pixels_a_row, [&](const Job& job) {
        const Layout& l = job.layout;
        const UnitMaker maker(l.fan_in, job.group_rows(), add_rows(l.end(l.count - 1), work.ops),
                              work.ops);
        std::vector<std::optional<Product>> products(work.threads.count());
        source.show(sink.rows, job.sharing.by_panels(), [&](const PlaneRows& rows, uint32_t part) {
            if (!products[part]) products[part].emplace(job, part);
            products[part]->multiply(rows, maker);
        });
    });
}

void add_linear(const RowSource& source, const int8_t* x, size_t n, uint32_t fan_in,
                const Sink& sink, Workspace& work) {
    const size_t columns = (size_t{fan_in} + 127) / 128 * 128;
    const size_t chunk = std::max<size_t>(1, kPanelBytes / (columns + 4 * size_t{sink.rows}));
    for (size_t first = 0; first < n; first += chunk, x += chunk * fan_in) {
        const size_t count = std::min(chunk, n - first);
        int8_t* images = room(work.padded_bytes[0], count * columns);  // the kernel reads whole words
        for (size_t i = 0; i < count; ++i) {
            std::memcpy(images + i * columns, x + i * fan_in, fan_in);
            std::memset(images + i * columns + fan_in, 0, columns - fan_in);
        }
        source.show(sink.rows, false, [&](const PlaneRows& rows, uint32_t part) {
            int32_t* sums = room(work.int_sums[part], count * rows.count);
            work.ops.linear_bytes(rows.kept, rows.sign, rows.row_words, rows.count, images, columns,
                                  count, sums, rows.count);
            for (size_t i = 0; i < count; ++i)
                sink.store_rows(rows.first, rows.count, first + i, 1, sums + i * rows.count, 1);
        });
    }
}

}  // namespace slt
