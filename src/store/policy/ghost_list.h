// What was evicted lately, by id, the oldest first: the memory of ARC, 2Q and S3-FIFO.
#pragma once

#include "base/hash.h"
#include "store/policy/slot_list.h"

namespace larder {

class GhostList {
  public:
    explicit GhostList(const Allocator& a) : list_(a), ids_(a), free_(a), table_(a) {}

    // At most n ids from now on; those already here stay.
    void reserve(size_t n) {
        if (n <= ids_.size()) return;
        size_t buckets = 16;
        while (buckets < 2 * n) buckets *= 2;
        Vec<uint32_t> table(buckets, none, free_.get_allocator().a);
        free_.reserve(n);
        list_.reserve(n);
        const size_t old = ids_.size();
        ids_.resize(n);
        for (size_t i = n; i-- > old;) free_.push_back(uint32_t(i));
        table_ = std::move(table);
        for (uint32_t i = list_.front(); i != none; i = list_.next(i)) table_[find(ids_[i])] = i;
    }
    size_t size() const noexcept { return list_.size(); }
    // Forgets the oldest when there is no room.
    void push(uint64_t id) noexcept {
        if (take(id); free_.empty()) pop();
        const uint32_t i = free_.back();
        free_.pop_back();
        ids_[i] = id;
        table_[find(id)] = i;
        list_.push_back(i);
    }
    // True if the id was here; it no longer is.
    bool take(uint64_t id) noexcept {
        const size_t at = find(id);
        if (table_[at] == none) return false;
        list_.remove(table_[at]);
        erase(at);
        return true;
    }
    void trim(size_t n) noexcept {
        while (size() > n) pop();
    }

  private:
    static constexpr uint32_t none = SlotList::none;
    size_t home(uint64_t id) const noexcept { return mix64(id) & (table_.size() - 1); }
    size_t find(uint64_t id) const noexcept {
        size_t at = home(id);
        while (table_[at] != none && ids_[table_[at]] != id) at = (at + 1) & (table_.size() - 1);
        return at;
    }
    void pop() noexcept { erase(find(ids_[list_.pop_front()])); }
    // Open addressing without tombstones: what follows moves up unless it already stands at or behind its home.
    void erase(size_t hole) noexcept {
        const size_t mask = table_.size() - 1;
        free_.push_back(table_[hole]);
        for (size_t at = (hole + 1) & mask; table_[at] != none; at = (at + 1) & mask) {
            if (((at - home(ids_[table_[at]])) & mask) < ((at - hole) & mask)) continue;
            table_[hole] = table_[at];
            hole = at;
        }
        table_[hole] = none;
    }

    SlotList list_;
    Vec<uint64_t> ids_;
    Vec<uint32_t> free_;
    Vec<uint32_t> table_;  // hash of an id: its place in ids_; half full at most
};

}  // namespace larder
