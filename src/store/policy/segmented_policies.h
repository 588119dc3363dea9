// SLRU, and W-TinyLFU, which puts a window and a frequency sketch before it.
#pragma once

#include <algorithm>

#include "store/policy/frequency_sketch.h"
#include "store/policy/policy.h"
#include "store/policy/slot_list.h"

namespace larder {

// SLRU (Karedla, Love, Wherry, Computer 1994): on probation until used, then protected; of all that is held at most
// 80 % is protected.
class SlruPolicy : public Policy {
  public:
    explicit SlruPolicy(const Allocator& a) : probation_(a), protected_(a), where_(a) {}
    void reserve(size_t n) override {
        if (n <= where_.size()) return;
        probation_.reserve(n);
        protected_.reserve(n);
        where_.resize(n);
    }
    void admit(uint32_t slot, const Reference&) override { enter(slot, Where::probation); }
    void touch(uint32_t slot, const Reference&) override {
        list_of(slot).remove(slot);
        enter(slot, Where::protected_);
    }
    void remove(uint32_t slot) noexcept override { list_of(slot).remove(slot); }
    uint32_t evict() override {
        demote();
        return probation_.size() ? probation_.pop_front() : protected_.pop_front();
    }

  protected:
    enum class Where : uint8_t { probation, protected_, window };
    void enter(uint32_t slot, Where where) noexcept {
        where_[slot] = where;
        list_of(slot).push_back(slot);
    }
    virtual SlotList& list_of(uint32_t slot) noexcept {
        return where_[slot] == Where::protected_ ? protected_ : probation_;
    }
    // The capacity is what is held when room is asked for.
    void demote() noexcept {
        const size_t n = probation_.size() + protected_.size();
        while (protected_.size() > n - n / 5) enter(protected_.pop_front(), Where::probation);
    }

    SlotList probation_, protected_;
    Vec<Where> where_;
};

// W-TinyLFU (Einziger, Friedman, Manes, ACM TOS 2017): a window of 1 % in LRU order, the rest an SLRU that takes what
// leaves the window only if it was asked for more often, of late, than what would have to go.
class WTinyLfuPolicy final : public SlruPolicy {
  public:
    explicit WTinyLfuPolicy(const Allocator& a) : SlruPolicy(a), window_(a), ids_(a), sketch_(a) {}
    void reserve(size_t n) override {
        if (n <= ids_.size()) return;
        SlruPolicy::reserve(n);
        window_.reserve(n);
        sketch_.reserve(n);
        ids_.resize(n);
    }
    void admit(uint32_t slot, const Reference& r) override {
        ids_[slot] = r.id;
        sketch_.count(r.id, held());
        enter(slot, Where::window);
    }
    void touch(uint32_t slot, const Reference& r) override {
        sketch_.count(r.id, held());
        if (where_[slot] == Where::window) return window_.move_to_back(slot);
        SlruPolicy::touch(slot, r);
    }
    uint32_t evict() override {
        if (!main_size()) return evict_window();
        if (window_.size() <= std::max<size_t>(1, held() / 100)) return SlruPolicy::evict();
        const uint32_t candidate = window_.front(), victim = main_victim();
        if (sketch_.estimate(ids_[candidate]) <= sketch_.estimate(ids_[victim])) return window_.pop_front();
        enter(window_.pop_front(), Where::probation);
        remove(victim);
        return victim;
    }

  private:
    SlotList& list_of(uint32_t slot) noexcept override {
        return where_[slot] == Where::window ? window_ : SlruPolicy::list_of(slot);
    }
    size_t main_size() const noexcept { return probation_.size() + protected_.size(); }
    size_t held() const noexcept { return window_.size() + main_size(); }
    // The main part grows from nothing: what leaves a window that is too large enters it, but for the one to go.
    uint32_t evict_window() noexcept {
        const size_t keep = std::max<size_t>(1, held() / 100);
        if (window_.size() <= keep) return window_.pop_front();
        while (window_.size() > keep) enter(window_.pop_front(), Where::probation);
        return probation_.pop_front();
    }
    uint32_t main_victim() noexcept {
        demote();
        return probation_.size() ? probation_.front() : protected_.front();
    }

    SlotList window_;
    Vec<uint64_t> ids_;
    FrequencySketch sketch_;
};

}  // namespace larder
