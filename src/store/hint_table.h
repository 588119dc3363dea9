// What callers said about coming uses: by key, and by the request that will use it. Not synchronised.
#pragma once

#include <optional>
#include <set>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "larder/store.h"

namespace larder {

class HintTable {
  public:
    static constexpr size_t max_hints = 1 << 20;
    explicit HintTable(const Allocator& a) : by_key_(a), by_time_(a) {}

    bool empty() const noexcept { return by_time_.empty(); }
    bool full() const noexcept { return by_time_.size() >= max_hints; }
    // Strong against bad_alloc; said twice is said once.
    void add(const larder_key& key, uint64_t when) {
        const auto [at, fresh] = by_key_.insert({id(key), when});
        if (!fresh) return;
        try {
            by_time_.emplace(std::pair(when, id(key)), key);
        } catch (...) {
            by_key_.erase(at);
            throw;
        }
    }
    // The soonest use that is known.
    std::optional<uint64_t> next(const larder_key& key) const noexcept {
        const auto at = by_key_.lower_bound({id(key), 0});
        if (at == by_key_.end() || at->first != id(key)) return std::nullopt;
        return at->second;
    }
    // Takes out one hint of `when` or before.
    std::optional<larder_key> take(uint64_t when) noexcept {
        const auto at = by_time_.begin();
        if (at == by_time_.end() || at->first.first > when) return std::nullopt;
        const larder_key key = at->second;
        by_key_.erase({at->first.second, at->first.first});
        by_time_.erase(at);
        return key;
    }

  private:
    using Pair = std::pair<uint64_t, uint64_t>;
    // Content keys are digests: 64 bits of one tell it from all others.
    static uint64_t id(const larder_key& key) noexcept { return load_le<uint64_t>(key.bytes); }
    std::set<Pair, std::less<Pair>, StdAlloc<Pair>> by_key_;  // id, when
    TreeMap<Pair, larder_key> by_time_;                       // when, id
};

}  // namespace larder
