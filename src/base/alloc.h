// The context's allocator as an object, and containers that use it.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "larder/base.h"

namespace larder {

class Allocator {
  public:
    Allocator() noexcept;  // the C library's
    explicit Allocator(const larder_allocator& user) noexcept : raw_(user) {}

    void* try_alloc(size_t n_bytes, size_t align) const noexcept { return raw_.alloc(raw_.ctx, n_bytes, align); }
    void* alloc(size_t n_bytes, size_t align) const {
        void* p = try_alloc(n_bytes, align);
        if (!p) throw std::bad_alloc();
        return p;
    }
    void free(void* p, size_t n_bytes, size_t align) const noexcept {
        if (p) raw_.free(raw_.ctx, p, n_bytes, align);
    }

    template <class T, class... Args> T* create(Args&&... args) const {
        void* p = alloc(sizeof(T), alignof(T));
        try {
            return new (p) T(std::forward<Args>(args)...);
        } catch (...) {
            free(p, sizeof(T), alignof(T));
            throw;
        }
    }
    template <class T> void destroy(T* p) const noexcept {
        if (!p) return;
        p->~T();
        free(p, sizeof(T), alignof(T));
    }

    friend bool operator==(const Allocator& a, const Allocator& b) noexcept {
        return a.raw_.ctx == b.raw_.ctx && a.raw_.alloc == b.raw_.alloc;
    }

  private:
    larder_allocator raw_;
};

template <class T> struct StdAlloc {
    using value_type = T;
    using propagate_on_container_move_assignment = std::true_type;
    using propagate_on_container_copy_assignment = std::true_type;
    using propagate_on_container_swap = std::true_type;

    StdAlloc() noexcept = default;  // the C library's allocator: for tests and tools
    StdAlloc(const Allocator& allocator) noexcept : a(allocator) {}
    template <class U> StdAlloc(const StdAlloc<U>& o) noexcept : a(o.a) {}
    T* allocate(size_t n) {
        if (n > SIZE_MAX / sizeof(T)) throw std::bad_alloc();
        return static_cast<T*>(a.alloc(n * sizeof(T), alignof(T)));
    }
    void deallocate(T* p, size_t n) noexcept { a.free(p, n * sizeof(T), alignof(T)); }
    template <class U> bool operator==(const StdAlloc<U>& o) const noexcept { return a == o.a; }

    Allocator a;
};

template <class T> using Vec = std::vector<T, StdAlloc<T>>;
template <class T> using Deque = std::deque<T, StdAlloc<T>>;
using String = std::basic_string<char, std::char_traits<char>, StdAlloc<char>>;
template <class K, class V, class H = std::hash<K>, class E = std::equal_to<K>>
using HashMap = std::unordered_map<K, V, H, E, StdAlloc<std::pair<const K, V>>>;
template <class K, class V, class C = std::less<K>> using TreeMap = std::map<K, V, C, StdAlloc<std::pair<const K, V>>>;

// Owns one object made by Allocator::create. Remembers the size, so that an owner of a base class gives back the whole
// object.
template <class T> struct AllocDelete {
    AllocDelete() noexcept = default;
    AllocDelete(const Allocator& allocator) noexcept : a(allocator) {}
    template <class U>
    requires std::is_base_of_v<T, U> AllocDelete(const AllocDelete<U>& o)
    noexcept : a(o.a), n_bytes(o.n_bytes), align(o.align) {
        static_assert(std::has_virtual_destructor_v<T>, "an owner of a base class needs a virtual destructor");
    }
    void operator()(T* p) const noexcept {
        p->~T();
        a.free(p, n_bytes, align);
    }

    Allocator a;
    size_t n_bytes = sizeof(T), align = alignof(T);
};
template <class T> using Owned = std::unique_ptr<T, AllocDelete<T>>;
template <class T, class... Args> Owned<T> make_owned(const Allocator& a, Args&&... args) {
    return Owned<T>(a.create<T>(std::forward<Args>(args)...), AllocDelete<T>(a));
}

}  // namespace larder
