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

// Images as panels (conv_inl.h); the panels of a group follow each other.
struct Panels {
    uint32_t fan_in, blocks, width;  // width: floats of a panel row
    size_t pixels, count;            // of all images; panels of a group
    const float* data;

    size_t floats() const { return panel_rows(fan_in) * width; }
    const float* panel(size_t group, size_t index) const {
        return data + (group * count + index) * floats();
    }
    size_t end(size_t index) const { return std::min(pixels, (index + 1) * width); }
};

uint32_t panel_width(uint32_t bundle, const Ops& ops) { return 4 / bundle * ops.float_lanes; }

Panels make_panels(const float* x, size_t n, const ConvShape& s, uint32_t width, Workspace& work) {
    Panels panels{
        s.kernel_rows * s.kernel_columns * s.inputs(), 0, width, n * s.out_pixels(), 0, nullptr};
    panels.blocks = static_cast<uint32_t>((panels.fan_in + kBlock - 1) / kBlock);
    panels.count = (panels.pixels + width - 1) / width;
    if (padded_size(s) * n >= uint64_t{1} << 32)
        throw std::length_error("an image of 2^32 numbers, padding included");
    float* data = room(work.panels, s.groups * panels.count * panels.floats() + 16);
    data += (64 - reinterpret_cast<uintptr_t>(data) % 64) % 64 / sizeof(float);
    panels.data = data;
    const float* images = pad_images(x, n, s, work.padded, work.threads);
    const std::vector<uint32_t> offsets = position_offsets(s);
    const size_t group_floats = padded_size(s) / s.groups;
    work.threads.run([&](uint32_t part) {
        std::vector<Run> runs;
        const auto [begin, end] =
            share(static_cast<uint32_t>(panels.count), 1, part, work.threads.count());
        for (size_t index = begin; index < end; ++index) {
            find_runs(s, index * width, panels.end(index), runs);
            for (size_t group = 0; group < s.groups; ++group) {
                float* to = data + (group * panels.count + index) * panels.floats();
                const auto gather = [&](size_t first, size_t rows) {  // and a row of zeros
                    work.ops.gather_rows(images + group * group_floats, offsets.data() + first,
                                         static_cast<uint32_t>(rows), runs.data(),
                                         static_cast<uint32_t>(runs.size()), s.stride, width, to);
                    to = std::fill_n(to + rows * width, width, 0.0f);
                };
                size_t first = 0;
                for (; first + kBlock <= panels.fan_in; first += kBlock) {
                    gather(first, kBlock / 2);
                    gather(first + kBlock / 2, kBlock / 2);
                }
                if (first < panels.fan_in) gather(first, panels.fan_in - first);
            }
        }
    });
    return panels;
}

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

// Where the results of a convolution go, and of which group its rows are.
struct Destination {
    uint32_t out, group_rows;
    size_t pixels;  // of one image
    Epilogue epilogue;
    float* to;
};

void multiply(const ListRows& rows, uint32_t bundle, const Panels& panels, const Destination& d,
              std::vector<float>& buffer, const Ops& ops) {
    const uint32_t bundles = (rows.count + bundle - 1) / bundle;
    const size_t floats = size_t{bundles} * bundle * panels.width;
    float* sums = room(buffer, floats + 16);
    sums += (64 - reinterpret_cast<uintptr_t>(sums) % 64) % 64 / sizeof(float);
    for (size_t index = 0; index < panels.count; ++index) {
        const float* block = panels.panel(rows.first / d.group_rows, index);
        const uint8_t* lists = rows.lists;
        std::fill_n(sums, floats, 0.0f);
        for (uint32_t b = 0; b < panels.blocks; ++b, block += size_t{kBlockRows} * panels.width) {
            lists = ops.accumulate_lists(lists, bundles, bundle, block, sums);
        }
        for (uint32_t row = 0; row < rows.count; ++row) {
            store(sums + size_t{row} * panels.width, index * panels.width, panels.end(index),
                  rows.first + row, d.out, d.pixels, d.epilogue, d.to, ops);
        }
    }
}

// Rows of planes, divided among the threads: lists of some rows, then their products, until all are
// done.
void multiply_planes(const PlaneRows& rows, uint32_t bundle, const Panels& panels,
                     const Destination& d, Workspace& work) {
    work.threads.run([&](uint32_t part) {
        ListMaker maker(panels.fan_in, bundle, work.ops);
        const auto [begin, end] = share(rows.count, bundle, part, work.threads.count());
        for (uint32_t row = begin; row < end;) {
            const uint32_t group_end =
                ((rows.first + row) / d.group_rows + 1) * d.group_rows - rows.first;
            const ListRows made =
                maker.make(rows.part(row, std::min(end, group_end)), 0, work.weights.lists[part]);
            multiply(made, bundle, panels, d, work.sums[part], work.ops);
            row += made.count;
        }
    });
}

}  // namespace

Workspace::Workspace(const WeightMemoryPtr& memory, uint32_t thread_count, const Ops& table)
    : threads(thread_count),
      weights(memory, threads.count()),
      ops(table),
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
        std::max<size_t>(1, static_cast<size_t>(kPanelBytes / scratch_bytes(work.ops)));
    for (size_t first = 0; first < n; first += chunk) {
        const size_t images = std::min(chunk, n - first);
        const uint32_t bundle =
            lists_ ? lists_->bundle() : bundle_for(images * shape_.out_pixels(), work.ops);
        const Panels panels =
            make_panels(x + first * image, images, shape_, panel_width(bundle, work.ops), work);
        const Destination to{out_, out_ / shape_.groups, shape_.out_pixels(), epilogue,
                             out + first * out_ * shape_.out_pixels()};
        if (lists_) {
            work.threads.run([&](uint32_t part) {
                for (size_t group = part; group < lists_->groups(); group += work.threads.count()) {
                    multiply(lists_->group(group), bundle, panels, to, work.sums[part], work.ops);
                }
            });
        } else {
            visit_planes(work, [&](const PlaneRows& rows) {
                multiply_planes(rows, bundle, panels, to, work);
            });
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
