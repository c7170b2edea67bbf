#include "threads.h"

#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace slt {

namespace {

// A layer calls run() several times, and a plan goes from layer to layer within microseconds: so
// long a thread that waits keeps its core. Then it lets others have it, who may be those it waits
// for, and then it sleeps: to be woken takes about as long.
constexpr std::chrono::microseconds kBusy{20}, kAwake{100};

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb" ::: "memory");
#endif
}

// Where threads wait for something that another thread makes true.
class Gate {
  public:
    // `open` reads atomics, all in the one order of memory_order_seq_cst.
    template <class Open>
    void wait(Open open) {
        const auto begin = std::chrono::steady_clock::now();
        for (;;) {
            for (int i = 0; i < 32; ++i) {
                if (open()) return;
                pause();
            }
            const auto waited = std::chrono::steady_clock::now() - begin;
            if (waited > kAwake) break;
            if (waited > kBusy) std::this_thread::yield();
        }
        std::unique_lock lock(mutex_);
        ++sleepers_;
        wake_.wait(lock, open);
        --sleepers_;
    }
    // After a thread has made it true. It sees a sleeper here, or the sleeper sees what it did.
    void notify() {
        if (!sleepers_) return;
        { const std::lock_guard lock(mutex_); }
        wake_.notify_all();
    }

  private:
    std::atomic<uint32_t> sleepers_{0};
    std::mutex mutex_;
    std::condition_variable wake_;
};

std::atomic<uint32_t> forks{0};  // between this process and the one that the program began as
[[maybe_unused]] const int forks_counted = pthread_atfork(nullptr, nullptr, [] { ++forks; });

}  // namespace

struct Threads::State {
    explicit State(uint32_t parts) : running(0), claims(parts) {}

    // Written before round, for those who claim a part of it.
    const std::function<void(uint32_t)>* work = nullptr;
    std::exception_ptr failure;
    std::mutex failing;
    std::vector<std::thread> threads;
    Gate start, done;
    alignas(64) std::atomic<uint64_t> round{0};
    std::atomic<bool> stop{false};
    alignas(64) std::atomic<uint32_t> running;  // parts not done
    // The last round of which somebody claimed the part. No round ends before all are claimed, so
    // who comes late finds a newer claim.
    struct alignas(64) Claim {
        std::atomic<uint64_t> round{0};
    };
    std::vector<Claim> claims;

    void attempt(uint32_t part, uint64_t now) {
        uint64_t last = claims[part].round;
        if (last >= now || !claims[part].round.compare_exchange_strong(last, now)) return;
        try {
            (*work)(part);
        } catch (...) {
            const std::lock_guard lock(failing);
            if (!failure) failure = std::current_exception();
        }
        if (--running == 0) done.notify();
    }

    void serve(uint32_t part) {
        for (uint64_t seen = 0;;) {
            start.wait([&] { return stop || round != seen; });
            if (stop) return;
            seen = round;
            attempt(part, seen);
        }
    }

    void run(const std::function<void(uint32_t)>& call) {
        const auto parts = static_cast<uint32_t>(claims.size());
        work = &call;
        failure = nullptr;
        running = parts;
        const uint64_t now = ++round;
        start.notify();
        for (uint32_t part = 0; part < parts; ++part) attempt(part, now);
        done.wait([&] { return running == 0; });
        if (failure) std::rethrow_exception(failure);
    }

    void end() {
        stop = true;
        start.notify();
        for (std::thread& thread : threads) thread.join();
    }
};

Threads::Threads(uint32_t count) : count_(count ? count : 1) { start(); }

void Threads::start() {
    if (count_ == 1) return;
    forks_ = forks;
    state_ = std::make_unique<State>(count_);
    try {
        for (uint32_t part = 1; part < count_; ++part)
            state_->threads.emplace_back([state = state_.get(), part] { state->serve(part); });
    } catch (...) {  // the system refuses another thread
        state_->end();
        state_.reset();
        throw;
    }
}

Threads::~Threads() {
    if (!state_) return;
    if (forks_ == forks) {
        state_->end();
    } else {
        static_cast<void>(state_.release());  // threads that are not here cannot be joined
    }
}

void Threads::run(const std::function<void(uint32_t)>& work) {
    if (count_ == 1) return work(0);
    if (!state_ || forks_ != forks) {
        static_cast<void>(state_.release());
        start();
    }
    state_->run(work);
}

}  // namespace slt
