// Layers and operators in f32 as docs/numerics.md fixes them, on pointers and sizes.
#pragma once

#include <memory>
#include <vector>

#include "lists.h"

namespace slt {

// y = sum * scale + shift per output channel, then max(., 0) where relu. scale null: y = sum; shift
// null: none added.
struct Epilogue {
    const float* scale = nullptr;
    const float* shift = nullptr;
    bool relu = false;
};

struct ConvShape {
    uint32_t channels = 1, height = 1, width = 1;  // of the image
    uint32_t kernel_rows = 1, kernel_columns = 1;
    uint32_t groups = 1, stride = 1, padding = 0;

    uint32_t inputs() const { return channels / groups; }
    uint32_t out_rows() const { return (height + 2 * padding - kernel_rows) / stride + 1; }
    uint32_t out_columns() const { return (width + 2 * padding - kernel_columns) / stride + 1; }
    size_t out_pixels() const { return size_t{out_rows()} * out_columns(); }
};

// What all layers of a plan share: not for two calls at once.
struct Workspace {
    Workspace(const WeightMemoryPtr& memory, uint32_t thread_count, const Ops& table);

    Threads threads;
    WeightScratch weights;
    const Ops& ops;
    // One per thread: what threads write they do not share.
    std::vector<std::vector<float>> padded, block, sums;
    // The same of int8 layers.
    std::vector<std::vector<int8_t>> padded_bytes;
    std::vector<std::vector<int16_t>> short_panels;
    std::vector<std::vector<uint8_t>> packed, tiles;
    std::vector<std::vector<int32_t>> int_sums;
};

// The largest panels, or padded copies, of more than one image, in bytes.
constexpr size_t kPanelBytes = size_t{4} << 20;

// The weights of one layer, in the form its kernel reads.
class LayerWeights {
  public:
    enum class Keep { none, planes, lists };

    // Lists become planes where they would take more than 2 bits per weight and 8 bytes per row. A
    // resident layer lets go of the coded weights.
    LayerWeights(std::shared_ptr<const LayerCode> code, Keep keep, const ConvShape& shape,
                 Workspace& work);

    const ConvShape& shape() const { return shape_; }
    uint32_t out() const { return out_; }
    uint32_t fan_in() const { return fan_in_; }
    const char* kept_name() const { return lists_ ? "lists" : planes_ ? "planes" : "none"; }
    size_t resident_bytes() const;
    // Bytes that conv2d wants for one image, in one thread: the padded image, a panel's block,
    // sums; a double, which cannot overflow.
    double scratch_bytes(const Ops& ops) const;

    // x [n, channels, height, width] to out [n, out, rows, columns].
    void conv2d(const float* x, size_t n, const Epilogue& epilogue, float* out,
                Workspace& work) const;
    // x [n, K] to out [n, out].
    void linear(const float* x, size_t n, const Epilogue& epilogue, float* out,
                Workspace& work) const;

  private:
    // As stream_rows, of kept planes or regenerated ones.
    void show_rows(bool all, Workspace& work, const UseRows& use) const;

    std::shared_ptr<const LayerCode> code_;
    uint32_t out_, fan_in_;
    ConvShape shape_;
    std::unique_ptr<ResidentPlanes> planes_;
    std::unique_ptr<ResidentLists> lists_;
};

// Rows a bundle of lists has: 4, 2 or 1, where an image's pixels fill 1, 2 or more vectors.
uint32_t bundle_for(size_t pixels, const Ops& ops);

struct PoolShape {
    uint32_t channels, height, width, kernel, stride, padding;
    uint32_t out_rows() const { return (height + 2 * padding - kernel) / stride + 1; }
    uint32_t out_columns() const { return (width + 2 * padding - kernel) / stride + 1; }
};
// Output columns whose input at kernel column `k` lies in the image: [first, last).
struct Columns {
    size_t first, last;
};
Columns inside(uint32_t k, const PoolShape& shape);
// planes = images * channels
void max_pool2d(const float* x, size_t planes, const PoolShape& shape, float* out,
                Threads& threads);
void avg_pool2d(const float* x, size_t planes, const PoolShape& shape, float* out,
                Threads& threads);
void global_avg_pool2d(const float* x, size_t planes, size_t pixels, float* out);

}  // namespace slt
