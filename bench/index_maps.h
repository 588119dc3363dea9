// Ordered maps behind one set of calls, for the index suite. Keys and values are uint64_t.
#pragma once

#include <malloc.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <shared_mutex>

#include "larder/index.h"
#if LARDER_BENCH_TBB
#include <tbb/concurrent_map.h>
#endif
#if LARDER_BENCH_CDS
#include <cds/container/skip_list_map_nogc.h>
#include <cds/init.h>
#endif
#if LARDER_BENCH_ABSL
#include <absl/container/btree_map.h>
#endif

namespace bench {

inline size_t heap_bytes() {
    const struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

template <bool HugePages> class LarderMap {
  public:
    static constexpr const char* name = HugePages ? "larder" : "larder-4k-pages";

    explicit LarderMap(uint64_t) {
        larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
        o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        if (larder_context_create(&o, &context_) < 0) std::abort();
        larder_context_set_u64(context_, LARDER_PARAM_HUGE_PAGES, HugePages);
        if (larder_index_create(context_, nullptr, &index_) < 0) std::abort();
    }
    ~LarderMap() {
        larder_index_destroy(index_);
        larder_context_destroy(context_);
    }
    bool get(uint64_t k, uint64_t& v) { return larder_index_get(index_, &k, &v) == LARDER_OK; }
    void put(uint64_t k, uint64_t v) { larder_index_put(index_, &k, &v); }
    uint64_t scan(uint64_t k, uint64_t n) {
        uint64_t keys[100], values[100], got = 0;
        larder_index_scan(index_, LARDER_INDEX_AT_LEAST, &k, keys, values, n, &got);
        return got ? values[got - 1] : 0;
    }
    uint64_t get_many(const uint64_t* k, uint64_t n, uint64_t* v) {
        uint64_t n_found = 0;
        larder_index_get_many(index_, k, n, v, nullptr, &n_found);
        return n_found;
    }
    double bytes() {
        larder_index_info i = LARDER_INDEX_INFO_INIT;
        larder_index_get_info(index_, &i);
        return 1024.0 * double(i.n_nodes);
    }
    static constexpr bool has_batches = true;

  private:
    larder_context* context_ = nullptr;
    larder_index* index_ = nullptr;
};

template <class Map> uint64_t scan_map(Map& m, uint64_t k, uint64_t n) {
    uint64_t last = 0;
    for (auto it = m.lower_bound(k); it != m.end() && n; ++it, --n) last = it->second;
    return last;
}

// A sequential map under a lock.
template <class Map, class Mutex> class LockedMap {
  public:
    explicit LockedMap(uint64_t) : before_(heap_bytes()) {}
    bool get(uint64_t k, uint64_t& v) {
        ReadLock lock(mutex_);
        auto it = map_.find(k);
        if (it == map_.end()) return false;
        v = it->second;
        return true;
    }
    void put(uint64_t k, uint64_t v) {
        std::lock_guard lock(mutex_);
        map_[k] = v;
    }
    uint64_t scan(uint64_t k, uint64_t n) {
        ReadLock lock(mutex_);
        return scan_map(map_, k, n);
    }
    double bytes() { return double(heap_bytes() - before_); }
    static constexpr bool has_batches = false;

  private:
    using ReadLock =
        std::conditional_t<std::is_same_v<Mutex, std::shared_mutex>, std::shared_lock<Mutex>, std::unique_lock<Mutex>>;
    Mutex mutex_;
    size_t before_;
    Map map_;
};

struct StdMap : LockedMap<std::map<uint64_t, uint64_t>, std::mutex> {
    static constexpr const char* name = "std::map+mutex";
    using LockedMap::LockedMap;
};

#if LARDER_BENCH_ABSL
struct AbslMap : LockedMap<absl::btree_map<uint64_t, uint64_t>, std::shared_mutex> {
    static constexpr const char* name = "absl::btree_map+shared_mutex";
    using LockedMap::LockedMap;
};
#endif

#if LARDER_BENCH_TBB
class TbbMap {
  public:
    static constexpr const char* name = "tbb::concurrent_map";
    explicit TbbMap(uint64_t) {}
    bool get(uint64_t k, uint64_t& v) {
        auto it = map_.find(k);
        if (it == map_.end()) return false;
        v = it->second.load(std::memory_order_acquire);
        return true;
    }
    void put(uint64_t k, uint64_t v) {
        auto [it, fresh] = map_.emplace(k, v);
        if (!fresh) it->second.store(v, std::memory_order_release);
    }
    uint64_t scan(uint64_t k, uint64_t n) { return scan_map(map_, k, n); }
    double bytes() { return 0; }  // its allocator does not tell
    static constexpr bool has_batches = false;

  private:
    tbb::concurrent_map<uint64_t, std::atomic<uint64_t>> map_;
};
#endif

#if LARDER_BENCH_CDS
// Without reclamation, its fastest kind and the only one that gives an iterator at a key.
class CdsMap {
  public:
    static constexpr const char* name = "libcds SkipListMap";
    explicit CdsMap(uint64_t) : before_(heap_bytes()) {}
    bool get(uint64_t k, uint64_t& v) {
        auto it = map_.contains(k);
        if (it == map_.end()) return false;
        v = std::atomic_ref(it->second).load(std::memory_order_acquire);
        return true;
    }
    void put(uint64_t k, uint64_t v) {
        std::atomic_ref(map_.update(k, true).first->second).store(v, std::memory_order_release);
    }
    // From a key that is there, as all of the suite's scans begin.
    uint64_t scan(uint64_t k, uint64_t n) {
        uint64_t last = 0;
        for (auto it = map_.contains(k); it != map_.end() && n; ++it, --n)
            last = std::atomic_ref(it->second).load(std::memory_order_acquire);
        return last;
    }
    double bytes() { return double(heap_bytes() - before_); }
    static constexpr bool has_batches = false;

  private:
    struct Library {
        Library() { cds::Initialize(); }
        ~Library() { cds::Terminate(); }
    };
    struct Traits : cds::container::skip_list::traits {
        using less = std::less<uint64_t>;
    };
    static inline Library library_;
    size_t before_;
    cds::container::SkipListMap<cds::gc::nogc, uint64_t, uint64_t, Traits> map_;
};
#endif

}  // namespace bench
