// 64-bit ids {kind 4, index 28, generation 32} and the table that hands them out.
#pragma once

#include "base/alloc.h"
#include "base/assert.h"
#include "base/result.h"

namespace larder {

enum class IdKind : uint32_t {
    sequence = 1,
    block = 2,
    job = 3,
    lease = 4,
    plan = 5,
    object = 6,
    transfer = 7,
    expert = 8,
    state = 9,
    prefix_entry = 10,
    adapter = 11
};

struct Id {
    static constexpr uint32_t max_index = (1u << 28) - 1;
    static constexpr uint64_t make(IdKind kind, uint32_t index, uint32_t generation) noexcept {
        return uint64_t(kind) << 60 | uint64_t(index) << 32 | generation;
    }
    static constexpr IdKind kind(uint64_t id) noexcept { return IdKind(id >> 60); }
    static constexpr uint32_t index(uint64_t id) noexcept { return uint32_t(id >> 32) & max_index; }
    static constexpr uint32_t generation(uint64_t id) noexcept { return uint32_t(id); }
};

// Slots of T addressed by id. A slot's generation moves on at each removal; one that has used all 2^32 is retired. Not
// synchronised.
template <class T> class IdTable {
  public:
    IdTable(const Allocator& a, IdKind kind, uint32_t first_generation)
        : kind_(kind), first_generation_(first_generation), slots_(a), free_(a) {}

    // Strong guarantee against bad_alloc.
    uint64_t insert(T value) {
        if (free_.empty()) {
            if (slots_.size() > Id::max_index) throw std::bad_alloc();
            // remove() must never allocate
            if (free_.capacity() <= slots_.size()) free_.reserve(2 * slots_.size() + 16);
            slots_.push_back(Slot{std::move(value), first_generation_, 0, true});
            ++n_live_;
            return Id::make(kind_, uint32_t(slots_.size() - 1), slots_.back().generation);
        }
        uint32_t i = free_.back();
        free_.pop_back();
        slots_[i].value = std::move(value);
        slots_[i].live = true;
        ++n_live_;
        return Id::make(kind_, i, slots_[i].generation);
    }
    T* find(uint64_t id) noexcept {
        uint32_t i = Id::index(id);
        if (Id::kind(id) != kind_ || i >= slots_.size()) return nullptr;
        Slot& s = slots_[i];
        return s.live && s.generation == Id::generation(id) ? &s.value : nullptr;
    }
    const T* find(uint64_t id) const noexcept { return const_cast<IdTable*>(this)->find(id); }
    bool remove(uint64_t id) noexcept {
        if (!find(id)) return false;
        Slot& s = slots_[Id::index(id)];
        s.value = T{};
        s.live = false;
        --n_live_;
        ++s.generation;
        if (++s.uses != UINT32_MAX) free_.push_back(Id::index(id));
        return true;
    }
    size_t size() const noexcept { return n_live_; }
    template <class F> void for_each(F f) {
        for (size_t i = 0; i < slots_.size(); ++i)
            if (slots_[i].live) f(Id::make(kind_, uint32_t(i), slots_[i].generation), slots_[i].value);
    }

  private:
    struct Slot {
        T value;
        uint32_t generation;
        uint32_t uses;
        bool live;
    };
    IdKind kind_;
    uint32_t first_generation_;
    size_t n_live_ = 0;
    Deque<Slot> slots_;  // addresses of live values stay put
    Vec<uint32_t> free_;
};

}  // namespace larder
