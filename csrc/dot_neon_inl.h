// What the dot kernels of NEON with the dotprod extension and without share (dot_inl.h).

typedef uint32_t u32v __attribute__((vector_size(16)));
typedef int8x16_t Bytes;
constexpr uint8_t kDotOffset = 0;
inline Bytes dot_weights(const int8_t* w) {
    int32_t four;
    __builtin_memcpy(&four, w, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}
