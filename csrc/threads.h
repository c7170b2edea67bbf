// A small pool of threads that lives as long as its plan.
#pragma once

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
    // Runs work(0) ... work(count() - 1), one per thread, and returns when all are done. The first
    // exception is thrown here. One call at a time.
    void run(const std::function<void(uint32_t)>& work);

  private:
    struct State;
    void start();

    uint32_t count_;
    int process_ = 0;               // that started the threads: a forked child has none of them
    std::unique_ptr<State> state_;  // null where count is 1
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
