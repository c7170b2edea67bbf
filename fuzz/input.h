// What the fuzz targets share: bytes to numbers, and numbers to what docs/format.md allows.
// fuzz/seeds.py writes the same layouts.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "codec.h"
#include "isa.h"

namespace fuzz {

// A finding: libFuzzer keeps the input.
inline void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "FINDING: %s\n", what);
    std::abort();
}

// Little-endian numbers from the front; zeros behind the end.
class Input {
  public:
    Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}

    template <class T>
    T take() {
        T value{};
        const size_t size = std::min(size_, sizeof value);
        if (size > 0) std::memcpy(&value, data_, size);
        data_ += size;
        size_ -= size;
        return value;
    }
    const uint8_t* data() const { return data_; }
    size_t size() const { return size_; }

  private:
    const uint8_t* data_;
    size_t size_;
};

struct Random {
    slt::Generator generator;
    uint32_t rounds;
    uint64_t seed;
    uint32_t id;
};

// u8 version, u64 seed, u32 layer id.
inline Random take_random(Input& input) {
    static const struct {
        slt::Generator generator;
        uint32_t rounds;
    } versions[] = {{slt::Generator::philox4x32, 10},
                    {slt::Generator::philox4x32, 7},
                    {slt::Generator::threefry4x32, 20},
                    {slt::Generator::threefry4x32, 13},
                    {slt::Generator::threefry4x32, 12}};
    const auto& version = versions[input.take<uint8_t>() % 5];
    const uint64_t seed = input.take<uint64_t>();
    return {version.generator, version.rounds, seed, input.take<uint32_t>()};
}

// u8 planes, u8 sign, u8 count, then count times u16 start, u16 f. Intervals that the format does not
// allow are made to fit or left out.
inline slt::Densities take_densities(Input& input) {
    slt::Densities densities{};
    densities.planes = input.take<uint8_t>() % 9;
    densities.sign = input.take<uint8_t>() % 2;
    const uint32_t count = input.take<uint8_t>() % 16 + 1, cells = 1u << (densities.planes + densities.sign);
    for (uint32_t i = 0; i < count; ++i) {
        const uint32_t start = i == 0 ? 0 * input.take<uint16_t>() : input.take<uint16_t>() % cells;
        const uint32_t f = (input.take<uint16_t>() + 4094u) % 4095 + 1, last = densities.count;
        if (last > 0 && (start <= densities.start[last - 1] || f == densities.f[last - 1])) continue;
        densities.start[last] = static_cast<uint16_t>(start);
        densities.f[last] = static_cast<uint16_t>(f);
        ++densities.count;
    }
    slt::check_densities(densities);
    return densities;
}

inline slt::Plane scores_of(const Random& random) {
    return {random.generator, random.rounds, random.seed, slt::kScoreStream, random.id, 0, 0};
}

// u8: even for 32 lanes, odd for 4.
inline uint32_t take_lanes(Input& input) { return input.take<uint8_t>() % 2 ? 4 : 32; }

// Decodes one tile alone.
inline slt::TileFault decode(const slt::Ops& ops, const uint8_t* payload, size_t words, uint64_t first,
                             uint64_t last, uint32_t lanes, const slt::Plane& scores,
                             const slt::Densities& densities, uint32_t* out) {
    slt::TileJob job{payload, words, first, last, out, slt::TileFault::none};
    slt::decode(&job, 1, lanes, scores, densities, ops);
    return job.fault;
}

// Bytes in memory of exactly the size that decoders may read.
struct Payload {
    Payload(const uint8_t* bytes, size_t size, uint8_t padding)
        : data(new uint8_t[size + slt::kPayloadPadding]) {
        if (size > 0) std::memcpy(data.get(), bytes, size);
        std::memset(data.get() + size, padding, slt::kPayloadPadding);
    }
    std::unique_ptr<uint8_t[]> data;
};

}  // namespace fuzz
