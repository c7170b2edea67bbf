// The pool of threads: every part once, in order of calls, after failures and from the start to the
// end of its life.
#include <chrono>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>

#include "check.h"
#include "threads.h"

namespace test {

namespace {

const std::string name(uint32_t count) { return " of " + std::to_string(count) + " threads"; }

// What a call writes the next one reads, in other threads: no atomics but the pool's own.
void calls_follow_each_other(uint32_t count) {
    slt::Threads threads(count);
    check(threads.count() == count, "count" + name(count));
    std::vector<uint64_t> calls(count), sums(count);
    for (uint64_t call = 1; call <= 2000; ++call) {
        threads.run([&](uint32_t part) { ++calls[part]; });
        threads.run([&](uint32_t part) {
            sums[part] = std::accumulate(calls.begin(), calls.end(), uint64_t{0});
        });
        bool right = true;
        for (uint32_t part = 0; part < count; ++part)
            right = right && calls[part] == call && sums[part] == call * count;
        if (!right || call == 2000)
            check(right, "every part once, call " + std::to_string(call) + name(count));
        if (!right) return;
        // Some calls find the threads asleep.
        if (call % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
}

void failures(uint32_t count) {
    slt::Threads threads(count);
    for (uint32_t failing = 0; failing < count; ++failing) {
        std::vector<uint32_t> done(count);
        std::string caught;
        try {
            threads.run([&](uint32_t part) {
                ++done[part];
                if (part == failing) throw std::runtime_error("part " + std::to_string(part));
            });
        } catch (const std::runtime_error& error) {
            caught = error.what();
        }
        check(caught == "part " + std::to_string(failing),
              "an exception reaches the caller" + name(count));
        check(done == std::vector<uint32_t>(count, 1), "the other parts are done" + name(count));
        threads.run([&](uint32_t part) { done[part] = 7; });
        check(done == std::vector<uint32_t>(count, 7), "a call after a failure" + name(count));
    }
}

void lives(uint32_t count) {
    for (int i = 0; i < 50; ++i) {
        slt::Threads unused(count);
        slt::Threads used(count);
        std::vector<uint32_t> done(count);
        used.run([&](uint32_t part) { ++done[part]; });
        check(done == std::vector<uint32_t>(count, 1), "one call" + name(count));
    }
}

void work_is_handed_out(uint32_t count) {
    slt::Threads threads(count);
    for (uint32_t items : {0u, 1u, 2u, 1000u}) {
        std::vector<uint32_t> done(items);
        slt::Work work(items);
        threads.run([&](uint32_t) {
            for (uint32_t item; work.next(item);) ++done[item];
        });
        check(done == std::vector<uint32_t>(items, 1), "every item once" + name(count));
    }
}

}  // namespace

void threads() {
    for (uint32_t count : {1u, 2u, 3u, 8u}) {
        calls_follow_each_other(count);
        failures(count);
        lives(count);
        work_is_handed_out(count);
    }
}

}  // namespace test
