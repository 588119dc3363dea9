// Why things went: a small memory for larder_store_explain().
#pragma once

#include "base/alloc.h"
#include "base/hash.h"
#include "larder/store.h"

namespace larder {

// A direct-mapped table by the key's first bytes: later departures overwrite earlier ones. Not synchronised.
class Departures {
  public:
    static constexpr size_t n_entries = 65536;
    struct Entry {
        uint64_t tag = 0;
        uint64_t when_ns = 0;
        larder_absence why = LARDER_ABSENT_NEVER;
        uint32_t tier = 0;
    };

    explicit Departures(const Allocator& a) : entries_(n_entries, Entry{}, a) {}
    void note(const larder_key& key, larder_absence why, uint32_t tier, uint64_t now_ns) noexcept {
        entries_[slot(key)] = {tag(key), now_ns, why, tier};
    }
    const Entry* find(const larder_key& key) const noexcept {
        const Entry& e = entries_[slot(key)];
        return e.why != LARDER_ABSENT_NEVER && e.tag == tag(key) ? &e : nullptr;
    }

  private:
    static uint64_t tag(const larder_key& key) noexcept { return load(key, 8); }
    static size_t slot(const larder_key& key) noexcept { return size_t(mix64(load(key, 0)) % n_entries); }
    static uint64_t load(const larder_key& key, size_t at) noexcept {
        uint64_t v;
        std::memcpy(&v, key.bytes + at, 8);
        return v;
    }
    Vec<Entry> entries_;
};

}  // namespace larder
