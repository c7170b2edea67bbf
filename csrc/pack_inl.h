// What dot_inl.h reads, from bit planes and images. Included after it and after this primitive:
//   Bytes dot_signs(const uint8_t* kept, const uint8_t* sign)   bytes +1, -1 and 0 of kBytes bits

inline void store_bytes(void* p, Bytes v) { __builtin_memcpy(p, &v, sizeof v); }

// Bytes +1, -1 and 0 of 64 positions a word; gives their sum.
int64_t unpack_signs(const uint64_t* kept, const uint64_t* sign, size_t words, int8_t* out) {
    int64_t sum = 0;
    for (size_t word = 0; word < words; ++word) {
        const uint8_t* k = reinterpret_cast<const uint8_t*>(kept + word);
        const uint8_t* s = reinterpret_cast<const uint8_t*>(sign + word);
        for (uint32_t byte = 0; byte < 8; byte += kBytes / 8, out += kBytes)
            store_bytes(out, dot_signs(k + byte, s + byte));
        sum += __builtin_popcountll(kept[word]) - 2 * __builtin_popcountll(sign[word]);
    }
    return sum;
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

// Fills a tile's quads, `quad_bytes` apart: quad i takes, for each run in order, `length` pixels of
// four bytes, `stride` apart, from image + 4 * (offsets[i] + run.from). Copies whole vectors: may
// read and write up to kTilePadding bytes behind.
void gather_quads(const uint8_t* image, const uint32_t* offsets, uint32_t quads, const Run* runs,
                  uint32_t count, uint32_t stride, size_t quad_bytes, uint8_t* tile) {
    if (stride == 1 && count == 1) {
        image += 4 * size_t(runs->from);
        for (uint32_t quad = 0; quad < quads; ++quad, tile += quad_bytes) {
            const uint8_t* from = image + 4 * size_t(offsets[quad]);
            store_bytes(tile, load_bytes(from));
            if (4 * runs->length > kBytes) store_bytes(tile + kBytes, load_bytes(from + kBytes));
        }
        return;
    }
    for (uint32_t quad = 0; quad < quads; ++quad, tile += quad_bytes) {
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
