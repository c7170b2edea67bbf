// One layer's coded weights: the integers that fix its random part, and the coded mask. What the
// runtime streams from and what `_core.LayerCode` wraps. Weights appear only on request, a few rows
// at a time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "isa.h"
#include "memory.h"
#include "threads.h"

namespace slt {

// const with density 4096, const with 0, raw, static or prior
enum class MaskMode { all, none, raw, coded };

struct LayerFields {
    Generator generator = Generator::philox4x32;
    uint32_t rounds = 10;
    uint64_t seed = 0;
    FreezeLaw law = FreezeLaw::bernoulli;
    uint32_t id = 0;
    uint32_t out = 1;     // rows
    uint32_t fan_in = 1;  // K, columns
    uint32_t bits = 0;    // B
    uint32_t prune = 0, lock = 0;
    MaskMode mode = MaskMode::all;
    Densities densities{};  // where coded
    uint32_t tile_rows = 1;
};

// A row group of the file: `rows` rows from `first_row`, the free ordinals [first_free, first_free
// + free).
struct Tile {
    uint32_t first_row, rows;
    uint64_t first_free;
    uint32_t free;
    uint32_t words;  // 16-bit words of payload
    bool raw;
    size_t offset;  // of the payload, in bytes
};

class LayerCode {
  public:
    // Copies payload (the mask segment without its final padding). Throws std::invalid_argument
    // where sizes do not agree; after that no call can read outside, whatever the payload holds.
    // `free` and `words` are the index entries (words with bit 31 as in the file), both empty where
    // mode is all or none.
    LayerCode(const LayerFields& fields, const std::vector<uint32_t>& free,
              const std::vector<uint32_t>& words, const uint8_t* payload, size_t payload_bytes,
              WeightMemoryPtr memory);

    const LayerFields& fields() const { return fields_; }
    const WeightMemoryPtr& memory() const { return memory_; }
    bool has_mask() const {
        return fields_.mode == MaskMode::raw || fields_.mode == MaskMode::coded;
    }
    uint32_t row_blocks() const { return (fields_.fan_in + 127) / 128; }
    size_t row_words() const { return 2 * size_t{row_blocks()}; }  // 64-bit words of a row, P / 64

    // Tiles exist in every mode; without an index (mode all, none) there is one, of all rows, with
    // free = 0.
    uint32_t tiles() const { return static_cast<uint32_t>(tiles_.size()); }
    const Tile& tile(uint32_t index) const { return tiles_[index]; }

    // --- Streaming a tile, in four steps. Rows are given in any split, so that threads can share a
    // tile. ---

    // 1. (tiles in parallel) The mask bits of count <= kTilesTogether tiles from `first` on, faster
    //    together than one by one. Bit i of a tile (i-th free weight of it) is bit
    //    mask_start(tile) + i of its out, which has mask_words(tile) words. Throws
    //    std::invalid_argument("tile N: ...") if a tile is malformed. Nothing to do, and
    //    mask_words() is 0, where !has_mask().
    size_t mask_words(uint32_t tile) const;
    uint64_t mask_start(uint32_t tile) const { return tiles_[tile].first_free % 32; }
    void decode_masks(uint32_t first, uint32_t count, uint32_t* const* out, const Ops& ops) const;

    // 2. (rows in parallel) Free and locked bits, row_words() words a row, padding zero. Gives the
    //    number of free weights, or 0 where !has_mask(). Reads nothing but the seed.
    uint64_t freeze_rows(uint32_t first, uint32_t count, uint64_t* free, uint64_t* locked,
                         const Ops& ops) const;

    // 3. (serial) By the caller: start = mask_start(tile) + free weights in the tile's rows before
    //    row first. Then check_free(tile, their total over the whole tile), which throws
    //    std::invalid_argument if the index says otherwise: without it step 4 could read outside
    //    the mask. Or, for rows in their order, check_room(tile, their total so far) before each
    //    step 4, and check_free behind the last. Not needed where !has_mask().
    void check_free(uint32_t tile, uint64_t counted) const;
    void check_room(uint32_t tile, uint64_t counted) const {
        if (counted > tiles_[tile].free) check_free(tile, counted);
    }

    // 4. (rows in parallel) Turns free bits into kept bits and locked bits into signs (1 negative,
    //    zero where not kept), in place. mask is that of step 1, null where !has_mask().
    void finish_rows(uint32_t first, uint32_t count, const uint32_t* mask, uint64_t start,
                     uint64_t* free_to_kept, uint64_t* locked_to_sign, const Ops& ops) const;

    // All four steps for any rows. kept and sign hold count * row_words() words.
    void rows(uint32_t first, uint32_t count, uint64_t* kept, uint64_t* sign, const Ops& ops) const;

    // --- Verification ---
    struct Counts {
        uint64_t pruned = 0, locked = 0, free = 0;
        std::vector<uint64_t> tiles;  // free weights of each tile_rows rows
    };
    // Real weights of the pattern, without padding; tile_rows: the layer's own if 0.
    Counts counts(const Ops& ops, uint32_t tile_rows = 0) const;
    // Free weights: what the index says, else the pattern.
    uint64_t free(const Ops& ops) const;
    // All mask bits by free ordinal, in (free + 31) / 32 words; the threads share the tiles.
    void mask(uint32_t* bits, const Ops& ops, Threads& threads) const;
    // Set mask bits of each tile; holds a few tiles only.
    std::vector<uint32_t> tile_ones(const Ops& ops) const;

  private:
    Plane scores() const;
    // Decodes the tiles [begin, end), kTilesTogether at a time; use(tile's number, mask words, how
    // many without their padding) sees each.
    template <class Use>
    void each_mask(uint32_t begin, uint32_t end, const Ops& ops, Use use) const;
    // Throws where decoding found a fault, or what stands behind the payload is not zero.
    void check_tile(uint32_t tile, TileFault fault) const;

    LayerFields fields_;
    WeightMemoryPtr memory_;
    uint32_t lanes_ = 0;  // of coded tiles
    std::vector<Tile> tiles_;
    WeightVector<uint8_t> payload_;  // kPayloadPadding zero bytes follow the last tile
};

// Zeroes the bits of positions >= fan_in in `count` rows.
void clear_padding(uint64_t* rows, size_t count, uint32_t fan_in);

// Throws std::invalid_argument unless format.md allows these rounds.
void check_generator(Generator generator, uint32_t rounds);
// Throws std::invalid_argument unless 0 <= bits <= 16, prune + lock <= 2^bits and bits is minimal.
void check_freeze(uint32_t bits, uint32_t prune, uint32_t lock);
Generator generator_of(const std::string& name);
FreezeLaw law_of(const std::string& name);

}  // namespace slt
