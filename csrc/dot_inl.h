// Sums of products of int8 activations and weights of +1, -1 and 0. Included like conv_inl.h, after
// kBytes and these primitives:
//   Bytes, Sums, u32v                       vectors; u32v holds sums modulo 2^32
//   Bytes dot_weights(const int8_t* w)       four weights, over and over
//   Sums dot_step(Sums sums, Bytes x, Bytes w)   adds the products of bytes, those of four
//                                            neighbours to the same lane's sums
//   u32v dot_total(Sums sums)                the sum of each four neighbours
//   kDotOffset                               what dot_step wants added to activations: 0 or 128
//   kDotQuads                                steps from zero that cannot overflow Sums
//   kDotRows                                 rows of a register block, 4 or more
//
// A *quad* is four positions of the weight matrix. A *tile* of a panel holds, for some output
// pixels, one or two vectors of them, quad after quad what they read: four bytes of a pixel side by
// side, activations plus kDotOffset. A row's start value makes the offset good. A *column* is what
// one pixel reads, as a tile of one pixel would hold it: the bytes in the order of the weights.

inline Bytes load_bytes(const void* p) {
    Bytes v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}

// sums[r * sums_stride ...] = start[r] + the products of row r, for kRows rows.
template <uint32_t kRows, uint32_t kVectors>
inline void dot_block(const int8_t* weights, size_t row_bytes, const uint8_t* tile, uint32_t quads,
                      const int32_t* start, int32_t* sums, size_t sums_stride) {
    u32v total[kRows][kVectors];
#pragma GCC unroll 16
    for (uint32_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (uint32_t v = 0; v < kVectors; ++v) total[r][v] = u32v{} + uint32_t(start[r]);
    }
    while (quads) {
        const uint32_t steps = quads < kDotQuads ? quads : kDotQuads;
        Sums acc[kRows][kVectors] = {};
        for (uint32_t i = 0; i < steps; ++i, weights += 4, tile += kVectors * kBytes) {
            Bytes x[kVectors];
#pragma GCC unroll 2
            for (uint32_t v = 0; v < kVectors; ++v) x[v] = load_bytes(tile + v * kBytes);
#pragma GCC unroll 16
            for (uint32_t r = 0; r < kRows; ++r) {
                const Bytes w = dot_weights(weights + r * row_bytes);
#pragma GCC unroll 2
                for (uint32_t v = 0; v < kVectors; ++v) acc[r][v] = dot_step(acc[r][v], x[v], w);
            }
        }
#pragma GCC unroll 16
        for (uint32_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
            for (uint32_t v = 0; v < kVectors; ++v) total[r][v] += dot_total(acc[r][v]);
        }
        quads -= steps;
    }
#pragma GCC unroll 16
    for (uint32_t r = 0; r < kRows; ++r)
        __builtin_memcpy(sums + r * sums_stride, total[r], sizeof total[r]);
}

template <uint32_t kVectors>
void dot_rows(const int8_t* weights, size_t row_bytes, uint32_t rows, const uint8_t* tile,
              uint32_t quads, const int32_t* start, int32_t* sums, size_t sums_stride) {
    while (rows) {
        uint32_t done;
        if (rows >= kDotRows) {
            dot_block<kDotRows, kVectors>(weights, row_bytes, tile, quads, start, sums,
                                          sums_stride);
            done = kDotRows;
        } else if (rows >= 4) {
            dot_block<4, kVectors>(weights, row_bytes, tile, quads, start, sums, sums_stride);
            done = 4;
        } else if (rows >= 2) {
            dot_block<2, kVectors>(weights, row_bytes, tile, quads, start, sums, sums_stride);
            done = 2;
        } else {
            dot_block<1, kVectors>(weights, row_bytes, tile, quads, start, sums, sums_stride);
            done = 1;
        }
        rows -= done, weights += done * row_bytes, start += done, sums += done * sums_stride;
    }
}

void dot_tile(const int8_t* weights, size_t row_bytes, uint32_t rows, const uint8_t* tile,
              uint32_t quads, uint32_t vectors, const int32_t* start, int32_t* sums,
              size_t sums_stride) {
    if (vectors == 1) {
        dot_rows<1>(weights, row_bytes, rows, tile, quads, start, sums, sums_stride);
    } else {
        dot_rows<2>(weights, row_bytes, rows, tile, quads, start, sums, sums_stride);
    }
}

// Rows times one column, K in lanes: sums[r * sums_stride] = start[r] + the products of row r.
template <uint32_t kRows>
inline void dot_lanes(const int8_t* weights, size_t row_bytes, const uint8_t* column, size_t bytes,
                      const int32_t* start, int32_t* sums, size_t sums_stride) {
    u32v total[kRows] = {};
    for (size_t k = 0; k < bytes;) {
        const size_t left = (bytes - k + kBytes - 1) / kBytes;
        const uint32_t steps = left < kDotQuads ? uint32_t(left) : kDotQuads;
        Sums acc[kRows] = {};
        for (uint32_t i = 0; i < steps; ++i, k += kBytes) {
            const Bytes x = load_bytes(column + k);
#pragma GCC unroll 4
            for (uint32_t r = 0; r < kRows; ++r)
                acc[r] = dot_step(acc[r], x, load_bytes(weights + r * row_bytes + k));
        }
#pragma GCC unroll 4
        for (uint32_t r = 0; r < kRows; ++r) total[r] += dot_total(acc[r]);
    }
    for (uint32_t r = 0; r < kRows; ++r) {
        uint32_t sum = uint32_t(start[r]);
        for (uint32_t i = 0; i < kBytes / 4; ++i) sum += total[r][i];
        sums[r * sums_stride] = int32_t(sum);
    }
}

void dot_columns(const int8_t* weights, size_t row_bytes, uint32_t rows, const uint8_t* columns,
                 size_t column_bytes, uint32_t count, size_t bytes, const int32_t* start,
                 int32_t* sums, size_t sums_stride) {
    for (; rows >= 4; rows -= 4, weights += 4 * row_bytes, start += 4, sums += 4 * sums_stride) {
        for (uint32_t c = 0; c < count; ++c) {
            dot_lanes<4>(weights, row_bytes, columns + c * column_bytes, bytes, start, sums + c,
                         sums_stride);
        }
    }
    for (; rows; --rows, weights += row_bytes, ++start, sums += sums_stride) {
        for (uint32_t c = 0; c < count; ++c) {
            dot_lanes<1>(weights, row_bytes, columns + c * column_bytes, bytes, start, sums + c,
                         sums_stride);
        }
    }
}
