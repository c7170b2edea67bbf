// CRC-32C (Castagnoli), docs/format.md, section 4.
#pragma once

#include <cstddef>
#include <cstdint>

namespace slt {

// The CRC of the bytes that gave `value` followed by data; start with 0.
uint32_t crc32c(const uint8_t* data, size_t size, uint32_t value = 0);
// The same by tables alone, on every machine: what the fast one is tested against.
uint32_t crc32c_portable(const uint8_t* data, size_t size, uint32_t value = 0);

}  // namespace slt
