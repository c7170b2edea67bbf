// Memory that holds anything derived from weights (coded payloads, bit planes, offset lists) is
// counted, so that a plan can report its peak as `peak_weight_bytes`.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace slt {

class WeightMemory {
  public:
    std::size_t current() const { return current_.load(std::memory_order_relaxed); }
    std::size_t peak() const { return peak_.load(std::memory_order_relaxed); }
    // The peak restarts from what is held now.
    void reset_peak() { peak_.store(current(), std::memory_order_relaxed); }

    void add(std::size_t bytes) {
        const std::size_t now = current_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
        std::size_t peak = peak_.load(std::memory_order_relaxed);
        while (now > peak && !peak_.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
        }
    }
    void remove(std::size_t bytes) { current_.fetch_sub(bytes, std::memory_order_relaxed); }

  private:
    std::atomic<std::size_t> current_{0}, peak_{0};
};

using WeightMemoryPtr = std::shared_ptr<WeightMemory>;

// Allocator: 64-byte aligned, counted by the WeightMemory it was made with (which it keeps alive).
template <class T>
class Counted {
  public:
    using value_type = T;
    using propagate_on_container_copy_assignment = std::true_type;
    using propagate_on_container_move_assignment = std::true_type;
    using propagate_on_container_swap = std::true_type;

    explicit Counted(WeightMemoryPtr memory) : memory_(std::move(memory)) {}
    template <class U>
    Counted(const Counted<U>& other) : memory_(other.memory()) {}

    T* allocate(std::size_t n) {
        if (n > static_cast<std::size_t>(-1) / 2 / sizeof(T)) throw std::bad_array_new_length();
        void* p = ::operator new(n * sizeof(T), std::align_val_t{64});
        memory_->add(n * sizeof(T));
        return static_cast<T*>(p);
    }
    void deallocate(T* p, std::size_t n) {
        memory_->remove(n * sizeof(T));
        ::operator delete(p, std::align_val_t{64});
    }
    const WeightMemoryPtr& memory() const { return memory_; }

    template <class U>
    bool operator==(const Counted<U>& other) const {
        return memory_ == other.memory();
    }

  private:
    WeightMemoryPtr memory_;
};

// Make one with WeightVector<T> v(Counted<T>(memory)) or WeightVector<T> v(n, T{},
// Counted<T>(memory)).
template <class T>
using WeightVector = std::vector<T, Counted<T>>;

}  // namespace slt
