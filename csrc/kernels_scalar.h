// The slow twin of conv_inl.h and linear_inl.h: the same functions as plain loops, written without
// a look at them. Included by ops_scalar.cpp. Panels are as wide as with 4 floats a vector.

constexpr uint32_t kFloats = 4;

uint32_t list_steps(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows) {
    uint32_t most = 0;
    for (uint32_t r = 0; r < rows; ++r) {
        uint32_t count[2] = {0, 0};
        for (uint32_t j = 0; j < 128; ++j) {
            const size_t word = r * row_words + j / 64;
            if (kept[word] >> (j % 64) & 1) ++count[sign[word] >> (j % 64) & 1];
        }
        for (uint32_t c : count) most = c > most ? c : most;
    }
    return most;
}

void list_bundle(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
                 uint32_t bundle, uint32_t positions, uint32_t steps, uint8_t* out) {
    const bool whole = positions == 128;
    for (size_t i = 0; i < size_t(steps) * 2 * bundle; ++i)
        out[i] = uint8_t(whole ? 64 : positions);
    for (uint32_t r = 0; r < rows; ++r) {
        size_t count[2] = {0, 0};
        for (uint32_t j = 0; j < positions; ++j) {
            const size_t word = r * row_words + j / 64;
            if (!(kept[word] >> (j % 64) & 1)) continue;
            const uint32_t minus = sign[word] >> (j % 64) & 1;
            out[count[minus]++ * 2 * bundle + 2 * r + minus] =
                uint8_t(whole && j >= 64 ? j + 1 : j);
        }
    }
}

const uint8_t* accumulate_lists(const uint8_t* list, uint32_t bundles, uint32_t bundle,
                                uint32_t vectors, const float* block, bool first, float* acc) {
    const size_t width = vectors * kFloats;
    for (uint32_t b = 0; b < bundles; ++b) {
        const uint32_t steps = *list++;
        for (uint32_t r = 0; r < bundle; ++r, acc += width) {
            for (size_t j = 0; j < width; ++j) {
                float plus = 0, minus = 0;
                for (size_t i = 0; i < steps; ++i)
                    plus += block[list[i * 2 * bundle + 2 * r] * width + j];
                for (size_t i = 0; i < steps; ++i)
                    minus += block[list[i * 2 * bundle + 2 * r + 1] * width + j];
                acc[j] = (first ? 0.0f : acc[j]) + (plus - minus);
            }
        }
        list += size_t(steps) * 2 * bundle;
    }
    return list;
}

void gather_block(const float* image, const uint32_t* offsets, uint32_t positions, const Run* runs,
                  uint32_t count, uint32_t stride, uint32_t width, float* block) {
    const auto zeros = [&] {
        for (uint32_t j = 0; j < width; ++j) *block++ = 0;
    };
    for (uint32_t position = 0; position < positions; ++position) {
        if (positions == 128 && position == 64) zeros();
        uint32_t at = 0;
        for (uint32_t i = 0; i < count; ++i) {
            for (uint32_t j = 0; j < runs[i].length; ++j) {
                block[at++] = image[offsets[position] + size_t(runs[i].from) + size_t(j) * stride];
            }
        }
        while (at < width) block[at++] = 0;
        block += width;
    }
    zeros();
}

void scale_shift(const float* x, size_t count, float scale, const float* shift, bool relu,
                 float* out) {
    for (size_t i = 0; i < count; ++i) {
        const float product = x[i] * scale;
        const float y = shift ? product + *shift : product;
        out[i] = relu ? (y > 0 ? y : 0.0f) : y;
    }
}

void store_rows(const float* sums, size_t width, uint32_t rows, size_t count, const float* scale,
                const float* shift, bool relu, float* out, size_t stride) {
    for (uint32_t row = 0; row < rows; ++row) {
        for (size_t i = 0; i < count; ++i) {
            const float sum = sums[row * width + i];
            float y = scale ? sum * scale[row] : sum;
            if (scale && shift) y += shift[row];
            out[row * stride + i] = scale && relu && !(y > 0) ? 0.0f : y;
        }
    }
}

void add_floats(const float* a, const float* b, size_t count, bool relu, float* out) {
    for (size_t i = 0; i < count; ++i) {
        const float y = a[i] + b[i];
        out[i] = relu ? (y > 0 ? y : 0.0f) : y;
    }
}

void relu_floats(const float* x, size_t count, float* out) {
    for (size_t i = 0; i < count; ++i) out[i] = x[i] > 0 ? x[i] : 0.0f;
}

void linear(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
            uint32_t columns, const float* x, float* sums) {
    for (uint32_t r = 0; r < rows; ++r) {
        float lane[16] = {};
        for (uint32_t k = 0; k < columns; ++k) {
            const size_t word = r * row_words + k / 64;
            if (!(kept[word] >> (k % 64) & 1)) continue;
            lane[k % 16] += sign[word] >> (k % 64) & 1 ? -x[k] : x[k];
        }
        for (uint32_t half = 8; half; half /= 2) {
            for (uint32_t j = 0; j < half; ++j) lane[j] += lane[j + half];
        }
        sums[r] = lane[0];
    }
}

constexpr uint8_t kDotOffset = 0;
constexpr size_t kBytes = 16;

int64_t unpack_signs(const uint64_t* kept, const uint64_t* sign, size_t words, int8_t* out) {
    int64_t sum = 0;
    for (size_t i = 0; i < 64 * words; ++i) {
        const int minus = sign[i / 64] >> (i % 64) & 1, any = kept[i / 64] >> (i % 64) & 1;
        out[i] = int8_t(any - 2 * minus);
        sum += out[i];
    }
    return sum;
}

void interleave_channels(const int8_t* const* planes, size_t count, uint8_t* to) {
    for (size_t i = 0; i < 4 * count; ++i) to[i] = uint8_t(planes[i % 4][i / 4]);
}

void gather_quads(const uint8_t* image, const uint32_t* offsets, uint32_t quads, const Run* runs,
                  uint32_t count, uint32_t stride, size_t quad_bytes, uint8_t* tile) {
    for (uint32_t quad = 0; quad < quads; ++quad, tile += quad_bytes) {
        size_t at = 0;
        for (uint32_t i = 0; i < count; ++i) {
            for (size_t j = 0; j < 4 * size_t(runs[i].length); ++j) {
                const size_t pixel = size_t(offsets[quad]) + runs[i].from + j / 4 * stride;
                tile[at++] = image[4 * pixel + j % 4];
            }
        }
    }
}

void dot_tile(const int8_t* weights, size_t row_bytes, uint32_t rows, const uint8_t* tile,
              uint32_t quads, uint32_t vectors, const int32_t* start, int32_t* sums,
              size_t sums_stride) {
    const size_t pixels = vectors * kBytes / 4;
    for (uint32_t r = 0; r < rows; ++r) {
        for (size_t pixel = 0; pixel < pixels; ++pixel) {
            int32_t sum = start[r];
            for (size_t k = 0; k < 4 * size_t(quads); ++k) {
                sum +=
                    weights[r * row_bytes + k] * int8_t(tile[(k / 4 * pixels + pixel) * 4 + k % 4]);
            }
            sums[r * sums_stride + pixel] = sum;
        }
    }
}

void dot_columns(const int8_t* weights, size_t row_bytes, uint32_t rows, const uint8_t* columns,
                 size_t column_bytes, uint32_t count, size_t bytes, const int32_t* start,
                 int32_t* sums, size_t sums_stride) {
    for (uint32_t r = 0; r < rows; ++r) {
        for (uint32_t c = 0; c < count; ++c) {
            int32_t sum = start[r];
            for (size_t k = 0; k < bytes; ++k)
                sum += weights[r * row_bytes + k] * int8_t(columns[c * column_bytes + k]);
            sums[r * sums_stride + c] = sum;
        }
    }
}
