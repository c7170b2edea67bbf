// The slow twin of int8_inl.h: the same functions as plain loops. Included by ops_scalar.cpp.
// Panels are as wide as with 8 shorts a vector.

constexpr uint32_t kShorts = 8;

void gather_bytes(const int8_t* image, const uint32_t* offsets, uint32_t rows, const Run* runs,
                  uint32_t count, uint32_t stride, uint32_t width, int16_t* to) {
    for (uint32_t row = 0; row < rows; ++row, to += width) {
        uint32_t at = 0;
        for (uint32_t i = 0; i < count; ++i) {
            for (uint32_t j = 0; j < runs[i].length; ++j)
                to[at++] = image[offsets[row] + size_t(runs[i].from) + size_t(j) * stride];
        }
    }
}

// Lists of bytes or of uint16, an entry at a time.
struct Entries {
    uint8_t* at;
    bool wide;

    void put(uint32_t value) {
        *at++ = uint8_t(value);
        if (wide) *at++ = uint8_t(value >> 8);
    }
    uint32_t take() {
        uint32_t value = *at++;
        if (wide) value |= uint32_t(*at++) << 8;
        return value;
    }
};

// A class for every unit: not the shortest lists, but right ones.
uint8_t* list_units(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
                    uint32_t words, bool wide, uint16_t* since, uint8_t* out) {
    Entries list{out, wide};
    bool full = false;
    for (uint32_t pass = 0; pass < 2; ++pass) {
        for (uint32_t r = 0; r < rows; ++r) {
            uint32_t count = 0;
            for (uint32_t j = 0; j < 64 * words; ++j)
                count += kept[r * row_words + j / 64] >> (j % 64) & 1;
            if (pass == 0) full = full || since[r] + count > kNarrowKept;
            if (pass == 1) since[r] = uint16_t(full ? count : since[r] + count);
        }
    }
    list.put(full);
    for (uint32_t minus = 0; minus < 2; ++minus) {
        for (uint32_t r = 0; r < rows; ++r) {
            uint32_t count = 0;
            for (uint32_t pass = 0; pass < 2; ++pass) {
                if (pass == 1 && count == 0) break;
                if (pass == 1) list.put(1), list.put(count - 1), list.put(r);
                for (uint32_t j = 0; j < 64 * words; ++j) {
                    const size_t word = r * row_words + j / 64;
                    if (!(kept[word] >> (j % 64) & 1) || (sign[word] >> (j % 64) & 1) != minus)
                        continue;
                    if (pass == 0) ++count;
                    if (pass == 1) list.put(j);
                }
            }
        }
        list.put(0);
    }
    return list.at;
}

// Always in int32.
bool sum_units(const uint8_t* lists, bool wide, uint32_t blocks, const int16_t* panel,
               uint32_t vectors, uint32_t rows, int16_t*, int32_t* sums) {
    const size_t width = size_t(vectors) * kShorts;
    Entries list{const_cast<uint8_t*>(lists), wide};
    for (size_t i = 0; i < rows * width; ++i) sums[i] = 0;
    for (; blocks; --blocks, panel += (wide ? kWideBlock : kNarrowBlock) * width) {
        list.take();
        for (int32_t sign = 1; sign >= -1; sign -= 2) {
            while (uint32_t units = list.take()) {
                const uint32_t length = list.take() + 1;
                for (; units; --units) {
                    int32_t* to = sums + list.take() * width;
                    for (uint32_t i = 0; i < length; ++i) {
                        const int16_t* row = panel + list.take() * width;
                        for (size_t j = 0; j < width; ++j) to[j] += sign * row[j];
                    }
                }
            }
        }
    }
    return true;
}

void sum_words(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
               uint32_t words, const int16_t* panel, int32_t* sums) {
    for (uint32_t r = 0; r < rows; ++r, kept += row_words, sign += row_words, sums += kShorts) {
        for (uint32_t k = 0; k < 64 * words; ++k) {
            if (!(kept[k / 64] >> k % 64 & 1)) continue;
            const int16_t* row = panel + (k / 64 * kWordRows + k % 64) * kShorts;
            const int32_t weight = sign[k / 64] >> k % 64 & 1 ? -1 : 1;
            for (uint32_t i = 0; i < kShorts; ++i) sums[i] += weight * row[i];
        }
    }
}

void linear_bytes(const uint64_t* kept, const uint64_t* sign, size_t row_words, uint32_t rows,
                  const int8_t* x, size_t x_stride, size_t images, int32_t* sums,
                  size_t sums_stride) {
    for (size_t image = 0; image < images; ++image) {
        for (uint32_t r = 0; r < rows; ++r) {
            int32_t sum = 0;
            for (size_t k = 0; k < 64 * row_words; ++k) {
                const size_t word = r * row_words + k / 64;
                if (!(kept[word] >> (k % 64) & 1)) continue;
                const int32_t value = x[image * x_stride + k];
                sum += sign[word] >> (k % 64) & 1 ? -value : value;
            }
            sums[image * sums_stride + r] = sum;
        }
    }
}

template <class Sum>
void requantise_rows(const Sum* sums, size_t sums_stride, const int8_t* residual, size_t stride,
                     uint32_t rows, size_t count, const RequantiseChannel* channel,
                     size_t channel_step, int8_t* out) {
    for (uint32_t row = 0; row < rows; ++row) {
        const RequantiseChannel& q = channel[row * channel_step];
        for (size_t i = 0; i < count; ++i) {
            int64_t a = sums[row * sums_stride + i];
            if (a < q.lo) a = q.lo;
            if (a > q.hi) a = q.hi;
            const int64_t r = residual ? residual[row * stride + i] : 0;
            const uint32_t t = uint32_t(uint64_t(a * q.m + r * q.m_r + q.c));
            const int64_t y = int64_t(int32_t(t)) >> q.s;
            out[row * stride + i] = int8_t(y < q.low ? q.low : y > 127 ? 127 : y);
        }
    }
}

void requantise(const int32_t* sums, size_t sums_stride, const int8_t* residual, size_t stride,
                uint32_t rows, size_t count, const RequantiseChannel* channel, size_t channel_step,
                int8_t* out) {
    requantise_rows(sums, sums_stride, residual, stride, rows, count, channel, channel_step, out);
}

void requantise_shorts(const int16_t* sums, size_t sums_stride, const int8_t* residual,
                       size_t stride, uint32_t rows, size_t count, const RequantiseChannel* channel,
                       size_t channel_step, int8_t* out) {
    requantise_rows(sums, sums_stride, residual, stride, rows, count, channel, channel_step, out);
}

void quantise(const float* x, size_t count, float scale, int8_t* out) {
    for (size_t i = 0; i < count; ++i) {
        const float v = __builtin_rintf(x[i] / scale);
        out[i] = int8_t(v > 127 ? 127 : v > -127 ? v : -127);
    }
}

void relu_bytes(const int8_t* x, size_t count, int8_t* out) {
    for (size_t i = 0; i < count; ++i) out[i] = x[i] > 0 ? x[i] : int8_t(0);
}
