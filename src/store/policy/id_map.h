// From the id of a thing to a small number: open addressing, half full at most, without tombstones.
#pragma once

#include "base/alloc.h"
#include "base/hash.h"

namespace larder {

class IdMap {
  public:
    static constexpr uint32_t none = UINT32_MAX;
    explicit IdMap(const Allocator& a) : entries_(16, Entry{}, a) {}

    // At most n ids from now on. Strong against bad_alloc; nothing else allocates.
    void reserve(size_t n) {
        size_t buckets = entries_.size();
        while (buckets < 2 * n) buckets *= 2;
        if (buckets == entries_.size()) return;
        Vec<Entry> old(buckets, Entry{}, entries_.get_allocator().a);
        old.swap(entries_);
        for (const Entry& e : old)
            if (e.value != none) entries_[place(e.id)] = e;
    }
    uint32_t find(uint64_t id) const noexcept { return entries_[place(id)].value; }
    void insert(uint64_t id, uint32_t value) noexcept { entries_[place(id)] = {id, value}; }
    // The value that was there; none: nothing was.
    uint32_t erase(uint64_t id) noexcept {
        size_t hole = place(id);
        const uint32_t value = entries_[hole].value;
        if (value == none) return none;
        // What follows moves up unless it already stands at or behind its home.
        const size_t mask = entries_.size() - 1;
        for (size_t at = (hole + 1) & mask; entries_[at].value != none; at = (at + 1) & mask) {
            if (((at - home(entries_[at].id)) & mask) < ((at - hole) & mask)) continue;
            entries_[hole] = entries_[at];
            hole = at;
        }
        entries_[hole].value = none;
        return value;
    }

  private:
    struct Entry {
        uint64_t id = 0;
        uint32_t value = none;
    };
    size_t home(uint64_t id) const noexcept { return mix64(id) & (entries_.size() - 1); }
    size_t place(uint64_t id) const noexcept {
        size_t at = home(id);
        while (entries_[at].value != none && entries_[at].id != id) at = (at + 1) & (entries_.size() - 1);
        return at;
    }
    Vec<Entry> entries_;
};

}  // namespace larder
