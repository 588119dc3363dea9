// SRRIP (Jaleel, Theobald, Steely, Emer, ISCA 2010) with the class bias of Victima (Kanellopoulos et al., MICRO 2023).
#pragma once

#include "store/policy/policy.h"
#include "store/policy/slot_list.h"

namespace larder {

// Each slot has a re-reference prediction of two bits: 3 goes first. What is new gets 2, a use takes one off; when
// there is no 3, all age by one. What has a score is favoured while its kind misses often: it enters and is promoted to
// 0, and is spared once when its turn comes.
class SrripPolicy final : public Policy {
  public:
    explicit SrripPolicy(const Allocator& a) : lists_{SlotList(a), SlotList(a), SlotList(a), SlotList(a)}, facts_(a) {}
    void reserve(size_t n) override {
        if (n <= facts_.size()) return;
        for (SlotList& l : lists_) l.reserve(n);
        facts_.resize(n);
    }
    void admit(uint32_t slot, const Reference& r) override {
        facts_[slot] = {0, r.score != 0, false};
        if (r.score) observe(true);
        enter(slot, favoured(slot) ? 0 : farthest - 1);
    }
    void touch(uint32_t slot, const Reference&) override {
        Facts& f = facts_[slot];
        if (f.scored) observe(false);
        f.spared = false;
        const uint32_t prediction = prediction_of(slot);
        remove(slot);
        enter(slot, favoured(slot) || !prediction ? 0 : prediction - 1);
    }
    void remove(uint32_t slot) noexcept override { lists_[facts_[slot].list].remove(slot); }
    uint32_t evict() override {
        if (!(lists_[0].size() + lists_[1].size() + lists_[2].size() + lists_[3].size())) return no_victim;
        for (;;) {
            SlotList& far = lists_[(base_ + farthest) % n_lists];
            if (!far.size()) {
                base_ = (base_ + farthest) % n_lists;  // everything is one farther
                continue;
            }
            const uint32_t slot = far.front();
            if (favoured(slot) && !facts_[slot].spared && far.size() > 1) {
                facts_[slot].spared = true;
                far.move_to_back(slot);
                continue;
            }
            far.remove(slot);
            return slot;
        }
    }

  private:
    static constexpr uint32_t n_lists = 4, farthest = 3;
    // Of the last so many references to what has a score; beyond an eighth missed they are under pressure.
    static constexpr uint32_t period = 256, pressure_share = 8;
    struct Facts {
        uint8_t list;
        bool scored, spared;
    };
    uint32_t prediction_of(uint32_t slot) const noexcept { return (facts_[slot].list + n_lists - base_) % n_lists; }
    void enter(uint32_t slot, uint32_t prediction) noexcept {
        facts_[slot].list = uint8_t((base_ + prediction) % n_lists);
        lists_[facts_[slot].list].push_back(slot);
    }
    bool favoured(uint32_t slot) const noexcept { return facts_[slot].scored && pressed_; }
    void observe(bool missed) noexcept {
        n_missed_ += missed;
        if (++n_seen_ < period) return;
        pressed_ = n_missed_ * pressure_share > n_seen_;
        n_seen_ = n_missed_ = 0;
    }

    SlotList lists_[n_lists];
    Vec<Facts> facts_;
    uint32_t base_ = 0;  // the list of prediction 0
    uint32_t n_seen_ = 0, n_missed_ = 0;
    bool pressed_ = true;
};

}  // namespace larder
