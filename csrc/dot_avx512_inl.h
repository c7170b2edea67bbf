// What the dot kernels of AVX-512 with VNNI and without share (dot_inl.h).

typedef uint32_t u32v __attribute__((vector_size(64)));
typedef __m512i Bytes;
constexpr uint8_t kDotOffset = 128;
constexpr uint32_t kDotRows = 8;
inline Bytes dot_weights(const int8_t* w) {
    int32_t four;
    __builtin_memcpy(&four, w, 4);
    return _mm512_set1_epi32(four);
}
