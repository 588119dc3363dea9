// What the library lends: memory, time, and a place for the detail of a failure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "larder/plugin/remote_v1.h"

namespace larder_redis {

using Host = larder_remote_host_v1;

template <class T> struct HostAlloc {
    using value_type = T;
    using propagate_on_container_move_assignment = std::true_type;
    using propagate_on_container_copy_assignment = std::true_type;
    using propagate_on_container_swap = std::true_type;
    HostAlloc(const Host& h) noexcept : host(&h) {}
    template <class U> HostAlloc(const HostAlloc<U>& o) noexcept : host(o.host) {}
    T* allocate(size_t n) {
        void* p = n > SIZE_MAX / sizeof(T) ? nullptr : host->alloc(host->ctx, n * sizeof(T), alignof(T));
        if (!p) throw std::bad_alloc();
        return static_cast<T*>(p);
    }
    void deallocate(T* p, size_t n) noexcept { host->free(host->ctx, p, n * sizeof(T), alignof(T)); }
    template <class U> bool operator==(const HostAlloc<U>& o) const noexcept { return host == o.host; }
    const Host* host;
};

template <class T> using Vec = std::vector<T, HostAlloc<T>>;
using Text = std::basic_string<char, std::char_traits<char>, HostAlloc<char>>;

template <class T> struct HostDelete {
    const Host* host = nullptr;
    void operator()(T* p) const noexcept {
        p->~T();
        host->free(host->ctx, p, sizeof(T), alignof(T));
    }
};
template <class T> using Owned = std::unique_ptr<T, HostDelete<T>>;
template <class T, class... Args> Owned<T> make(const Host& host, Args&&... args) {
    void* p = host.alloc(host.ctx, sizeof(T), alignof(T));
    if (!p) throw std::bad_alloc();
    try {
        return Owned<T>(new (p) T(std::forward<Args>(args)...), HostDelete<T>{&host});
    } catch (...) {
        host.free(host.ctx, p, sizeof(T), alignof(T));
        throw;
    }
}

[[gnu::format(printf, 4, 5)]] larder_status fail(const Host& host, larder_status status, int os_errno,
                                                 const char* format, ...) noexcept;

inline uint64_t now_ns(const Host& host) noexcept {
    return host.now_ns(host.ctx);
}
constexpr uint64_t never = UINT64_MAX;
inline uint64_t later(uint64_t now, uint64_t by) noexcept {
    return by < never - now ? now + by : never;
}

}  // namespace larder_redis
