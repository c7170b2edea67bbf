// The slow twin of depthwise_inl.h: the same functions as plain loops. Included by ops_scalar.cpp.

template <class From, class To>
void copy_rows(const From* from, size_t from_pitch, uint32_t rows, uint32_t count, uint32_t stride,
               To* to, size_t to_pitch) {
    for (size_t i = 0; i < rows; ++i) {
        for (size_t j = 0; j < count; ++j) to[i * to_pitch + j] = from[i * from_pitch + j * stride];
    }
}

void copy_phase(const float* from, size_t from_pitch, uint32_t rows, uint32_t count,
                uint32_t stride, float* to, size_t to_pitch) {
    copy_rows(from, from_pitch, rows, count, stride, to, to_pitch);
}

void copy_phase_bytes(const int8_t* from, size_t from_pitch, uint32_t rows, uint32_t count,
                      uint32_t stride, int16_t* to, size_t to_pitch) {
    copy_rows(from, from_pitch, rows, count, stride, to, to_pitch);
}

void sum_taps(const float* planes, const Taps& taps, const uint64_t* kept, const uint64_t* sign,
              uint32_t rows, uint32_t pitch, uint32_t columns, float*, float* sums) {
    for (size_t i = 0; i < size_t{rows} * columns; ++i) {
        const float* first = planes + i / columns * pitch + i % columns;
        float sum[2] = {0, 0};
        for (uint32_t k = 0; k < taps.count; ++k) {
            if (kept[k / 64] >> k % 64 & 1) sum[sign[k / 64] >> k % 64 & 1] += first[taps.at[k]];
        }
        sums[i] = sum[0] - sum[1];
    }
}

void sum_taps_shorts(const int16_t* planes, const Taps& taps, const uint64_t* kept,
                     const uint64_t* sign, uint32_t rows, uint32_t pitch, uint32_t columns,
                     int16_t*, int16_t* sums) {
    for (size_t i = 0; i < size_t{rows} * columns; ++i) {
        const int16_t* first = planes + i / columns * pitch + i % columns;
        int sum = 0;
        for (uint32_t k = 0; k < taps.count; ++k) {
            if (!(kept[k / 64] >> k % 64 & 1)) continue;
            sum += sign[k / 64] >> k % 64 & 1 ? -first[taps.at[k]] : first[taps.at[k]];
        }
        sums[i] = int16_t(sum);
    }
}
