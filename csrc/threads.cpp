#include "threads.h"

#include <unistd.h>

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace slt {

struct Threads::State {
    std::mutex mutex;
    std::condition_variable start, done;
    const std::function<void(uint32_t)>* work = nullptr;
    uint64_t round = 0;
    uint32_t running = 0;
    bool stop = false;
    std::exception_ptr failure;
    std::vector<std::thread> threads;

    void attempt(const std::function<void(uint32_t)>& call, uint32_t part) {
        try {
            call(part);
        } catch (...) {
            const std::lock_guard lock(mutex);
            if (!failure) failure = std::current_exception();
        }
    }

    void serve(uint32_t part) {
        uint64_t seen = 0;
        std::unique_lock lock(mutex);
        for (;;) {
            start.wait(lock, [&] { return stop || round != seen; });
            if (stop) return;
            seen = round;
            const auto* call = work;
            lock.unlock();
            attempt(*call, part);
            lock.lock();
            if (--running == 0) done.notify_one();
        }
    }

    void end() {
        {
            const std::lock_guard lock(mutex);
            stop = true;
        }
        start.notify_all();
        for (std::thread& thread : threads) thread.join();
    }
};

Threads::Threads(uint32_t count) : count_(count ? count : 1) { start(); }

void Threads::start() {
    if (count_ == 1) return;
    process_ = getpid();
    state_ = std::make_unique<State>();
    try {
        for (uint32_t part = 1; part < count_; ++part) {
            state_->threads.emplace_back([state = state_.get(), part] { state->serve(part); });
        }
    } catch (...) {  // the system refuses another thread
        state_->end();
        state_.reset();
        throw;
    }
}

Threads::~Threads() {
    if (!state_) return;
    if (process_ == getpid()) {
        state_->end();
    } else {
        static_cast<void>(state_.release());  // threads that are not here cannot be joined
    }
}

void Threads::run(const std::function<void(uint32_t)>& work) {
    if (count_ == 1) return work(0);
    if (!state_ || process_ != getpid()) {
        static_cast<void>(state_.release());
        start();
    }
    {
        const std::lock_guard lock(state_->mutex);
        state_->work = &work;
        state_->running = count_ - 1;
        state_->failure = nullptr;
        ++state_->round;
    }
    state_->start.notify_all();
    state_->attempt(work, 0);
    std::unique_lock lock(state_->mutex);
    state_->done.wait(lock, [&] { return state_->running == 0; });
    if (state_->failure) std::rethrow_exception(state_->failure);
}

}  // namespace slt
