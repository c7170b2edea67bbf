// The slow twin: straight from docs/format.md, one position, one ordinal at a time. Shares nothing
// with *_inl.h.
#include <cstdint>
#include <bit>
#include <cstring>

#include "mixed_law.h"
#include "ops.h"
#include "random.h"

namespace slt {
namespace {

void words(Generator generator, uint32_t rounds, size_t count, const uint32_t* counters,
           const uint32_t* keys, uint32_t* out) {
    for (size_t i = 0; i < count; ++i) {
        random_words(generator, rounds, counters + 4 * i, keys + 4 * i, out + 4 * i);
    }
}

void plane(const Plane& p, uint32_t block0, size_t blocks, void* out) {
    const uint32_t key[4] = {static_cast<uint32_t>(p.seed), static_cast<uint32_t>(p.seed >> 32), 0,
                             0};
    for (size_t i = 0; i < blocks; ++i) {
        const uint32_t block = static_cast<uint32_t>(block0 + i);
        const uint32_t counter[4] = {block, p.plane + 256 * p.generation, p.layer, p.stream};
        uint32_t four[4];
        random_words(p.generator, p.rounds, counter, key, four);
        std::memcpy(static_cast<char*>(out) + 16 * i, four, 16);
    }
}

struct Block {  // bit i of half h is position 64 h + i
    uint64_t half[2];
};

Block operator^(const Block& x, const Block& y) {
    return {{x.half[0] ^ y.half[0], x.half[1] ^ y.half[1]}};
}

Block translated(const Block& x, uint32_t g) {
    const uint32_t swap = g / 64, turn = g % 64;
    return {{std::rotl(x.half[swap], static_cast<int>(turn)),
             std::rotl(x.half[1 - swap], static_cast<int>(turn))}};
}

// Planes 2 to count - 1 of the law `mixed` from planes 0 and 1.
void mix_planes(uint32_t (&planes)[16][4], uint32_t count) {
    const auto block = [&](uint32_t j) {
        const uint32_t* words = planes[j];
        return Block{{words[0] | uint64_t{words[1]} << 32, words[2] | uint64_t{words[3]} << 32}};
    };
    const Block a = block(0), c = block(1);
    const Block t = a ^ translated(c, kMixT[0]) ^ translated(a, kMixT[1]);
    const Block u = c ^ translated(a, kMixU[0]) ^ translated(c, kMixU[1]);
    const Block w = a ^ translated(a, kMixW[0]) ^ translated(c, kMixW[1]);
    for (uint32_t j = 2; j < count; ++j) {
        const Block mixed = translated(j < 12 ? t : u, kMixedPlanes[j].first) ^
                            translated(j < 8 ? u : w, kMixedPlanes[j].second);
        for (uint32_t i = 0; i < 4; ++i)
            planes[j][i] = static_cast<uint32_t>(mixed.half[i / 2] >> 32 * (i % 2));
    }
}

void freeze(const FreezePattern& p, uint32_t block0, size_t blocks, uint64_t* free,
            uint64_t* locked) {
    for (size_t block = 0; block < blocks; ++block) {
        uint32_t planes[16][4];
        const uint32_t drawn = p.law == FreezeLaw::mixed ? 2 : p.bits;
        for (uint32_t b = 0; b < drawn; ++b) {
            plane({p.generator, p.rounds, p.seed, 1, p.layer, 0, b},
                  static_cast<uint32_t>(block0 + block), 1, planes[b]);
        }
        if (p.law == FreezeLaw::mixed) mix_planes(planes, p.bits);
        for (uint32_t half = 0; half < 2; ++half)
            free[2 * block + half] = locked[2 * block + half] = 0;
        for (uint32_t i = 0; i < 128; ++i) {
            uint32_t u = 0;
            for (uint32_t b = 0; b < p.bits; ++b) u = 2 * u + (planes[b][i / 32] >> i % 32 & 1);
            if (u < p.prune) continue;
            uint64_t* bits = u >= (1u << p.bits) - p.lock ? locked : free;
            bits[2 * block + i / 64] |= uint64_t{1} << i % 64;
        }
    }
}

uint64_t deposit(uint64_t* free, size_t words, const uint32_t* mask, uint64_t start) {
    for (size_t position = 0; position < 64 * words; ++position) {
        const uint64_t bit = uint64_t{1} << position % 64;
        if (!(free[position / 64] & bit)) continue;
        if (!(mask[start / 32] >> start % 32 & 1)) free[position / 64] &= ~bit;
        ++start;
    }
    return start;
}

uint64_t count_bits(const uint64_t* words, size_t count) {
    uint64_t total = 0;
    for (size_t i = 0; i < 64 * count; ++i) total += words[i / 64] >> i % 64 & 1;
    return total;
}

void frequencies(const Plane& scores, const Densities& densities, uint32_t block0, size_t blocks,
                 uint16_t* out) {
    for (size_t block = 0; block < blocks; ++block) {
        uint32_t v[128] = {};
        for (uint32_t bit = 0; bit < densities.planes + densities.sign; ++bit) {
            Plane address = scores;
            address.plane = bit < densities.planes ? bit : kSignPlane;
            uint32_t words[4];
            plane(address, static_cast<uint32_t>(block0 + block), 1, words);
            for (uint32_t i = 0; i < 128; ++i) v[i] = 2 * v[i] + (words[i / 32] >> i % 32 & 1);
        }
        for (uint32_t i = 0; i < 128; ++i) {
            uint32_t interval = densities.count - 1;
            while (v[i] < densities.start[interval]) --interval;
            out[128 * block + i] = densities.f[interval];
        }
    }
}

TileFault decode_tile(const uint8_t* payload, size_t words, uint64_t first, uint64_t last,
                      const Plane& scores, const Densities& densities, uint32_t* out) {
    const auto word = [payload](size_t i) {
        return uint32_t{payload[2 * i]} | uint32_t{payload[2 * i + 1]} << 8;
    };
    if (words < 64) return TileFault::words_short;
    uint32_t states[32];
    for (size_t lane = 0; lane < 32; ++lane) {
        states[lane] = word(2 * lane) | word(2 * lane + 1) << 16;
        if (states[lane] < 0x10000u) return TileFault::start_state;
    }
    for (uint64_t i = first / 32; i <= (last - 1) / 32; ++i) out[i - first / 32] = 0;
    size_t taken = 64;
    uint16_t block[128];
    for (uint64_t ordinal = first; ordinal < last; ++ordinal) {
        if (ordinal == first || (ordinal % 128 == 0 && densities.count > 1))
            frequencies(scores, densities, static_cast<uint32_t>(ordinal / 128), 1, block);
        const uint32_t f = block[ordinal % 128];
        uint32_t& x = states[ordinal % 32];
        const uint32_t s = x % 4096;
        if (s < f) {
            x = f * (x / 4096) + s;
            out[ordinal / 32 - first / 32] |= 1u << ordinal % 32;
        } else {
            x = (4096 - f) * (x / 4096) + s - f;
        }
        if (x < 0x10000u) {
            if (taken == words) return TileFault::words_short;
            x = x << 16 | word(taken++);
        }
    }
    for (uint32_t x : states) {
        if (x != 0x10000u) return TileFault::final_state;
    }
    return taken == words ? TileFault::none : TileFault::words_left;
}

void decode(TileJob* jobs, size_t count, const Plane& scores, const Densities& densities) {
    for (TileJob* job = jobs; job < jobs + count; ++job) {
        job->fault = decode_tile(job->payload, job->words, job->first, job->last, scores, densities,
                                 job->out);
    }
}

#include "int8_scalar.h"
#include "kernels_scalar.h"
#include "depthwise_scalar.h"

// The bounds are those of the vectors that every machine of the architecture has, which the compiler
// may use here too: kBytes is 16.
struct DotBytes {
    typedef int16_t V __attribute__((vector_size(16)));
    static constexpr uint64_t kMacs = 8;
    static V step(V sum, V a, V b) { return sum + a * b; }
};
typedef DotBytes DotUnit;
inline bool has_dot_unit() { return false; }

#include "peaks_inl.h"

}  // namespace

const Ops scalar_ops = {
    .name = "scalar",
#include "ops_entries.h"
};

}  // namespace slt
