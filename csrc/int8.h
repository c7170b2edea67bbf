// Layers and operators in int8 as docs/numerics.md fixes them, on pointers and sizes. Activations
// are int8 in [-127, 127], NCHW; sums are int32 and exact, so their order is free.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "conv.h"
#include "units.h"

namespace slt {

// y = clamp((acc * m + r * m_r + b + ((1 << s) >> 1)) >> s, low, 127), and the same formula clamped
// to int32 for logits; one m and b per output channel, or one for all.
class Requantiser {
  public:
    // |m|, |m_r| <= 32767, |b| <= 2^46, s <= 22, -127 <= low <= 0; m and b of one length, not
    // empty. Throws std::invalid_argument.
    Requantiser(std::vector<int64_t> m, std::vector<int64_t> b, int64_t s, int64_t m_r,
                int64_t low);

    size_t channels() const { return channels_.size(); }  // 1: the same for every channel
    // Sums of consecutive channels, or of one and the same, to [rows] of `count`: the next row of
    // out and residual (null: none) is `stride` further. Sum is int16_t or int32_t.
    template <class Sum>
    void store(size_t channel, uint32_t rows, size_t count, const Sum* sums, size_t sums_stride,
               const int8_t* residual, int8_t* out, size_t stride, const Ops& ops) const;
    template <class Sum>
    void store(size_t channel, uint32_t rows, size_t count, const Sum* sums, size_t sums_stride,
               const int8_t* residual, int32_t* out, size_t stride, const Ops& ops) const;

  private:
    std::vector<RequantiseChannel> channels_;
    std::vector<int64_t> m_, b_;
    int64_t s_, m_r_;
};

// Where the sums of a layer go: requantised, with a residual or without, into [n][rows][pixels] of
// int8, or of int32 where they are logits. One of out and logits is null.
struct Sink {
    const Requantiser& requantiser;
    const int8_t* residual;  // like out; null: none
    uint32_t rows;           // output channels
    size_t pixels;           // of one image
    int8_t* out;
    int32_t* logits;
    const Ops& ops;

    // int32 sums of one row over a run of output pixels of all images: `first_pixel` is image *
    // pixels + pixel, and the run may go on over the end of an image. Threads may store different
    // runs at the same time.
    void store(uint32_t row, size_t first_pixel, size_t count, const int32_t* sums) const {
        store_rows(row, 1, first_pixel, count, sums, 0);
    }
    // The same of consecutive rows, whose sums are `sums_stride` apart; Sum is int16_t or int32_t.
    template <class Sum>
    void store_rows(uint32_t row, uint32_t count_rows, size_t first_pixel, size_t count,
                    const Sum* sums, size_t sums_stride) const;
};

// Where kernels that read bit planes have a layer's rows from: kept or regenerated (stream_rows).
struct RowSource {
    // Threads use some rows at a time, at most `most`; all: each thread uses all of them, in their
    // order.
    std::function<void(uint32_t most, bool all, const UseRows& use)> show;
    // A row of weights takes about as long to make as the copies that so many output pixels read.
    uint32_t pixels_a_row;
};

// The weights of one layer, in the form its int8 kernel reads.
class Int8Layer {
  public:
    enum class Keep { none, planes, lists };
    enum class Kernel { add, dot };

    // As LayerWeights: lists become planes where they would take more than 2 bits per weight and 8
    // bytes per row, and always where the kernel is dot. A resident layer lets go of the coded
    // weights.
    Int8Layer(std::shared_ptr<const LayerCode> code, Keep keep, Kernel kernel,
              const ConvShape& shape, Workspace& work);

    const ConvShape& shape() const { return shape_; }
    uint32_t out() const { return out_; }
    uint32_t fan_in() const { return fan_in_; }
    const char* kept_name() const { return lists_ ? "lists" : planes_ ? "planes" : "none"; }
    size_t resident_bytes() const;
    // Bytes of activations in other layouts that conv2d wants at most for one image on one thread; a
    // double, which cannot overflow.
    double scratch_bytes(const Ops& ops) const;

    // x [n, channels, height, width], values in [-127, 127].
    void conv2d(const int8_t* x, size_t n, const Sink& sink, Workspace& work) const;
    // x [n, K]; sink of one pixel.
    void linear(const int8_t* x, size_t n, const Sink& sink, Workspace& work) const;

  private:
    std::shared_ptr<const LayerCode> code_;
    uint32_t out_, fan_in_;
    Kernel kernel_;
    ConvShape shape_;
    std::unique_ptr<ResidentPlanes> planes_;
    std::unique_ptr<ResidentUnits> lists_;
};

// planes = images * channels; padding is never the largest.
void max_pool2d_int8(const int8_t* x, size_t planes, const PoolShape& shape, int8_t* out,
                     Threads& threads);
// Sums of windows, padding 0, requantised.
void sum_pool2d_int8(const int8_t* x, size_t planes, const PoolShape& shape, const Sink& sink,
                     Threads& threads);
// Sums of whole planes, requantised; sink of one pixel.
void global_sum_int8(const int8_t* x, size_t planes, size_t pixels, const Sink& sink);
// out = the requantiser's y of one channel with a as acc and b as r.
void add_int8(const int8_t* a, const int8_t* b, size_t count, const Requantiser& requantiser,
              int8_t* out, const Ops& ops);
void add_int8(const int8_t* a, const int8_t* b, size_t count, const Requantiser& requantiser,
              int32_t* logits, const Ops& ops);

}  // namespace slt
