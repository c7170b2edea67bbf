#include <algorithm>
#include <cstring>
#include <memory>

#include "check.h"
#include "codec.h"

namespace test {
namespace {

// Words first div 32 to (last - 1) div 32 of a mask with that share of ones, in 256ths, zero
// outside the tile.
std::vector<uint32_t> random_mask(Cases& cases, uint64_t first, uint64_t last, uint32_t share) {
    std::vector<uint32_t> mask(slt::mask_words_of(first, last), 0);
    for (uint64_t o = first; o < last; ++o) {
        if (cases.between(0, 255) < share) mask[o / 32 - first / 32] |= 1u << o % 32;
    }
    return mask;
}

// A payload in memory of exactly the size that decoders may read, so that a sanitizer sees every
// byte too far.
struct Payload {
    explicit Payload(const std::vector<uint8_t>& bytes, uint8_t padding = 0)
        : words(bytes.size() / 2), data(new uint8_t[bytes.size() + slt::kPayloadPadding]) {
        if (!bytes.empty()) std::memcpy(data.get(), bytes.data(), bytes.size());
        std::memset(data.get() + bytes.size(), padding, slt::kPayloadPadding);
    }
    size_t words;
    std::unique_ptr<uint8_t[]> data;
};

uint32_t random_lanes(Cases& cases) { return cases.next() % 3 == 0 ? 4 : 32; }

slt::TileFault decode(const slt::Ops& ops, const Payload& payload, uint64_t first, uint64_t last,
                      uint32_t lanes, const slt::Plane& scores, const slt::Densities& densities,
                      std::vector<uint32_t>& out) {
    slt::TileJob job = {payload.data.get(), payload.words,       first, last,
                        out.data(),         slt::TileFault::none};
    slt::decode(&job, 1, lanes, scores, densities, ops);
    return job.fault;
}

}  // namespace

slt::Plane random_scores(Cases& cases) {
    const Version& version = kVersions[cases.next() % kVersions.size()];
    return {version.generator,
            version.rounds,
            cases.next(),
            slt::kScoreStream,
            static_cast<uint32_t>(cases.next()),
            0,
            0};
}

slt::Densities random_densities(Cases& cases) {
    slt::Densities d{};
    d.planes = static_cast<uint32_t>(cases.between(0, 8));
    d.sign = d.planes == 0 || cases.next() % 2;
    const uint64_t wanted = cases.between(1, 16), cells = uint64_t{1} << (d.planes + d.sign);
    uint64_t start = 0;
    while (d.count < wanted && start < cells) {
        const uint32_t f = static_cast<uint32_t>(cases.between(1, 4095));
        if (d.count > 0 && f == d.f[d.count - 1]) continue;
        d.start[d.count] = static_cast<uint16_t>(start);
        d.f[d.count++] = static_cast<uint16_t>(f);
        start += cases.between(1, std::max<uint64_t>(1, 2 * cells / wanted));
    }
    slt::check_densities(d);
    return d;
}

void deposits() {
    Cases cases(3);
    for (int i = 0; i < 200; ++i) {
        const size_t words = cases.between(1, 40);
        std::vector<uint64_t> free(words);
        uint64_t set = 0;
        for (uint64_t& word : free) {
            word = cases.next() & (i % 3 ? cases.next() : ~uint64_t{0});
            if (i % 5 == 0) word = i % 2 ? ~uint64_t{0} : 0;
            set += static_cast<uint64_t>(__builtin_popcountll(word));
        }
        const uint64_t start = cases.between(0, 100);
        std::vector<uint32_t> mask((start + set + 31) / 32 + slt::kMaskPadding);
        for (uint32_t& word : mask) word = static_cast<uint32_t>(cases.next());
        std::vector<uint64_t> expected = free;
        slt::scalar_ops.deposit(expected.data(), words, mask.data(), start);
        for (const slt::Ops* ops : slt::available_ops()) {
            std::vector<uint64_t> out = free;
            check(ops->count_bits(out.data(), words) == set,
                  std::string(ops->name) + " counts bits");
            const uint64_t end = ops->deposit(out.data(), words, mask.data(), start);
            check(out == expected && end == start + set,
                  std::string(ops->name) + " deposits mask bits");
        }
    }
}

void frequencies() {
    Cases cases(8);
    for (int i = 0; i < 200; ++i) {
        const slt::Densities densities = random_densities(cases);
        const slt::Plane scores = random_scores(cases);
        const uint32_t block0 = static_cast<uint32_t>(cases.next() % (1u << 25));
        const size_t blocks = cases.between(1, 100);
        std::vector<uint16_t> expected(128 * blocks), out(128 * blocks);
        slt::scalar_ops.frequencies(scores, densities, block0, blocks, expected.data());
        for (const slt::Ops* ops : slt::available_ops()) {
            ops->frequencies(scores, densities, block0, blocks, out.data());
            check(out == expected, std::string(ops->name) + " frequencies, planes " +
                                       std::to_string(densities.planes));
        }
    }
}

void coded_tiles() {
    Cases cases(4);
    const uint64_t sizes[] = {1, 2, 31, 32, 33, 63, 64, 65, 1023, 1024, 1025, 4096, 20011};
    for (uint64_t size : sizes) {
        for (uint32_t density : {1u, 2u, 416u, 2048u, 3200u, 4095u, 0u}) {
            const slt::Densities densities =
                density > 0 ? slt::static_density(density) : random_densities(cases);
            const slt::Plane scores = random_scores(cases);
            const uint64_t first =
                cases.between(0, 8000) + (size == 33 ? (uint64_t{1} << 32) - 8100 : 0);
            const uint64_t last = first + size;
            const uint32_t lanes = random_lanes(cases);
            for (uint32_t share :
                 {0u, density / 16, 256u}) {  // also masks that their density does not suit
                const std::vector<uint32_t> mask = random_mask(cases, first, last, share);
                const auto bytes = slt::encode(mask.data(), first, last, lanes, scores, densities,
                                               slt::scalar_ops);
                const Payload payload(bytes, 0xFF);
                for (const slt::Ops* ops : slt::available_ops()) {
                    std::vector<uint32_t> out(mask.size());
                    const auto fault =
                        decode(*ops, payload, first, last, lanes, scores, densities, out);
                    check(fault == slt::TileFault::none && out == mask,
                          std::string(ops->name) + " tile of " + std::to_string(size) +
                              ", density " + std::to_string(density) + ": " + slt::text_of(fault));
                    check(slt::encode(mask.data(), first, last, lanes, scores, densities, *ops) ==
                              bytes,
                          std::string(ops->name) + " encodes the same");
                }
            }
        }
    }
    // Entropy of 26/256: 0.474 bits; the states add 768 bits, 0.006 a bit.
    const std::vector<uint32_t> mask = random_mask(cases, 0, 1 << 17, 26);
    const size_t bytes =
        slt::encode(mask.data(), 0, 1 << 17, 32, {}, slt::static_density(416), slt::scalar_ops)
            .size();
    check(8 * bytes < static_cast<size_t>((1 << 17) * 0.49),
          "a tile of density 0.1 is coded near its entropy");
}

// Whatever is done to a payload: no access outside, and every ISA agrees on the fault and, without
// one, on the bits.
void corrupted_tiles() {
    Cases cases(5);
    for (int i = 0; i < 3000; ++i) {
        const uint64_t first = cases.between(0, 70), last = first + cases.between(1, 700);
        const slt::Densities densities =
            i % 2 ? random_densities(cases)
                  : slt::static_density(static_cast<uint32_t>(cases.between(1, 4095)));
        const slt::Plane scores = random_scores(cases);
        const uint32_t lanes = random_lanes(cases);
        const std::vector<uint32_t> mask = random_mask(cases, first, last, densities.f[0] / 16);
        std::vector<uint8_t> bytes =
            slt::encode(mask.data(), first, last, lanes, scores, densities, slt::scalar_ops);
        const std::vector<uint8_t> intact = bytes;
        switch (i % 5) {
            case 0:
                bytes[cases.next() % bytes.size()] ^=
                    static_cast<uint8_t>(1u << cases.between(0, 7));
                break;
            case 1:
                bytes.resize(2 * cases.between(0, bytes.size() / 2 - 1));
                break;
            case 2:
                bytes.resize(bytes.size() + 2 * cases.between(1, 40),
                             static_cast<uint8_t>(cases.next()));
                break;
            case 3:
                for (uint64_t n = cases.between(1, 50); n-- > 0;)
                    bytes[cases.next() % bytes.size()] ^= cases.next();
                break;
            default:
                for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(cases.next());
        }
        const Payload payload(bytes, static_cast<uint8_t>(cases.next()));
        std::vector<uint32_t> expected(mask.size()), out(mask.size());
        const auto fault =
            decode(slt::scalar_ops, payload, first, last, lanes, scores, densities, expected);
        // Words that are missing or too many cannot give the exact end. (A flipped bit may decode:
        // symbols of equal frequency lead to equal states. Each tile has a CRC for that.)
        if (i % 5 == 1 || i % 5 == 2)
            check(fault != slt::TileFault::none, "the scalar decoder took a corrupted tile");
        if (bytes == intact)
            check(fault == slt::TileFault::none && expected == mask, "an intact tile was refused");
        for (const slt::Ops* ops : slt::available_ops()) {
            const auto other = decode(*ops, payload, first, last, lanes, scores, densities, out);
            check(other == fault && (fault != slt::TileFault::none || out == expected),
                  std::string(ops->name) + " disagrees on a corrupted tile: " +
                      slt::text_of(fault) + "; " + slt::text_of(other));
        }
    }
}

// Tiles of any sizes, sound and damaged, side by side: each is judged as it is alone.
void tiles_together() {
    Cases cases(9);
    for (int i = 0; i < 300; ++i) {
        const slt::Densities densities =
            i % 3 ? random_densities(cases)
                  : slt::static_density(static_cast<uint32_t>(cases.between(1, 4095)));
        const slt::Plane scores = random_scores(cases);
        const size_t count = cases.between(1, 5);
        const uint32_t lanes = random_lanes(cases);
        std::vector<Payload> payloads;
        std::vector<std::vector<uint32_t>> alone, together;
        std::vector<slt::TileJob> jobs;
        std::vector<slt::TileFault> faults;
        uint64_t first = cases.between(0, 5000);
        for (size_t t = 0; t < count; ++t) {
            const uint64_t last = first + cases.between(1, i % 2 ? 200 : 9000);
            const std::vector<uint32_t> mask = random_mask(cases, first, last, densities.f[0] / 16);
            auto bytes =
                slt::encode(mask.data(), first, last, lanes, scores, densities, slt::scalar_ops);
            if (cases.next() % 4 == 0) bytes[cases.next() % bytes.size()] ^= cases.next();
            if (cases.next() % 4 == 0) bytes.resize(2 * cases.between(0, bytes.size() / 2));
            payloads.emplace_back(bytes);
            alone.push_back(mask);
            together.push_back(mask);
            faults.push_back(decode(slt::scalar_ops, payloads[t], first, last, lanes, scores,
                                    densities, alone[t]));
            jobs.push_back({payloads[t].data.get(), payloads[t].words, first, last,
                            together[t].data(), slt::TileFault::none});
            first = last;
        }
        for (const slt::Ops* ops : slt::available_ops()) {
            slt::decode(jobs.data(), count, lanes, scores, densities, *ops);
            for (size_t t = 0; t < count; ++t) {
                check(jobs[t].fault == faults[t] &&
                          (faults[t] != slt::TileFault::none || together[t] == alone[t]),
                      std::string(ops->name) + " tiles together: " + slt::text_of(faults[t]) +
                          "; " + slt::text_of(jobs[t].fault));
            }
        }
    }
}

}  // namespace test
