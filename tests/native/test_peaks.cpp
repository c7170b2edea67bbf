// The loops that measure the machine's bounds: every ISA runs each of them and counts alike.
#include <algorithm>

#include "check.h"
#include "peaks.h"

namespace test {

void peaks() {
    using slt::PeakLoop;
    alignas(64) static uint8_t buffer[slt::kPeakL1Bytes];
    for (const slt::Ops* ops : slt::available_ops()) {
        const uint64_t lanes = std::string(ops->name) == "scalar" ? 4 : ops->float_lanes;
        const auto done = [&](PeakLoop loop, uint64_t rounds) {
            return ops->peak_loop(loop, rounds, buffer, sizeof buffer);
        };
        const std::string name = ops->name;
        check(done(PeakLoop::add_f32, 5) == 5 * 12 * lanes, name + ": f32 additions");
        check(done(PeakLoop::add_i16, 5) == 5 * 24 * lanes, name + ": int16 additions");
        check(done(PeakLoop::add_load_f32, 5) == 5 * sizeof buffer / 4, name + ": f32 loads added");
        check(done(PeakLoop::add_load_i16, 5) == 5 * sizeof buffer / 2,
              name + ": int16 loads added");
        check(done(PeakLoop::load, 5) == 5 * sizeof buffer, name + ": bytes loaded");
        check(done(PeakLoop::dot, 5) == 5 * done(PeakLoop::dot, 1) && done(PeakLoop::dot, 1) >= 96,
              name + ": multiply-accumulates");
        const slt::Peaks found = slt::measure_peaks(*ops, 0);
        check(std::min({found.add_f32, found.add_i16, found.add_load_f32, found.add_load_i16,
                        found.dot, found.l1, found.l2, found.memory}) > 0,
              name + ": rates");
    }
}

}  // namespace test
