// In: percent of stalls, rounds, the key's 4 words, the number of counters, their words. Out: 4 words a
// counter, then the cycles.
#include "Vthreefry.h"
#include "bench.h"

int main() {
    Bench<Vthreefry> bench;
    auto& top = bench.top;
    Stalls stalls;
    stalls.percent = number();
    top.rounds = number();
    for (int i = 0; i < 4; ++i) top.key[i] = number();
    uint64_t const count = number();
    uint64_t sent = 0, received = 0;
    bool offered = false;
    top.in_valid = top.out_ready = 0;
    bench.reset();
    while (received < count) {
        if (!offered && sent < count && stalls.go()) {
            for (int i = 0; i < 4; ++i) top.counter[i] = number();
            offered = true;
        }
        top.in_valid = offered;
        top.out_ready = stalls.go();
        bench.settle();
        if (top.out_valid && top.out_ready) {
            for (int i = 0; i < 4; ++i) printf("%u\n", static_cast<unsigned>(top.out[i]));
            ++received;
        }
        if (top.in_valid && top.in_ready) {
            offered = false;
            ++sent;
        }
        bench.edge();
    }
    printf("%llu\n", static_cast<unsigned long long>(bench.cycles));
}
