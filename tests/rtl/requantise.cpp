// In: percent of stalls, s, relu, logits, the number of values; of each acc, r, m, m_r and b, in two's
// complement. Out: the values, the cycles.
#include "Vrequantise.h"
#include "bench.h"

int main() {
    Bench<Vrequantise> bench;
    auto& top = bench.top;
    Stalls stalls;
    stalls.percent = number();
    top.s = number();
    top.relu = number();
    top.logits = number();
    uint64_t const count = number();
    top.in_valid = top.out_ready = 0;
    bench.reset();
    uint64_t sent = 0, had = 0;
    while (had < count) {
        if (!top.in_valid && sent < count && stalls.go()) {
            top.acc = number();
            top.r = number();
            top.m = number();
            top.m_r = number();
            top.b = number();
            top.in_valid = 1;
        }
        top.out_ready = stalls.go();
        bench.settle();
        if (top.out_valid && top.out_ready) {
            printf("%d\n", static_cast<int32_t>(top.y));
            ++had;
        }
        bool const taken = top.in_valid && top.in_ready;
        bench.edge();
        if (taken) {
            top.in_valid = 0;
            ++sent;
        }
    }
    printf("%llu\n", static_cast<unsigned long long>(bench.cycles));
}
