// One short stack of small integers per CPU, so that threads on different CPUs share no cache line.
//
// Where the system restarts a sequence of instructions that was interrupted (Linux rseq, registered by glibc), a push
// or pop is such a sequence: no atomic instruction, committed by one store, begun again after a preemption or
// migration. Who wants to look into the stacks of other CPUs closes them first and lets the system abort what is under
// way there. Elsewhere each stack has a one-word lock that is hardly ever contended.
#pragma once

#include <cstdint>
#include <span>

#include "base/alloc.h"
#include "base/atomic.h"
#include "os/os.h"

namespace larder {

// How many stacks there should be. From a number alone, stacks have locks.
struct Cpus {
    Cpus(uint32_t n_cpus) noexcept : n(n_cpus) {}
    explicit Cpus(Os& o) noexcept : n(o.topology().n_cpus), os(&o) {}
    uint32_t n;
    Os* os = nullptr;
};

class CpuStacks {
  public:
#if defined(LARDER_SCHEDULE_EXPLORER)
    static constexpr uint32_t capacity = 4;  // so that a few steps reach what lies behind
#else
    static constexpr uint32_t capacity = 128;
#endif

    CpuStacks(const Allocator& a, const Cpus& cpus);

    // All of `out` from this CPU's stack, the newest first, or nothing and false.
    bool pop(std::span<uint32_t> out) noexcept {
        return restartable_ ? pop_here(out) : pop_locked(out);
    }
    // The last one becomes the top. False when there is no room for all.
    bool push(std::span<const uint32_t> items) noexcept {
        return restartable_ ? push_here(items) : push_locked(items);
    }
    // The same for one, which then stays in a register. none: there is nothing here.
    static constexpr uint32_t none = UINT32_MAX;
    uint32_t pop_one() noexcept {
        uint32_t item;
        if (restartable_) return pop_one_here();
        return pop_locked({&item, 1}) ? item : none;
    }
    bool push_one(uint32_t item) noexcept {
        return restartable_ ? push_one_here(item) : push_locked({&item, 1});
    }
    // Empty every stack: f(span of items, the top last). One thread at a time; others may push and pop.
    template <class F> void drain(F f) noexcept {
        if (!close_all()) return;
        for (Stack& s : stacks_) {
            if (!restartable_) lock(s);
            f(std::span<const uint32_t>(s.items, size_of(s)));
            store_at(&s.word, load_at(&s.word) & ~size_mask, relaxed);
            open(s);
        }
    }

    // Exact when nobody is inside.
    uint64_t n_items() const noexcept;
    uint64_t n_popped() const noexcept;  // since construction
    template <class F> void for_each(F f) const {
        for (const Stack& s : stacks_)
            for (uint32_t i = 0; i < size_of(s); ++i) f(s.items[i]);
    }

  private:
    static constexpr uint64_t size_mask = 255;  // of Stack::word; above it the number of pops
    struct alignas(64) Stack {
        uint64_t word = 0;
        uint32_t closed = 0;  // restartable: by drain(); otherwise the lock
        alignas(64) uint32_t items[capacity];
    };
    static uint32_t size_of(const Stack& s) noexcept {
        return uint32_t(load_at(&s.word) & size_mask);
    }

    bool pop_here(std::span<uint32_t> out) noexcept;
    bool push_here(std::span<const uint32_t> items) noexcept;
    uint32_t pop_one_here() noexcept;
    bool push_one_here(uint32_t item) noexcept;
    bool pop_locked(std::span<uint32_t> out) noexcept;
    bool push_locked(std::span<const uint32_t> items) noexcept;
    Stack& lock_one() noexcept;
    static bool try_lock(Stack& s) noexcept;
    static void lock(Stack& s) noexcept;
    static void open(Stack& s) noexcept;
    bool close_all() noexcept;

    Os* os_;
    const bool restartable_;
    Vec<Stack> stacks_;
};

}  // namespace larder
