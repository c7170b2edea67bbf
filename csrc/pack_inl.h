// What dot_inl.h reads, from bit planes and images. Included after it and after this primitive:
//   Bytes dot_signs(uint64_t kept, uint64_t sign)   bytes +1, -1 and 0 of the first kBytes bits

inline void store_bytes(void* p, Bytes v) { __builtin_memcpy(p, &v, sizeof v); }

// Bytes +1, -1 and 0 of 64 positions a word.
void unpack_signs(const uint64_t* kept, const uint64_t* sign, size_t words, int8_t* out) {
    for (size_t word = 0; word < words; ++word) {
        for (uint32_t bit = 0; bit < 64; bit += kBytes, out += kBytes)
            store_bytes(out, dot_signs(kept[word] >> bit, sign[word] >> bit));
    }
}

// to[4 j + c] = planes[c][j] + kDotOffset: pixels of four channels side by side.
void interleave_channels(const int8_t* const* planes, size_t count, uint8_t* to) {
    const int8_t *a = planes[0], *b = planes[1], *c = planes[2], *d = planes[3];
    for (size_t j = 0; j < count; ++j, to += 4) {
        to[0] = uint8_t(a[j] + kDotOffset);
        to[1] = uint8_t(b[j] + kDotOffset);
        to[2] = uint8_t(c[j] + kDotOffset);
        to[3] = uint8_t(d[j] + kDotOffset);
    }
}

// Fills a tile's quads: quad i takes, for each run in order, `length` pixels of four bytes,
// `stride` apart, from image + 4 * (offsets[i] + run.from). Copies whole vectors: may read and
// write up to kTilePadding bytes behind.
void gather_quads(const uint8_t* image, const uint32_t* offsets, uint32_t quads, const Run* runs,
                  uint32_t count, uint32_t stride, uint32_t vectors, uint8_t* tile) {
    for (uint32_t quad = 0; quad < quads; ++quad, tile += vectors * kBytes) {
        const uint8_t* from = image + 4 * size_t(offsets[quad]);
        uint8_t* to = tile;
        for (uint32_t i = 0; i < count; to += 4 * runs[i].length, ++i) {
            const uint8_t* pixel = from + 4 * size_t(runs[i].from);
            if (stride == 1) {
                for (uint32_t at = 0; at < 4 * runs[i].length; at += kBytes)
                    store_bytes(to + at, load_bytes(pixel + at));
            } else {
                for (uint32_t j = 0; j < runs[i].length; ++j)
                    __builtin_memcpy(to + 4 * j, pixel + 4 * size_t(j) * stride, 4);
            }
        }
    }
}
