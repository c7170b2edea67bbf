// In: percent of stalls, seed, rounds, layer, wide, planes, with_sign, 16 starts, 16 densities, the number of
// tiles; of each raw, first, count, size and its words. Out: of each tile the number of bits, the bits, what
// it was refused for and its cycles.
#include <vector>

#include "Vmask_decoder_top.h"
#include "bench.h"

int main() {
    Bench<Vmask_decoder_top> bench;
    auto& top = bench.top;
    Stalls stalls;
    stalls.percent = number();
    top.seed = number();
    top.rounds = number();
    top.layer = number();
    top.wide = number();
    top.planes = number();
    top.with_sign = number();
    for (int i = 0; i < 16; ++i) field(top.starts, 9 * i, 9, number());
    for (int i = 0; i < 16; ++i) field(top.densities, 12 * i, 12, number());
    uint64_t const tiles = number();
    top.tile_valid = top.word_valid = top.bit_ready = 0;
    bench.reset();
    for (uint64_t tile = 0; tile < tiles; ++tile) {
        top.raw = number();
        top.first = number();
        top.count = number();
        top.size = number();
        std::vector<uint16_t> words(top.size);
        for (auto& word : words) word = number();
        std::vector<bool> bits;
        size_t next = 0;
        uint64_t const begin = bench.cycles;
        top.tile_valid = 1;
        bool done = false;
        while (!done) {
            if (!top.word_valid && next < words.size() && stalls.go()) {
                top.word = words[next];
                top.word_valid = 1;
            }
            top.bit_ready = stalls.go();
            bench.settle();
            done = top.done;
            if (top.bit_valid && top.bit_ready) {
                for (unsigned i = 0; i < top.bit_count; ++i) bits.push_back(top.mask_bits >> i & 1);
            }
            bool const begun = top.tile_valid && top.tile_ready, taken = top.word_valid && top.word_ready;
            unsigned const refused = top.refused;
            bench.edge();
            if (begun) top.tile_valid = 0;
            if (taken) {
                top.word_valid = 0;
                ++next;
            }
            if (done) {
                printf("%zu\n", bits.size());
                for (bool const bit : bits) printf("%d\n", bit);
                printf("%u\n%llu\n", refused, static_cast<unsigned long long>(bench.cycles - begin));
            }
        }
        if (next != words.size() || top.word_valid) {
            fprintf(stderr, "bench: words are left\n");
            return 2;
        }
    }
}
