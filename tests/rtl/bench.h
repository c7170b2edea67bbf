// What the test benches share: a clock, numbers read from standard input, 128-bit ports, and sides of a
// handshake that stall at random.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <type_traits>

#include "verilated.h"

inline uint64_t number() {
    unsigned long long value;
    if (scanf("%llu", &value) != 1) {
        fprintf(stderr, "bench: the input ends too early\n");
        exit(2);
    }
    return value;
}

// Sets some bits of a port: up to 64 bits it is an integer, else an array of words.
template <class Port>
void field(Port& port, unsigned at, unsigned bits, uint64_t value) {
    for (unsigned i = 0; i < bits; ++i, ++at) {
        if constexpr (std::is_integral_v<Port>) {
            port = (port & ~(Port{1} << at)) | static_cast<Port>(value >> i & 1) << at;
        } else {
            auto const bit = static_cast<uint32_t>(value >> i & 1) << at % 32;
            port[at / 32] = (port[at / 32] & ~(1u << at % 32)) | bit;
        }
    }
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
