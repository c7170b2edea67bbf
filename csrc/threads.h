// A small pool of threads that lives as long as its plan.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

namespace slt {

class Threads {
  public:
    explicit Threads(uint32_t count);  // count >= 1; the caller is one of them
    ~Threads();
    Threads(const Threads&) = delete;
    Threads& operator=(const Threads&) = delete;

    uint32_t count() const { return count_; }
    // Calls work(0) ... work(count() - 1), each once, and returns when all are done. Each thread has
    // its part, in every call the same, so that what a part leaves in a core's cache is there for
    // the next; the caller has part 0, and then takes the parts of threads that have not begun: they
    // may be asleep, or the machine has no time for them. Parts must not wait for each other. The
    // first exception is thrown here. One call at a time.
    void run(const std::function<void(uint32_t)>& work);

  private:
    struct State;
    void start();

    uint32_t count_;
    uint32_t forks_ = 0;            // when the threads were started: a forked child has none of them
    std::unique_ptr<State> state_;  // null where count is 1
};

// Hands out the numbers 0 ... count - 1, each once, to threads that ask: for (uint32_t i;
// work.next(i);). Shares stay even where threads are not equally fast.
class alignas(64) Work {
  public:
    explicit Work(uint32_t count) : count_(count) {}
    // Whether there is another one, which is `item` then.
    bool next(uint32_t& item) {
        item = next_.fetch_add(1, std::memory_order_relaxed);
        return item < count_;
    }

  private:
    const uint32_t count_;
    std::atomic<uint32_t> next_{0};
};

// The range of share `part` of `parts` of [0, size), cut at multiples of `unit`.
struct Range {
    uint32_t begin, end;
};
inline Range share(uint32_t size, uint32_t unit, uint32_t part, uint32_t parts) {
    const uint64_t units = (uint64_t{size} + unit - 1) / unit;
    const auto at = [&](uint64_t i) {
        const uint64_t cut = units * i / parts * unit;
        return static_cast<uint32_t>(cut < size ? cut : size);
    };
    return {at(part), at(part + uint64_t{1})};
}

}  // namespace slt
