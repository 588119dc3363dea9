// The context: what every object of the library is made from.
#pragma once

#include <array>
#include <mutex>

#include "base/alloc.h"
#include "base/atomic.h"
#include "base/hash.h"
#include "core/handle.h"
#include "core/scheduler.h"
#include "core/stages.h"
#include "core/stats.h"
#include "larder/context.h"
#include "os/os.h"

struct larder_context final : larder::Handle {
    larder_context(const larder_context_options& o, const larder::Allocator& a, larder::Os& os);
    ~larder_context();
    larder_context(const larder_context&) = delete;

    // Any Os may be given: the tests inject simulated and failing ones.
    static larder_status create(const larder_context_options* options, larder::Os& os, larder_context** out);

    uint64_t param(larder_param p) const noexcept { return params_[size_t(p)].load(larder::relaxed); }
    larder_status set_param(larder_param p, uint64_t v) noexcept;
    void capabilities(larder_capabilities& out) noexcept;
    [[gnu::format(printf, 3, 4)]] void log(larder_log_level level, const char* format, ...) noexcept;

    // Handles are made and dropped here, so that the context knows what still lives.
    template <class T, class... Args> T* make_handle(Args&&... args) {
        return adopt_handle(alloc.create<T>(std::forward<Args>(args)...));
    }
    // For a handle that had to be there before it was known whether the caller gets it.
    template <class T> T* adopt_handle(T* h) noexcept {
        live_handles_[larder::type_slot(h->type)].fetch_add(1, larder::relaxed);
        return h;
    }
    template <class T> void drop_handle(T* h) noexcept {
        live_handles_[larder::type_slot(h->type)].fetch_sub(1, larder::relaxed);
        larder::Handle* handle = h;  // not at h itself when T has virtual functions
        h->~T();
        drop_memory(handle, h, sizeof(T), alignof(T));
    }
    larder_status check_no_handles() const noexcept;
    bool in_forked_child() const noexcept { return os.fork_epoch() != fork_epoch_; }

    uint64_t random_u64() noexcept;
    uint32_t random_generation() noexcept { return uint32_t(random_u64()) | 1; }

    larder::Allocator alloc;
    larder::Os& os;
    larder::Stats stats;
    larder::Scheduler scheduler;
    larder::StageRegistry stages;

  private:
    static constexpr size_t n_params = 6;
    static constexpr size_t n_handle_types = larder::type_slot(larder::HandleType::n_types);
    void drop_memory(larder::Handle* handle, void* p, size_t n_bytes, size_t align) noexcept;
    void read_environment() noexcept;
    bool probe_io_uring() noexcept;

    const uint64_t fork_epoch_;
    larder_log_sink log_;
    larder_log_level log_level_;
    std::array<larder::atomic<uint64_t>, n_params> params_{};
    std::array<larder::atomic<uint32_t>, n_handle_types> live_handles_{};
    std::mutex rng_mutex_;
    larder::Rng rng_;
    std::mutex probe_mutex_;
    int io_uring_works_ = -1;  // not asked yet
#if defined(LARDER_DEBUG)
    struct Quarantined {
        void* p;
        size_t n_bytes, align;
    };
    std::mutex quarantine_mutex_;
    larder::Vec<Quarantined> quarantine_;
#endif
};
