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

// In every round each number once, whichever thread is ahead; and alone a thread gets its own share
// first, in order, then the others' from the end.
void shares_are_handed_out(uint32_t count) {
    constexpr uint32_t kRounds = 20;
    slt::Threads threads(count);
    for (uint32_t size : {0u, 1u, 5u, 200u, 100000u}) {
        slt::Shares shares(size, count);
        std::vector<std::vector<uint32_t>> done(count, std::vector<uint32_t>(size));
        threads.run([&](uint32_t part) {
            for (uint64_t round = 1; round <= kRounds; ++round) {
                for (slt::Range some; shares.next(part, round, some);) {
                    for (uint32_t i = some.begin; i < some.end; ++i) ++done[part][i];
                }
            }
        });
        for (uint32_t part = 1; part < count; ++part) {
            for (uint32_t i = 0; i < size; ++i) done[0][i] += done[part][i];
        }
        check(done[0] == std::vector<uint32_t>(size, kRounds),
              "every number once a round" + name(count));
    }
    slt::Shares shares(10 * count, count);
    std::vector<uint32_t> order, right(10);
    for (slt::Range some; shares.next(count - 1, 1, some);) {
        for (uint32_t i = some.begin; i < some.end; ++i) order.push_back(i);
    }
    std::iota(right.begin(), right.end(), 10 * (count - 1));
    for (uint32_t owner = 0; owner + 1 < count; ++owner) {
        for (uint32_t i = 10; i--;) right.push_back(10 * owner + i);
    }
    check(order == right, "the own share first" + name(count));
    slt::Range none;
    check(!shares.next(0, 1, none), "nothing is left for who comes late" + name(count));
}

}  // namespace

void threads() {
    for (uint32_t count : {1u, 2u, 3u, 8u}) {
        calls_follow_each_other(count);
        failures(count);
        lives(count);
        work_is_handed_out(count);
        shares_are_handed_out(count);
    }
}

}  // namespace test
