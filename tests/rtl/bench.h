// What the test benches share: a clock, numbers read from standard input, 128-bit ports, and sides of a handshake that
// stall at random.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "verilated.h"

inline uint64_t number() {
    unsigned long long value;
    if (scanf("%llu", &value) != 1) {
        fprintf(stderr, "bench: the input ends too early\n");
        exit(2);
    }
    return value;
}

// True this time? `percent` of the times it is not.
struct Stalls {
    std::mt19937 random{1};
    unsigned percent = 0;
    bool go() { return random() % 100 >= percent; }
};

template <class Top>
struct Bench {
    VerilatedContext context;
    Top top{&context};
    uint64_t cycles = 0;

    void settle() { top.eval(); }
    void edge() {
        top.clk = 1;
        top.eval();
        top.clk = 0;
        top.eval();
        if (++cycles > 20000000) {
            fprintf(stderr, "bench: no end in sight\n");
            exit(2);
        }
    }
    void reset() {
        top.clk = 0;
        top.rst = 1;
        top.eval();
        edge();
        edge();
        top.rst = 0;
        top.eval();
        cycles = 0;
    }
};
