// A small pool of threads that lives as long as its plan.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

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
    bool has(uint32_t i) const { return begin <= i && i < end; }
};
inline Range share(uint32_t size, uint32_t unit, uint32_t part, uint32_t parts) {
    const uint64_t units = (uint64_t{size} + unit - 1) / unit;
    const auto at = [&](uint64_t i) {
        const uint64_t cut = units * i / parts * unit;
        return static_cast<uint32_t>(cut < size ? cut : size);
    };
    return {at(part), at(part + uint64_t{1})};
}

// Hands out the numbers 0 ... size - 1 to `parts` threads, in round after round anew: to each thread
// its share of them, in order, and then what the others have not begun of theirs, from the end. So
// a thread has mostly the same numbers in all rounds, and none waits long for a slower one.
class Shares {
  public:
    Shares(uint32_t size, uint32_t parts) : size_(size), left_(parts) {}
    Range of(uint32_t part) const { return share(size_, 1, part, parts()); }
    // Whether there are more in this round, which are `items` then. Rounds begin at 1; a thread goes
    // on to the next one when there are none.
    bool next(uint32_t part, uint64_t round, Range& items) {
        for (uint32_t i = 0; i < parts(); ++i) {
            if (take((part + i) % parts(), round, i == 0, items)) return true;
        }
        return false;
    }

  private:
    static constexpr uint32_t kPieces = 64;  // of a share at most
    // round << 16 | begin << 8 | end of the pieces that are left of a share in that round.
    struct alignas(64) Left {
        std::atomic<uint64_t> value{0};
    };

    uint32_t parts() const { return static_cast<uint32_t>(left_.size()); }
    bool take(uint32_t owner, uint64_t round, bool first, Range& items) {
        const Range all = of(owner);
        const uint32_t size = all.end - all.begin, pieces = std::min(size, kPieces);
        uint64_t now = left_[owner].value, next;
        uint32_t piece;
        do {
            if (now >> 16 > round) return false;  // who went on left none
            const bool begun = now >> 16 == round;
            uint64_t begin = begun ? now >> 8 & 255 : 0, end = begun ? now & 255 : pieces;
            if (begin == end) return false;
            piece = static_cast<uint32_t>(first ? begin++ : --end);
            next = round << 16 | begin << 8 | end;
        } while (!left_[owner].value.compare_exchange_weak(now, next));
        const Range part = share(size, 1, piece, pieces);
        items = {all.begin + part.begin, all.begin + part.end};
        return true;
    }

    uint32_t size_;
    std::vector<Left> left_;  // of each share
};

}  // namespace slt
