#include <algorithm>
#include <stdexcept>

#include "check.h"
#include "codec.h"
#include "crc32c.h"
#include "layer.h"
#include "random.h"
#include "weights.h"

namespace test {
namespace {

struct Index {
    std::vector<uint32_t> free, words;
    std::vector<uint8_t> payload;
};

// Bit of a position in a plane, by one call of the generator for each.
bool bit_of(const slt::LayerFields& f, uint32_t stream, uint32_t plane, uint64_t position) {
    const uint32_t counter[4] = {static_cast<uint32_t>(position / 128), plane, f.id, stream};
    const uint32_t key[4] = {static_cast<uint32_t>(f.seed), static_cast<uint32_t>(f.seed >> 32), 0,
                             0};
    uint32_t words[4];
    slt::random_words(f.generator, f.rounds, counter, key, words);
    return words[position % 128 / 32] >> position % 32 & 1;
}

// What the layer must give, weight by weight: -1 pruned, 0 free, 1 locked.
std::vector<int> pattern_of(const slt::LayerFields& f) {
    const uint64_t row_positions = (f.fan_in + 127) / 128 * 128;
    std::vector<int> pattern;
    for (uint32_t o = 0; o < f.out; ++o) {
        for (uint32_t k = 0; k < f.fan_in; ++k) {
            uint32_t u = 0;
            for (uint32_t b = 0; b < f.bits; ++b)
                u = 2 * u + bit_of(f, 1, b, o * row_positions + k);
            pattern.push_back(u < f.prune ? -1 : u >= (1u << f.bits) - f.lock ? 1 : 0);
        }
    }
    return pattern;
}

Index encode(const slt::LayerFields& f, const std::vector<int>& pattern,
             const std::vector<uint32_t>& mask, bool some_raw) {
    Index index;
    const auto free = std::count(pattern.begin(), pattern.end(), 0);
    const uint32_t lanes = slt::lanes_of(static_cast<uint64_t>(free));
    uint64_t first = 0;
    for (uint32_t row = 0; row < f.out; row += f.tile_rows) {
        const uint32_t end = std::min(f.out, row + f.tile_rows);
        uint64_t last = first;
        for (uint64_t i = uint64_t{row} * f.fan_in; i < uint64_t{end} * f.fan_in; ++i)
            last += pattern[i] == 0;
        const bool raw = f.mode == slt::MaskMode::raw || (some_raw && index.free.size() % 2);
        const uint32_t* words = mask.data() + first / 32;
        const auto bytes = raw ? slt::encode_raw(words, first, last)
                               : slt::encode(words, first, last, lanes,
                                             {f.generator, f.rounds, f.seed, 2, f.id, 0, 0},
                                             f.densities, slt::scalar_ops);
        index.free.push_back(static_cast<uint32_t>(last - first));
        index.words.push_back(static_cast<uint32_t>(bytes.size() / 2) |
                              (raw && f.mode == slt::MaskMode::coded ? 1u << 31 : 0));
        index.payload.insert(index.payload.end(), bytes.begin(), bytes.end());
        index.payload.resize((index.payload.size() + 3) / 4 * 4);
        first = last;
    }
    return index;
}

void check_rows(const slt::LayerCode& layer, const std::vector<int>& pattern,
                const std::vector<uint32_t>& mask, uint32_t first, uint32_t count,
                const slt::Ops& ops) {
    const slt::LayerFields& f = layer.fields();
    const size_t words = layer.row_words();
    std::vector<uint64_t> kept(count * words), sign(count * words);
    layer.rows(first, count, kept.data(), sign.data(), ops);
    uint64_t ordinal = 0;
    for (uint64_t i = 0; i < uint64_t{first} * f.fan_in; ++i) ordinal += pattern[i] == 0;
    bool right = true;
    for (uint32_t row = 0; row < count; ++row) {
        for (uint64_t k = 0; k < 64 * words; ++k) {
            bool keep = false, negative = false;
            if (k < f.fan_in) {
                const int kind = pattern[uint64_t{first + row} * f.fan_in + k];
                keep = kind == 1 || (kind == 0 && f.mode == slt::MaskMode::all);
                if (kind == 0 && layer.has_mask()) {
                    keep = mask[ordinal / 32] >> ordinal % 32 & 1;
                    ++ordinal;
                }
                negative = keep && bit_of(f, 0, 0, uint64_t{first + row} * 64 * words + k);
            }
            right &= keep == (kept[row * words + k / 64] >> k % 64 & 1);
            right &= negative == (sign[row * words + k / 64] >> k % 64 & 1);
        }
    }
    check(right, std::string(ops.name) + " rows of a layer with K = " + std::to_string(f.fan_in));
}

// Streamed rows are those of the layer, each once, however threads share them.
void check_stream(const slt::LayerCode& layer, uint32_t most, const slt::Ops& ops) {
    const uint32_t out = layer.fields().out;
    const size_t words = layer.row_words();
    std::vector<uint64_t> kept(out * words), sign(out * words);
    layer.rows(0, out, kept.data(), sign.data(), ops);
    for (uint32_t count = 1; count <= 3; ++count) {
        slt::Threads threads(count);
        slt::WeightScratch scratch(layer.memory(), count);
        const auto same_rows = [&](const slt::PlaneRows& rows) {
            const size_t from = rows.first * words, size = rows.count * words;
            return std::equal(rows.kept, rows.kept + size, kept.data() + from) &&
                   std::equal(rows.sign, rows.sign + size, sign.data() + from);
        };
        for (const bool all : {false, true}) {
            std::vector<std::vector<uint32_t>> seen(count, std::vector<uint32_t>(out));
            std::vector<int> right(count, 1);
            slt::stream_rows(layer, most, all, scratch, threads, ops,
                             [&](const slt::PlaneRows& rows, uint32_t part) {
                                 right[part] &= rows.count <= most && same_rows(rows);
                                 for (uint32_t i = 0; i < rows.count; ++i)
                                     ++seen[part][rows.first + i];
                             });
            for (uint32_t part = 1; part < count && !all; ++part) {
                for (uint32_t row = 0; row < out; ++row) seen[0][row] += seen[part][row];
            }
            bool once = true;
            for (uint32_t part = 0; part < (all ? count : 1); ++part)
                once &= seen[part] == std::vector<uint32_t>(out, 1);
            check(once && right == std::vector<int>(count, 1),
                  std::string(ops.name) + " streams every row once, " + std::to_string(count) +
                      " threads" + (all ? ", to each" : ""));
        }
        uint32_t next = 0;
        bool same = true;
        slt::stream_planes(layer, scratch, threads, ops, [&](const slt::PlaneRows& rows) {
            same &= rows.first == next && same_rows(rows);
            next += rows.count;
        });
        check(same && next == out, std::string(ops.name) + " streams rows in order");
    }
}

bool refused(const slt::LayerFields& fields, const Index& index, size_t payload_bytes) {
    try {
        slt::LayerCode(fields, index.free, index.words, index.payload.data(), payload_bytes,
                       std::make_shared<slt::WeightMemory>());
        return false;
    } catch (const std::invalid_argument&) {
        return true;
    }
}

// Every rule of docs/format.md for intervals, broken.
void check_densities(const slt::LayerFields& fields, const Index& index) {
    slt::LayerFields sound = fields;
    sound.densities = {3, true, 3, {0, 5, 15}, {9, 10, 9}};
    check(!refused(sound, index, index.payload.size()), "sound intervals were refused");
    const auto broken = [&](auto change, const char* what) {
        slt::LayerFields wrong = sound;
        change(wrong.densities);
        check(refused(wrong, index, index.payload.size()), std::string(what) + " was taken");
    };
    using D = slt::Densities;
    broken([](D& d) { d.planes = 9; }, "a ninth plane");
    broken([](D& d) { d.sign = false; }, "a start at 2^planes or above");
    broken([](D& d) { d.count = 0; }, "no interval");
    broken([](D& d) { d.count = 17; }, "a seventeenth interval");
    broken([](D& d) { d.start[0] = 1; }, "a first start that is not 0");
    broken([](D& d) { d.start[1] = 0; }, "a start twice");
    broken([](D& d) { d.start[1] = 16; }, "starts that descend");
    broken([](D& d) { d.f[1] = 9; }, "an interval that continues its neighbour");
    broken([](D& d) { d.f[2] = 0; }, "density 0");
    broken([](D& d) { d.f[2] = 4096; }, "density 4096");
}

void check_hostile(const slt::LayerFields& fields, const Index& index) {
    check(refused(fields, index, index.payload.size() - 2), "a short payload was taken");
    Index other = index;
    other.words[0] += 2;
    check(refused(fields, other, index.payload.size()),
          "an index that its payload does not fit was taken");
    other = index;
    other.free.pop_back();
    check(refused(fields, other, index.payload.size()), "an index with a tile too few was taken");
    other = index;
    other.free[0] = 0xFFFFFFFFu;
    check(refused(fields, other, index.payload.size()),
          "more free weights than weights were taken");
    slt::LayerFields wrong = fields;
    wrong.prune = (1u << fields.bits) + 1;
    check(refused(wrong, index, index.payload.size()), "thresholds over 2^bits were taken");
    if (fields.mode == slt::MaskMode::coded) check_densities(fields, index);
    wrong = fields;
    wrong.rounds = 9;
    check(refused(wrong, index, index.payload.size()), "9 rounds were taken");
}

// Faults that only decoding can see: each must throw, on every ISA.
void check_malformed(const slt::LayerFields& fields, Index index, const char* what) {
    for (const slt::Ops* ops : slt::available_ops()) {
        bool thrown = false;
        try {
            const slt::LayerCode layer(fields, index.free, index.words, index.payload.data(),
                                       index.payload.size(), std::make_shared<slt::WeightMemory>());
            std::vector<uint64_t> kept(fields.out * layer.row_words()), sign(kept.size());
            layer.rows(0, fields.out, kept.data(), sign.data(), *ops);
        } catch (const std::invalid_argument&) {
            thrown = true;
        }
        check(thrown, std::string(ops->name) + " took " + what);
        for (uint32_t count = 1; count <= 2; ++count) {
            slt::Threads threads(count);
            const auto memory = std::make_shared<slt::WeightMemory>();
            slt::WeightScratch scratch(memory, count);
            thrown = false;
            try {
                const slt::LayerCode layer(fields, index.free, index.words, index.payload.data(),
                                           index.payload.size(), memory);
                slt::stream_rows(layer, 2, false, scratch, threads, *ops,
                                 [](const slt::PlaneRows&, uint32_t) {});
            } catch (const std::invalid_argument&) {
                thrown = true;
            }
            check(thrown, std::string(ops->name) + " streamed " + what);
        }
    }
}

void check_tiles(const slt::LayerFields& fields, const Index& index) {
    Index other = index;
    const bool raw = fields.mode == slt::MaskMode::raw || index.words[0] >> 31;
    const uint32_t words = index.words[0] & 0x7FFFFFFFu;
    if (!raw && words % 2) {
        other.payload[2 * words] = 1;
        check_malformed(fields, other, "padding that is not zero");
    }
    if (raw && index.free[0] % 32) {
        other.payload[2 * words - 1] |= 0x80;
        check_malformed(fields, other, "a raw bit behind the tile");
    }
    other = index;
    if (index.free.size() > 1 && index.free[0] > 0 && index.free[1] > 0) {
        --other.free[0];
        ++other.free[1];
        check_malformed(fields, other, "free counts that the freeze pattern does not give");
    }
    other = index;
    if (!raw && words > 0) {
        other.payload[2] = other.payload[3] = 0;
        check_malformed(fields, other, "a starting state below 2^16");
    }
}

}  // namespace

void layers() {
    Cases cases(6);
    int of_lanes[2] = {};  // coded layers of 4 and of 32 lanes
    const uint32_t fan_ins[] = {1, 27, 63, 64, 65, 127, 128, 129, 300, 577};
    for (uint32_t i = 0; i < 40; ++i) {
        slt::LayerFields f;
        const Version& version = kVersions[i % kVersions.size()];
        f.generator = version.generator;
        f.rounds = version.rounds;
        f.seed = cases.next();
        f.id = static_cast<uint32_t>(cases.next());
        f.fan_in = fan_ins[i % 10];
        f.out = i % 10 == 8 ? 120 : static_cast<uint32_t>(cases.between(1, 12));
        f.tile_rows = static_cast<uint32_t>(cases.between(1, f.out));
        f.bits = i % 4 == 0 ? 0 : static_cast<uint32_t>(cases.between(2, 8));
        if (f.bits > 0) {
            f.prune = static_cast<uint32_t>(cases.between(0, (1u << f.bits) / 2)) | 1;
            f.lock = static_cast<uint32_t>(cases.between(0, (1u << f.bits) - f.prune));
        }
        const slt::MaskMode modes[] = {slt::MaskMode::raw, slt::MaskMode::coded,
                                       slt::MaskMode::coded, slt::MaskMode::all,
                                       slt::MaskMode::none};
        // Number 8 is large enough for 32 lanes.
        f.mode = i == 8 ? slt::MaskMode::coded : modes[cases.between(0, 4)];
        if (f.mode == slt::MaskMode::coded)
            f.densities = i % 3 == 1
                              ? slt::static_density(static_cast<uint32_t>(cases.between(1, 4095)))
                              : random_densities(cases);
        const std::vector<int> pattern = pattern_of(f);
        uint64_t free = 0, pruned = 0;
        for (int kind : pattern) {
            free += kind == 0;
            pruned += kind < 0;
        }
        std::vector<uint32_t> mask((free + 31) / 32 + 1, 0);
        for (uint64_t o = 0; o < free; ++o)
            mask[o / 32] |= static_cast<uint32_t>(cases.next() & 1) << o % 32;
        const bool has_mask = f.mode == slt::MaskMode::raw || f.mode == slt::MaskMode::coded;
        if (!has_mask) f.tile_rows = f.out;
        of_lanes[slt::lanes_of(free) == 32] += f.mode == slt::MaskMode::coded;
        const Index index = has_mask ? encode(f, pattern, mask, i % 3 == 0) : Index{};
        const auto memory = std::make_shared<slt::WeightMemory>();
        {
            const slt::LayerCode layer(f, index.free, index.words, index.payload.data(),
                                       index.payload.size(), memory);
            const auto counts = layer.counts(slt::ops());
            check(counts.free == free && counts.pruned == pruned, "counts of a layer");
            if (has_mask)
                check(std::ranges::equal(counts.tiles, index.free), "free weights of its tiles");
            // Drawn once, so that the cases do not depend on how many ISAs a machine has.
            const auto first = static_cast<uint32_t>(cases.between(0, f.out - 1));
            const auto count = static_cast<uint32_t>(cases.between(0, f.out - first));
            for (const slt::Ops* ops : slt::available_ops()) {
                check_rows(layer, pattern, mask, 0, f.out, *ops);
                check_rows(layer, pattern, mask, first, count, *ops);
                check_stream(layer, count + 1, *ops);
                if (has_mask) {
                    slt::Threads threads(1);
                    std::vector<uint32_t> whole((free + 31) / 32, ~0u);
                    layer.mask(whole.data(), *ops, threads);
                    whole.resize(mask.size());
                    check(whole == mask, std::string(ops->name) + " mask of a layer");
                }
            }
            if (index.payload.size() > 0) {
                check_hostile(f, index);
                check_tiles(f, index);
            }
        }
        check(memory->current() == 0, "memory is counted back to zero");
    }
    check(of_lanes[0] > 0 && of_lanes[1] > 0, "coded layers of 4 lanes and of 32 were made");
}

void checksums() {
    const std::string digits = "123456789";
    const auto* bytes = reinterpret_cast<const uint8_t*>(digits.data());
    check(slt::crc32c(bytes, 9) == 0xE3069283u, "the check value of CRC-32C");
    Cases cases(7);
    std::vector<uint8_t> data(1000);
    for (uint8_t& byte : data) byte = static_cast<uint8_t>(cases.next());
    for (size_t size = 0; size <= data.size(); size += cases.between(1, 9)) {
        const uint32_t whole = slt::crc32c(data.data(), size);
        check(whole == slt::crc32c_portable(data.data(), size),
              "CRC-32C by instruction and by table");
        const size_t cut = cases.between(0, size);
        check(whole == slt::crc32c(data.data() + cut, size - cut, slt::crc32c(data.data(), cut)),
              "CRC-32C in parts");
    }
}

}  // namespace test
