// In: percent of stalls, how often the layer is run, columns of the array, the layer as below, m and b of
// each row, the tiles: their number, of each raw, first, count, size and its words; the words of activations:
// their number and their bytes; if there is a residual, its numbers in the order of the values. Out: what was
// refused, the values, the cycles to the last of them.
#include <vector>

#include "Vlayer.h"
#include "bench.h"

struct Tile {
    uint64_t raw, first, count;
    std::vector<uint16_t> words;
};

int main() {
    Bench<Vlayer> bench;
    auto& top = bench.top;
    Stalls stalls;
    stalls.percent = number();
    uint64_t const times = number(), columns = number();
    top.seed = number();
    top.rounds = number();
    top.mixed = number();
    top.bits = number();
    top.prune = number();
    top.lock = number();
    uint64_t const out = top.out = number();
    top.k = number();
    top.whole = number();
    top.channels = number();
    top.kernel_rows = number();
    top.kernel_columns = number();
    top.stride = number();
    top.padding = number();
    top.height = number();
    top.width = number();
    top.out_rows = number();
    top.out_columns = number();
    uint64_t const pixels = top.pixels = number();
    top.origin = number();
    top.pitch = number();
    top.row_pitch = number();
    top.pixel_step = number();
    top.row_step = number();
    top.constant = number();
    top.value = number();
    top.shift = number();
    top.m_r = number();
    top.residual = number();
    top.relu = number();
    top.logits = number();
    top.layer_id = number();
    top.wide = number();
    top.planes = number();
    top.with_sign = number();
    for (int i = 0; i < 16; ++i) field(top.starts, 9 * i, 9, number());
    for (int i = 0; i < 16; ++i) field(top.densities, 12 * i, 12, number());
    std::vector<uint64_t> m(out), b(out);
    for (auto& x : m) x = number();
    for (auto& x : b) x = number();
    std::vector<Tile> tiles(number());
    for (auto& tile : tiles) {
        tile.raw = number();
        tile.first = number();
        tile.count = number();
        tile.words.resize(number());
        for (auto& word : tile.words) word = number();
    }
    std::vector<uint8_t> memory(number() * columns);
    for (auto& x : memory) x = number();
    std::vector<uint8_t> residual(top.residual ? out * pixels : 0);
    for (auto& x : residual) x = number();

    top.tile_valid = top.word_valid = top.read_ready = top.r_valid = top.y_ready = top.start = 0;
    bench.reset();
    std::vector<int32_t> values;
    uint64_t cycles = 0;
    auto const run = [&] {
        top.start = 1;
        uint64_t const begin = bench.cycles;
        cycles = 0;
        bench.settle();
        bench.edge();
        top.start = 0;

        // Next tile; next word, and the tile that it is of; next residual; values that are out.
        size_t tile = 0, word = 0, word_tile = 0, next_r = 0;
        values.clear();
        bool ended = false;
        while (!ended && !top.refused) {
            if (!top.tile_valid && tile < tiles.size() && stalls.go()) {
                top.raw = tiles[tile].raw;
                top.first = tiles[tile].first;
                top.count = tiles[tile].count;
                top.size = tiles[tile].words.size();
                top.tile_valid = 1;
            }
            while (word_tile < tiles.size() && word == tiles[word_tile].words.size()) {
                ++word_tile;
                word = 0;
            }
            if (!top.word_valid && word_tile < tiles.size() && stalls.go()) {
                top.word = tiles[word_tile].words[word];
                top.word_valid = 1;
            }
            if (!top.r_valid && next_r < residual.size() && stalls.go()) {
                top.r = residual[next_r];
                top.r_valid = 1;
            }
            top.read_ready = stalls.go();
            top.y_ready = stalls.go();
            bench.settle();
            top.m = m[top.affine_row < out ? top.affine_row : 0];
            top.b = b[top.affine_row < out ? top.affine_row : 0];
            bench.settle();
            if (top.y_valid && top.y_ready) values.push_back(static_cast<int32_t>(top.y));
            bool const tile_taken = top.tile_valid && top.tile_ready;
            bool const word_taken = top.word_valid && top.word_ready;
            bool const r_taken = top.r_valid && top.r_ready, read = top.read_valid && top.read_ready;
            uint64_t const address = top.read_address;
            bench.edge();
            if (read) {
                if ((address + 1) * columns > memory.size()) {
                    fprintf(stderr, "bench: a read outside of the image\n");
                    exit(2);
                }
                uint8_t const* const bytes = &memory[address * columns];
                for (uint64_t i = 0; i < columns; ++i) field(top.read_word, 8 * i, 8, bytes[i]);
            }
            if (tile_taken) {
                top.tile_valid = 0;
                ++tile;
            }
            if (word_taken) {
                top.word_valid = 0;
                ++word;
            }
            if (r_taken) {
                top.r_valid = 0;
                ++next_r;
            }
            if (!cycles && values.size() == out * pixels) cycles = bench.cycles - begin;
            ended = cycles && tile == tiles.size() && top.tile_ready;
        }
    };
    run();
    for (uint64_t i = 1; i < times && !top.refused; ++i) {
        auto const of_first = values;
        run();
        if (values != of_first) {
            fprintf(stderr, "bench: run again, the layer gives other values\n");
            return 2;
        }
    }
    printf("%u\n", static_cast<unsigned>(top.refused));
    for (int32_t const value : values) printf("%d\n", value);
    printf("%llu\n", static_cast<unsigned long long>(cycles));
}
