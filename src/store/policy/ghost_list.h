// What was evicted lately, by id, the oldest first: the memory of ARC, 2Q, S3-FIFO, LFU and LRU-2.
#pragma once

#include "store/policy/id_map.h"
#include "store/policy/slot_list.h"

namespace larder {

class GhostList {
  public:
    static constexpr uint32_t none = SlotList::none;
    explicit GhostList(const Allocator& a) : list_(a), ids_(a), free_(a), places_(a) {}

    // At most n ids from now on; those already here stay.
    void reserve(size_t n) {
        const size_t old = ids_.size();
        if (n <= old) return;
        free_.reserve(n);
        list_.reserve(n);
        places_.reserve(n);
        ids_.resize(n);
        for (size_t i = n; i-- > old;) free_.push_back(uint32_t(i));
    }
    size_t size() const noexcept { return list_.size(); }
    // Forgets the oldest when there is no room. Returns the ghost's place, less than what was reserved, its own until
    // it is taken or forgotten.
    uint32_t push(uint64_t id) noexcept {
        take(id);
        if (free_.empty()) pop();
        const uint32_t i = free_.back();
        free_.pop_back();
        ids_[i] = id;
        places_.insert(id, i);
        list_.push_back(i);
        return i;
    }
    // The place that the id had; none: it was not here. It no longer is.
    uint32_t take(uint64_t id) noexcept {
        const uint32_t i = places_.erase(id);
        if (i == none) return none;
        list_.remove(i);
        free_.push_back(i);
        return i;
    }
    void trim(size_t n) noexcept {
        while (size() > n) pop();
    }

  private:
    void pop() noexcept { take(ids_[list_.front()]); }

    SlotList list_;
    Vec<uint64_t> ids_;
    Vec<uint32_t> free_;
    IdMap places_;
};

}  // namespace larder
