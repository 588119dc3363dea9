// All objects of a store by key, and the lists they stand in.
#pragma once

#include "store/object.h"
#include "store/policy/policy.h"
#include "store/tiers/host_tier.h"

namespace larder {

struct ObjectLink {
    uint32_t prev = no_slot, next = no_slot;
};

struct Object {
    larder_key key{};
    ObjectMeta meta;
    uint32_t n_bytes = 0;
    ExtentSums sums;
    HostExtent host;    // its memory; empty: not in the host tier
    RecordPlace place;  // its record; not valid: not in the file tier
    uint32_t n_pins = 0;
    uint64_t protected_until_ns = 0;  // 0: as long as it is there, or not at all
    uint8_t priority = Reference::default_priority;
    bool extended = false;  // something was put that names it as parent
    uint32_t n_host_readers = 0;
    uint32_t n_leases = 0;        // readers that are leases
    bool live = false;            // the slot is in use
    bool writing = false;         // being put: the bytes are not there yet
    bool foreign_writer = false;  // by another process
    bool dirty = false;           // waits in the dirty list
    bool writing_back = false;    // taken from the dirty list, on its way
    bool keep_local = false;      // never to be written to the remote
    bool keep_in_ram = false;     // never to be written to the file
    bool in_host_policy = false;
    bool hot = false;     // read from the file since it was written there
    bool zombie = false;  // removed; its memory waits for the last reader
    ObjectLink in_tenant, in_segment, in_dirty;

    bool in_host() const noexcept { return !host.empty(); }
    bool in_file() const noexcept { return place.valid(); }
    // The tiers that it can be read from.
    uint32_t residency() const noexcept {
        return (in_host() && !writing ? uint32_t(LARDER_TIER_HOST) : 0u) |
               (in_file() ? uint32_t(LARDER_TIER_FILE) : 0u);
    }
    // What the record takes in its segment.
    uint64_t record_bytes() const noexcept { return 128 + (sums.size() > 1 ? sums.size() * 4 : 0) + n_bytes; }
};

class ObjectTable {
  public:
    explicit ObjectTable(const Allocator& a) : alloc_(a), slots_(a), free_(a), by_key_(a) {}

    Object* find(const larder_key& key) noexcept {
        const auto it = by_key_.find(key);
        return it == by_key_.end() ? nullptr : &slots_[it->second];
    }
    Object& operator[](uint32_t slot) noexcept { return slots_[slot]; }
    uint32_t slot_of(const larder_key& key) const noexcept {
        const auto it = by_key_.find(key);
        return it == by_key_.end() ? no_slot : it->second;
    }
    // A new object under a key that is not there. Strong against bad_alloc.
    uint32_t insert(const larder_key& key) {
        // remove() must not allocate
        if (free_.capacity() <= slots_.size()) free_.reserve(2 * slots_.size() + 16);
        if (free_.empty()) {
            slots_.emplace_back();
            free_.push_back(uint32_t(slots_.size() - 1));
        }
        const uint32_t slot = free_.back();
        by_key_.emplace(key, slot);
        free_.pop_back();
        Object& o = slots_[slot];
        o.key = key;
        o.live = true;
        o.host = HostExtent(alloc_);
        return slot;
    }
    // Not found by its key any more; the slot stays in use.
    void forget_key(uint32_t slot) noexcept { by_key_.erase(slots_[slot].key); }
    void release(uint32_t slot) noexcept {
        slots_[slot] = Object{};
        free_.push_back(slot);
    }
    size_t size() const noexcept { return by_key_.size(); }
    uint32_t n_slots() const noexcept { return uint32_t(slots_.size()); }

  private:
    Allocator alloc_;
    Deque<Object> slots_;  // addresses stay put
    Vec<uint32_t> free_;
    HashMap<larder_key, uint32_t, KeyHash, KeyEqual> by_key_;
};

// A list of objects through one of their links, oldest first.
template <ObjectLink Object::*L> struct ObjectList {
    uint32_t front = no_slot, back = no_slot;

    void push_back(ObjectTable& t, uint32_t i) noexcept {
        (t[i].*L) = {back, no_slot};
        (back == no_slot ? front : (t[back].*L).next) = i;
        back = i;
    }
    void remove(ObjectTable& t, uint32_t i) noexcept {
        const ObjectLink l = t[i].*L;
        (l.prev == no_slot ? front : (t[l.prev].*L).next) = l.next;
        (l.next == no_slot ? back : (t[l.next].*L).prev) = l.prev;
        (t[i].*L) = {};
    }
    bool empty() const noexcept { return front == no_slot; }
    static uint32_t next(ObjectTable& t, uint32_t i) noexcept { return (t[i].*L).next; }
};

}  // namespace larder
