#include "layer.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <numeric>
#include <stdexcept>

#include "codec.h"

namespace slt {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

[[noreturn]] void refuse_tile(uint32_t tile, const std::string& what) {
    refuse("tile " + std::to_string(tile) + ": " + what);
}

void check_fields(const LayerFields& f) {
    check_generator(f.generator, f.rounds);
    if (f.out < 1 || f.out > 1u << 20)
        refuse("out must be 1 to 2^20, not " + std::to_string(f.out));
    if (f.fan_in < 1 || f.fan_in > 1u << 24)
        refuse("fan_in must be 1 to 2^24, not " + std::to_string(f.fan_in));
    const uint64_t positions = uint64_t{f.out} * ((f.fan_in + 127) / 128) * 128;
    if (positions > uint64_t{1} << 32)
        refuse("out * P must be at most 2^32, not " + std::to_string(positions));
    check_freeze(f.bits, f.prune, f.lock);
    if (f.tile_rows < 1 || f.tile_rows > f.out) refuse("tile_rows must be 1 to out");
    if (f.mode == MaskMode::coded) check_densities(f.densities);
}

// Rows at a time for what needs no more than a small buffer.
uint32_t chunk_rows(const LayerCode& layer) {
    return std::max<uint32_t>(1, 512 / layer.row_blocks());
}

}  // namespace

void check_generator(Generator generator, uint32_t rounds) {
    const bool known = generator == Generator::philox4x32
                           ? rounds == 10 || rounds == 7
                           : rounds == 20 || rounds == 13 || rounds == 12;
    if (!known) refuse("the generator has no version of " + std::to_string(rounds) + " rounds");
}

void check_freeze(uint32_t bits, uint32_t prune, uint32_t lock) {
    if (bits > 16) refuse("bits must be at most 16, not " + std::to_string(bits));
    if (uint64_t{prune} + lock > uint64_t{1} << bits) refuse("prune + lock is over 2^bits");
    if (bits > 0 && prune % 2 == 0 && lock % 2 == 0)
        refuse("bits is not minimal: prune and lock are even");
}

Generator generator_of(const std::string& name) {
    if (name == "philox4x32") return Generator::philox4x32;
    if (name == "threefry4x32") return Generator::threefry4x32;
    refuse("unknown generator \"" + name + "\"");
}

FreezeLaw law_of(const std::string& name) {
    if (name == "bernoulli") return FreezeLaw::bernoulli;
    if (name == "mixed") return FreezeLaw::mixed;
    refuse("unknown freeze law \"" + name + "\"");
}

void clear_padding(uint64_t* rows, size_t count, uint32_t fan_in) {
    const size_t words = (size_t{fan_in} + 127) / 128 * 2, whole = fan_in / 64;
    for (size_t row = 0; row < count; ++row, rows += words) {
        if (whole == words) continue;
        rows[whole] &= (uint64_t{1} << fan_in % 64) - 1;
        if (whole + 1 < words) rows[whole + 1] = 0;
    }
}

LayerCode::LayerCode(const LayerFields& fields, const std::vector<uint32_t>& free,
                     const std::vector<uint32_t>& words, const uint8_t* payload,
                     size_t payload_bytes, WeightMemoryPtr memory)
    : fields_(fields), memory_(std::move(memory)), payload_(Counted<uint8_t>(memory_)) {
    check_fields(fields_);
    if (!has_mask()) {
        if (!free.empty() || !words.empty() || payload_bytes > 0)
            refuse("a const layer has no tiles");
        tiles_.push_back({0, fields_.out, 0, 0, 0, false, 0});
        return;
    }
    const uint32_t count = (fields_.out + fields_.tile_rows - 1) / fields_.tile_rows;
    if (free.size() != count || words.size() != count) {
        refuse("the index must have " + std::to_string(count) + " entries");
    }
    lanes_ = lanes_of(std::accumulate(free.begin(), free.end(), uint64_t{0}));
    size_t offset = 0;
    uint64_t ordinal = 0;
    for (uint32_t i = 0; i < count; ++i) {
        Tile tile{i * fields_.tile_rows,  0,     ordinal, free[i],
                  words[i] & 0x7FFFFFFFu, false, offset};
        tile.rows = std::min(fields_.tile_rows, fields_.out - tile.first_row);
        const bool flag = words[i] >> 31;
        tile.raw = flag || fields_.mode == MaskMode::raw;
        if (flag && fields_.mode == MaskMode::raw)
            refuse_tile(i, "the raw flag is for coded layers");
        if (tile.free > uint64_t{tile.rows} * fields_.fan_in)
            refuse_tile(i, "more free weights than weights");
        const uint64_t last = ordinal + tile.free;
        if (tile.raw ? tile.words != 2 * mask_words_of(ordinal, last)
            : tile.free == 0
                ? tile.words != 0
                : tile.words < 2 * lanes_ || tile.words > 2 * lanes_ + uint64_t{tile.free}) {
            refuse_tile(i, std::to_string(tile.words) + " words cannot hold " +
                               std::to_string(tile.free) + " bits");
        }
        ordinal = last;
        offset += (size_t{tile.words} + 1) / 2 * 4;
        tiles_.push_back(tile);
    }
    if (offset != payload_bytes) {
        refuse("the payload has " + std::to_string(payload_bytes) + " bytes, its tiles " +
               std::to_string(offset));
    }
    payload_.resize(payload_bytes + kPayloadPadding);
    std::copy_n(payload, payload_bytes, payload_.begin());
}

size_t LayerCode::mask_words(uint32_t tile) const {
    if (!has_mask()) return 0;
    const Tile& t = tiles_[tile];
    return mask_words_of(t.first_free, t.first_free + t.free) + kMaskPadding;
}

Plane LayerCode::scores() const {
    return {fields_.generator, fields_.rounds, fields_.seed, kScoreStream, fields_.id, 0, 0};
}

void LayerCode::decode_masks(uint32_t first, uint32_t count, uint32_t* const* out,
                             const Ops& ops) const {
    if (!has_mask()) return;
    TileJob jobs[kTilesTogether];
    uint32_t coded[kTilesTogether], jobs_made = 0;
    for (uint32_t i = 0; i < count; ++i) {
        const Tile& t = tiles_[first + i];
        const uint64_t last = t.first_free + t.free;
        std::fill_n(out[i] + mask_words_of(t.first_free, last), kMaskPadding, 0u);
        if (t.free == 0) continue;
        const uint8_t* payload = payload_.data() + t.offset;
        if (t.raw) {
            check_tile(first + i, decode_raw(payload, t.first_free, last, out[i]));
        } else {
            coded[jobs_made] = first + i;
            jobs[jobs_made++] = {payload, t.words, t.first_free, last, out[i], TileFault::none};
        }
    }
    decode(jobs, jobs_made, lanes_, scores(), fields_.densities, ops);
    for (uint32_t i = 0; i < jobs_made; ++i) check_tile(coded[i], jobs[i].fault);
}

void LayerCode::check_tile(uint32_t tile, TileFault fault) const {
    const Tile& t = tiles_[tile];
    if (fault != TileFault::none) refuse_tile(tile, text_of(fault));
    const uint8_t* end = payload_.data() + t.offset + 2 * size_t{t.words};
    if (t.words % 2 && (end[0] | end[1])) refuse_tile(tile, "the padding is not zero");
}

uint64_t LayerCode::freeze_rows(uint32_t first, uint32_t count, uint64_t* free, uint64_t* locked,
                                const Ops& ops) const {
    const FreezePattern pattern = {fields_.generator, fields_.rounds, fields_.seed,  fields_.law,
                                   fields_.id,        fields_.bits,   fields_.prune, fields_.lock};
    ops.freeze(pattern, first * row_blocks(), size_t{count} * row_blocks(), free, locked);
    clear_padding(free, count, fields_.fan_in);
    clear_padding(locked, count, fields_.fan_in);
    return has_mask() ? ops.count_bits(free, count * row_words()) : 0;
}

void LayerCode::check_free(uint32_t tile, uint64_t counted) const {
    if (has_mask() && counted != tiles_[tile].free) {
        refuse_tile(tile, "the index says " + std::to_string(tiles_[tile].free) +
                              " free weights, the freeze pattern gives " + std::to_string(counted));
    }
}

void LayerCode::finish_rows(uint32_t first, uint32_t count, const uint32_t* mask,
                            uint64_t start, uint64_t* free_to_kept, uint64_t* locked_to_sign,
                            const Ops& ops) const {
    const size_t total = row_words() * count;
    if (has_mask()) {
        ops.deposit(free_to_kept, total, mask, start);
    } else if (fields_.mode == MaskMode::none) {
        std::fill_n(free_to_kept, total, uint64_t{0});
    }
    for (size_t i = 0; i < total; ++i) free_to_kept[i] |= locked_to_sign[i];
    const Plane sign = {fields_.generator, fields_.rounds, fields_.seed, 0, fields_.id, 0, 0};
    ops.plane(sign, first * row_blocks(), size_t{count} * row_blocks(), locked_to_sign);
    for (size_t i = 0; i < total; ++i) locked_to_sign[i] &= free_to_kept[i];
}

template <class Use>
void LayerCode::each_mask(uint32_t begin, uint32_t end, const Ops& ops, Use use) const {
    for (uint32_t first = begin; first < end; first += kTilesTogether) {
        const uint32_t count = std::min<uint32_t>(kTilesTogether, end - first);
        std::vector<WeightVector<uint32_t>> parts;
        uint32_t* out[kTilesTogether];
        for (uint32_t i = 0; i < count; ++i) {
            parts.emplace_back(mask_words(first + i), 0, Counted<uint32_t>(memory_));
            out[i] = parts[i].data();
        }
        decode_masks(first, count, out, ops);
        for (uint32_t i = 0; i < count; ++i) use(first + i, out[i], parts[i].size() - kMaskPadding);
    }
}

void LayerCode::rows(uint32_t first, uint32_t count, uint64_t* kept, uint64_t* sign,
                     const Ops& ops) const {
    if (first > fields_.out || count > fields_.out - first) refuse("rows are outside the layer");
    if (count == 0) return;
    if (!has_mask()) {
        freeze_rows(first, count, kept, sign, ops);
        finish_rows(first, count, nullptr, 0, kept, sign, ops);
        return;
    }
    const size_t words = row_words();
    const Counted<uint8_t> counted(memory_);
    const uint32_t begin = first / fields_.tile_rows,
                   end = (first + count - 1) / fields_.tile_rows + 1;
    each_mask(begin, end, ops, [&](uint32_t i, const uint32_t* mask, size_t) {
        const Tile& t = tiles_[i];
        WeightVector<uint64_t> free(t.rows * words, 0, counted), locked(t.rows * words, 0, counted);
        check_free(i, freeze_rows(t.first_row, t.rows, free.data(), locked.data(), ops));
        const uint32_t from = std::max(first, t.first_row) - t.first_row;
        const uint32_t to = std::min(first + count, t.first_row + t.rows) - t.first_row;
        const uint64_t start = mask_start(i) + ops.count_bits(free.data(), from * words);
        uint64_t* kept_rows = free.data() + from * words;
        uint64_t* sign_rows = locked.data() + from * words;
        finish_rows(t.first_row + from, to - from, mask, start, kept_rows, sign_rows, ops);
        const size_t place = (t.first_row + from - first) * words,
                     size = (to - from) * words * sizeof(uint64_t);
        std::memcpy(kept + place, kept_rows, size);
        std::memcpy(sign + place, sign_rows, size);
    });
}

LayerCode::Counts LayerCode::counts(const Ops& ops, uint32_t tile_rows) const {
    if (tile_rows == 0) tile_rows = fields_.tile_rows;
    const uint32_t chunk = chunk_rows(*this);
    const Counted<uint8_t> counted(memory_);
    WeightVector<uint64_t> free(chunk * row_words(), 0, counted),
        locked(chunk * row_words(), 0, counted);
    Counts counts;
    counts.tiles.resize((fields_.out + tile_rows - 1) / tile_rows);
    for (uint32_t first = 0; first < fields_.out; first += chunk) {
        const uint32_t rows = std::min(chunk, fields_.out - first);
        freeze_rows(first, rows, free.data(), locked.data(), ops);
        counts.locked += ops.count_bits(locked.data(), rows * row_words());
        for (uint32_t i = 0; i < rows; ++i) {
            const uint64_t in_row = ops.count_bits(free.data() + i * row_words(), row_words());
            counts.free += in_row;
            counts.tiles[(first + i) / tile_rows] += in_row;
        }
    }
    counts.pruned = uint64_t{fields_.out} * fields_.fan_in - counts.free - counts.locked;
    return counts;
}

uint64_t LayerCode::free(const Ops& ops) const {
    return has_mask() ? tiles_.back().first_free + tiles_.back().free : counts(ops).free;
}

void LayerCode::mask(uint32_t* bits, const Ops& ops, Threads& threads) const {
    if (!has_mask()) {
        const uint64_t count = free(ops);
        std::fill_n(bits, (count + 31) / 32, fields_.mode == MaskMode::all ? ~0u : 0u);
        if (count % 32 && fields_.mode == MaskMode::all) bits[count / 32] = (1u << count % 32) - 1;
        return;
    }
    // The first and the last word of a tile may hold bits of other tiles too.
    for (const Tile& tile : tiles_) {
        const uint64_t last = tile.first_free + tile.free;
        if (tile.free > 0) bits[tile.first_free / 32] = bits[(last - 1) / 32] = 0;
    }
    const auto place = [&](uint32_t tile, const uint32_t* words, size_t count) {
        uint32_t* to = bits + tiles_[tile].first_free / 32;
        if (count > 0) std::atomic_ref(to[0]).fetch_or(words[0]);
        if (count > 1) {
            std::copy(words + 1, words + count - 1, to + 1);
            std::atomic_ref(to[count - 1]).fetch_or(words[count - 1]);
        }
    };
    threads.run([&](uint32_t part) {
        const auto [begin, end] = share(tiles(), 1, part, threads.count());
        each_mask(begin, end, ops, place);
    });
}

std::vector<uint32_t> LayerCode::tile_ones(const Ops& ops) const {
    if (!has_mask()) refuse("a const layer has no tiles");
    std::vector<uint32_t> ones(tiles_.size(), 0);
    each_mask(0, tiles(), ops, [&](uint32_t tile, const uint32_t* words, size_t count) {
        for (size_t i = 0; i < count; ++i) ones[tile] += std::popcount(words[i]);
    });
    return ones;
}

}  // namespace slt
