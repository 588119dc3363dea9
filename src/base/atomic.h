// The only door to atomics: std::atomic, with a schedule point before each access when a schedule explorer drives the
// code.
#pragma once

#include <atomic>

namespace larder {

#if defined(LARDER_SCHEDULE_EXPLORER)
void schedule_point() noexcept;  // supplied by the explorer of the test tree
#else
inline void schedule_point() noexcept {}
#endif

inline constexpr auto relaxed = std::memory_order_relaxed;
inline constexpr auto acquire = std::memory_order_acquire;
inline constexpr auto release = std::memory_order_release;
inline constexpr auto acq_rel = std::memory_order_acq_rel;
inline constexpr auto seq_cst = std::memory_order_seq_cst;

// The order is always written out: a reader should see what is relied upon.
template <class T> class atomic {
  public:
    constexpr atomic() noexcept = default;
    constexpr atomic(T v) noexcept : v_(v) {}
    atomic(const atomic&) = delete;
    atomic& operator=(const atomic&) = delete;

    T load(std::memory_order o) const noexcept { return schedule_point(), v_.load(o); }
    void store(T v, std::memory_order o) noexcept { schedule_point(), v_.store(v, o); }
    T exchange(T v, std::memory_order o) noexcept { return schedule_point(), v_.exchange(v, o); }
    T fetch_add(T v, std::memory_order o) noexcept { return schedule_point(), v_.fetch_add(v, o); }
    T fetch_sub(T v, std::memory_order o) noexcept { return schedule_point(), v_.fetch_sub(v, o); }
    T fetch_or(T v, std::memory_order o) noexcept { return schedule_point(), v_.fetch_or(v, o); }
    T fetch_and(T v, std::memory_order o) noexcept { return schedule_point(), v_.fetch_and(v, o); }
    bool compare_exchange_weak(T& e, T d, std::memory_order s, std::memory_order f) noexcept {
        return schedule_point(), v_.compare_exchange_weak(e, d, s, f);
    }
    bool compare_exchange_strong(T& e, T d, std::memory_order s, std::memory_order f) noexcept {
        return schedule_point(), v_.compare_exchange_strong(e, d, s, f);
    }

  private:
    std::atomic<T> v_{};
};

// Plain memory that is read while others may write it (nodes of optimistic structures): every such access goes through
// these.
template <class T> inline T load_at(const T* p, std::memory_order o = relaxed) noexcept {
    return std::atomic_ref<T>(*const_cast<T*>(p)).load(o);
}
template <class T> inline void store_at(T* p, T v, std::memory_order o = relaxed) noexcept {
    std::atomic_ref<T>(*p).store(v, o);
}

template <class T>
inline bool exchange_at(T* p, T& expected, T v, std::memory_order success, std::memory_order failure) noexcept {
    return std::atomic_ref<T>(*p).compare_exchange_strong(expected, v, success, failure);
}

inline void prefetch(const void* p) noexcept {
    __builtin_prefetch(p);
}

#if defined(__SANITIZE_THREAD__)
// ThreadSanitizer knows no fences; an operation on one shared atomic stands in, which orders at least as much.
inline std::atomic<unsigned> fence_word{0};
inline void fence(std::memory_order) noexcept {
    fence_word.fetch_add(0, std::memory_order_acq_rel);
}
#else
inline void fence(std::memory_order o) noexcept {
    std::atomic_thread_fence(o);
}
#endif

inline void cpu_relax() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
    schedule_point();
}

}  // namespace larder
