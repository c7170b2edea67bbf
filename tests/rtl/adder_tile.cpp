// In: percent of stalls, rows, columns, the number of sums of all rows; of each the number of steps, of each
// step the activations, and row by row what is kept, then what is negative. Out: the sums, the cycles.
#include "Vadder_tile.h"
#include "bench.h"

int main() {
    Bench<Vadder_tile> bench;
    auto& top = bench.top;
    Stalls stalls;
    stalls.percent = number();
    uint64_t const rows = number(), columns = number(), count = number();
    top.in_valid = top.out_ready = 0;
    bench.reset();
    uint64_t begun = 0, had = 0, left = 0;
    while (had < count) {
        if (!top.in_valid && (left || begun < count) && stalls.go()) {
            if (!left) {
                left = number();
                ++begun;
            }
            for (uint64_t i = 0; i < columns; ++i) field(top.activations, 8 * i, 8, number());
            for (uint64_t i = 0; i < rows * columns; ++i) field(top.kept, i, 1, number());
            for (uint64_t i = 0; i < rows * columns; ++i) field(top.negative, i, 1, number());
            top.last = --left == 0;
            top.in_valid = 1;
        }
        top.out_ready = stalls.go();
        bench.settle();
        if (top.out_valid && top.out_ready) {
            for (uint64_t i = 0; i < rows; ++i) printf("%d\n", static_cast<int32_t>(top.sums[i]));
            ++had;
        }
        bool const taken = top.in_valid && top.in_ready;
        bench.edge();
        if (taken) top.in_valid = 0;
    }
    printf("%llu\n", static_cast<unsigned long long>(bench.cycles));
}
