#include "peaks.h"

#include <time.h>

#include <algorithm>
#include <vector>

namespace slt {
namespace {

double thread_seconds() {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// A twentieth of `seconds` a sample, so that an interruption costs a sample and not the result.
double best_rate(const Ops& ops, PeakLoop loop, const uint8_t* buffer, size_t bytes,
                 double seconds) {
    const auto once = [&](uint64_t rounds, double& rate) {
        const double start = thread_seconds();
        const uint64_t done = ops.peak_loop(loop, rounds, buffer, bytes);
        const double taken = std::max(thread_seconds() - start, 1e-9);
        rate = std::max(rate, static_cast<double>(done) / taken);
        return taken;
    };
    double rate = 0;
    uint64_t rounds = 1;
    while (once(rounds, rate) < seconds / 20 && rounds < uint64_t{1} << 40) rounds *= 2;
    double total = 0;
    rate = 0;
    for (int sample = 0; sample < 3 || total < seconds; ++sample) total += once(rounds, rate);
    return rate;
}

}  // namespace

Peaks measure_peaks(const Ops& ops, double seconds) {
    std::vector<uint8_t> memory(kPeakMemoryBytes + 64);
    uint8_t* data = memory.data();
    data += (64 - reinterpret_cast<uintptr_t>(data) % 64) % 64;
    const auto rate = [&](PeakLoop loop, size_t bytes) {
        return best_rate(ops, loop, data, bytes, seconds);
    };
    Peaks peaks{};
    peaks.add_f32 = rate(PeakLoop::add_f32, kPeakL1Bytes);
    peaks.add_i16 = rate(PeakLoop::add_i16, kPeakL1Bytes);
    peaks.add_load_f32 = rate(PeakLoop::add_load_f32, kPeakL1Bytes);
    peaks.add_load_i16 = rate(PeakLoop::add_load_i16, kPeakL1Bytes);
    peaks.dot = rate(PeakLoop::dot, kPeakL1Bytes);
    peaks.l1 = rate(PeakLoop::load, kPeakL1Bytes);
    peaks.l2 = rate(PeakLoop::load, kPeakL2Bytes);
    peaks.memory = rate(PeakLoop::load, kPeakMemoryBytes);
    return peaks;
}

}  // namespace slt
