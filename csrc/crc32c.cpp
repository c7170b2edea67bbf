#include "crc32c.h"

#include <array>
#include <cstring>
#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace slt {
namespace {

constexpr std::array<uint32_t, 256> kTable = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78u : 0);
        table[i] = crc;
    }
    return table;
}();

uint32_t by_table(const uint8_t* data, size_t size, uint32_t crc) {
    for (size_t i = 0; i < size; ++i) crc = (crc >> 8) ^ kTable[(crc ^ data[i]) & 0xFF];
    return crc;
}

#if defined(__x86_64__)
bool has_instruction() { return __builtin_cpu_supports("sse4.2"); }

__attribute__((target("sse4.2"))) uint32_t by_instruction(const uint8_t* data, size_t size,
                                                          uint32_t crc) {
    uint64_t wide = crc, word;
    for (; size >= 8; data += 8, size -= 8) {
        std::memcpy(&word, data, 8);
        wide = _mm_crc32_u64(wide, word);
    }
    return by_table(data, size, static_cast<uint32_t>(wide));
}
#elif defined(__aarch64__) && defined(__linux__)
bool has_instruction() { return getauxval(AT_HWCAP) & HWCAP_CRC32; }

__attribute__((target("+crc"))) uint32_t by_instruction(const uint8_t* data, size_t size,
                                                        uint32_t crc) {
    uint64_t word;
    for (; size >= 8; data += 8, size -= 8) {
        std::memcpy(&word, data, 8);
        crc = __builtin_aarch64_crc32cx(crc, word);
    }
    return by_table(data, size, crc);
}
#else
bool has_instruction() { return false; }
uint32_t by_instruction(const uint8_t* data, size_t size, uint32_t crc) {
    return by_table(data, size, crc);
}
#endif

}  // namespace

uint32_t crc32c_portable(const uint8_t* data, size_t size, uint32_t value) {
    return ~by_table(data, size, ~value);
}

uint32_t crc32c(const uint8_t* data, size_t size, uint32_t value) {
    static const bool fast = has_instruction();
    return ~(fast ? by_instruction : by_table)(data, size, ~value);
}

}  // namespace slt
