// In: percent of stalls, seed, rounds, layer, mixed, B, p, l, rows, K. Out: of each block in row-major order
// the 4 words of free, of locked and of negative, then the cycles.
#include "Vpattern_top.h"
#include "bench.h"

int main() {
    Bench<Vpattern_top> bench;
    auto& top = bench.top;
    Stalls stalls;
    stalls.percent = number();
    top.seed = number();
    top.rounds = number();
    top.layer = number();
    top.mixed = number();
    top.bits = number();
    top.prune = number();
    top.lock = number();
    uint64_t const rows = number(), k = number(), across = (k + 127) / 128;
    top.in_valid = top.out_ready = 0;
    bench.reset();
    uint64_t asked = 0, had = 0;
    while (had < rows * across) {
        if (!top.in_valid && asked < rows * across && stalls.go()) {
            uint64_t const left = k - 128 * (asked % across);
            top.block = asked;
            top.columns = left < 128 ? left : 128;
            top.in_valid = 1;
        }
        top.out_ready = stalls.go();
        bench.settle();
        if (top.out_valid && top.out_ready) {
            for (auto* plane : {&top.free, &top.locked, &top.negative}) {
                for (int i = 0; i < 4; ++i) printf("%u\n", static_cast<unsigned>((*plane)[i]));
            }
            ++had;
        }
        bool const taken = top.in_valid && top.in_ready;
        bench.edge();
        if (taken) {
            top.in_valid = 0;
            ++asked;
        }
    }
    printf("%llu\n", static_cast<unsigned long long>(bench.cycles));
}
