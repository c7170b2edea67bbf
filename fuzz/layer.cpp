// A layer from any numbers and any bytes: it is refused by std::invalid_argument, or every ISA gives the same
// mask and rows, which keep what the mask says.
#include "layer.h"

#include <optional>
#include <stdexcept>

#include "input.h"

namespace {

constexpr uint32_t kMostRows = 40, kMostColumns = 1024;  // both numbers of lanes

struct Index {
    std::vector<uint32_t> free, words;
    std::vector<uint8_t> payload;
};

// Per tile a u16: the words of its payload, bit 15 the raw flag; then the payloads, zeros where they end.
// The free counts are the pattern's.
Index take_honest(fuzz::Input& input, const slt::LayerFields& fields) {
    slt::LayerFields pattern = fields;
    pattern.mode = slt::MaskMode::none;
    const slt::LayerCode none(pattern, {}, {}, nullptr, 0, std::make_shared<slt::WeightMemory>());
    Index index;
    const auto free = none.counts(slt::scalar_ops).tiles;
    index.free.assign(free.begin(), free.end());
    size_t total = 0;
    for (size_t i = 0; i < index.free.size(); ++i) {
        const uint32_t words = input.take<uint16_t>();
        index.words.push_back((words & 0x7FFF) | (words >> 15) << 31);
        total += ((words & 0x7FFF) + 1) / 2 * 4;
    }
    index.payload.assign(total, 0);
    std::copy_n(input.data(), std::min(total, input.size()), index.payload.begin());
    return index;
}

// u8 count, then so many times u32 free, u32 words; the rest is payload.
Index take_any(fuzz::Input& input) {
    Index index;
    const uint32_t count = input.take<uint8_t>();
    for (uint32_t i = 0; i < count; ++i) {
        index.free.push_back(input.take<uint32_t>());
        index.words.push_back(input.take<uint32_t>());
    }
    index.payload.assign(input.data(), input.data() + input.size());
    return index;
}

// Empty where it is refused.
template <class Work>
auto attempt(Work work) -> std::optional<decltype(work())> {
    try {
        return work();
    } catch (const std::invalid_argument&) {
        return {};
    }
}

struct Rows {
    std::vector<uint64_t> kept, sign;
    bool operator==(const Rows&) const = default;
};

Rows rows_of(const slt::LayerCode& layer, uint32_t first, uint32_t count, const slt::Ops& ops) {
    Rows rows{std::vector<uint64_t>(count * layer.row_words()), {}};
    rows.sign = rows.kept;
    layer.rows(first, count, rows.kept.data(), rows.sign.data(), ops);
    return rows;
}

std::vector<uint32_t> mask_of(const slt::LayerCode& layer, const slt::Ops& ops) {
    slt::Threads threads(1);
    std::vector<uint32_t> mask((layer.free(ops) + 31) / 32);
    layer.mask(mask.data(), ops, threads);
    return mask;
}

void check(const slt::LayerCode& layer, uint32_t from, uint32_t to) {
    const slt::Ops& scalar = slt::scalar_ops;
    const auto mask = attempt([&] { return mask_of(layer, scalar); });
    const auto rows = attempt([&] { return rows_of(layer, 0, layer.fields().out, scalar); });
    const auto counts = layer.counts(scalar);
    for (const slt::Ops* ops : slt::available_ops()) {
        fuzz::require(attempt([&] { return mask_of(layer, *ops); }) == mask, "two ISAs, two masks");
        fuzz::require(attempt([&] { return rows_of(layer, 0, layer.fields().out, *ops); }) == rows,
                      "two ISAs, two matrices");
        const auto some = attempt([&] { return rows_of(layer, from, to - from, *ops); });
        fuzz::require(some || !rows, "a part of sound rows is refused");
        const size_t words = layer.row_words();
        fuzz::require(!rows || std::equal(some->kept.begin(), some->kept.end(),
                                          rows->kept.begin() + from * words),
                      "rows differ when read in parts");
    }
    if (!mask || !rows) return;
    const uint64_t set = scalar.count_bits(rows->kept.data(), rows->kept.size());
    uint64_t bits = 0;
    for (uint32_t word : *mask) bits += static_cast<uint64_t>(__builtin_popcount(word));
    fuzz::require(set == counts.locked + bits, "kept weights are not the locked ones and the mask's");
}

}  // namespace

// Random, then u8 mode and freeze law, u8 honest, u16 rows, u16 columns, u8 bits, u16 prune, u16 lock,
// u16 tile rows, densities, u8 and u8 for a range of rows, and the index.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    fuzz::Input input(data, size);
    const fuzz::Random random = fuzz::take_random(input);
    slt::LayerFields fields;
    fields.generator = random.generator;
    fields.rounds = random.rounds;
    fields.seed = random.seed;
    fields.id = random.id;
    const uint8_t mode = input.take<uint8_t>(), honest = input.take<uint8_t>();
    const slt::MaskMode modes[] = {slt::MaskMode::coded, slt::MaskMode::raw, slt::MaskMode::all,
                                   slt::MaskMode::none};
    fields.mode = modes[mode % 4];
    fields.law = mode / 4 % 2 ? slt::FreezeLaw::mixed : slt::FreezeLaw::bernoulli;
    fields.out = input.take<uint16_t>();
    fields.fan_in = input.take<uint16_t>();
    if (honest) {
        fields.out = fields.out % kMostRows + 1;
        fields.fan_in = fields.fan_in % kMostColumns + 1;
    } else if (uint64_t{fields.out} * fields.fan_in > uint64_t{kMostRows} * kMostColumns) {
        return 0;  // slow, and no other than smaller ones
    }
    fields.bits = input.take<uint8_t>();
    fields.prune = input.take<uint16_t>();
    fields.lock = input.take<uint16_t>();
    fields.tile_rows = input.take<uint16_t>();
    fields.densities = fuzz::take_densities(input);
    const uint32_t from = input.take<uint8_t>(), to = input.take<uint8_t>();
    const auto memory = std::make_shared<slt::WeightMemory>();
    attempt([&] {
        const bool indexed = fields.mode == slt::MaskMode::coded || fields.mode == slt::MaskMode::raw;
        const Index index = honest ? (indexed ? take_honest(input, fields) : Index{}) : take_any(input);
        const std::vector<uint8_t> payload(index.payload);
        const slt::LayerCode layer(fields, index.free, index.words, payload.data(), payload.size(),
                                   memory);
        const uint32_t low = std::min(from, to) % fields.out;
        check(layer, low, std::clamp(std::max(from, to), low, fields.out));
        return 0;
    });
    fuzz::require(memory->current() == 0, "memory is not counted back to zero");
    return 0;
}
