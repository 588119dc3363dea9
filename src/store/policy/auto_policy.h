// Chooses among the rows of the table by what they would have hit: set duelling (Qureshi et al., ISCA 2007) with
// hash-sampled shadow caches.
#pragma once

#include "store/policy/id_map.h"
#include "store/policy/policy.h"

namespace larder {

// Each candidate keeps an order over all that is held, and has a shadow cache that holds nothing but sees a sample of
// the ids, at the same share of the capacity. The candidate whose shadow hits most evicts; the others are told.
class AutoPolicy final : public Policy {
  public:
    static constexpr size_t default_limit = 4096;
    // limit: of one shadow cache. A larger cache is sampled, by halves, until its shadows keep to it.
    explicit AutoPolicy(const Allocator& a, size_t limit = default_limit);
    void reserve(size_t n) override;
    void admit(uint32_t slot, const Reference& r) override;
    void touch(uint32_t slot, const Reference& r) override;
    void foresee(uint32_t slot, const Reference& r) override;
    void readmit(uint32_t slot, const Reference& r) override;
    void witness(const Reference& r, bool expected) override;
    void extended(uint32_t slot) override;
    void remove(uint32_t slot) noexcept override;
    uint32_t evict() override;
    void evicted(uint32_t slot) noexcept override;

  private:
    struct Candidate {
        Owned<Policy> order, shadow;
        size_t n_shadow = 0;
        uint64_t score = 0;  // hits of the shadow, halved now and then
    };
    // Something that a shadow holds. Its place is its slot in the shadows.
    struct Shade {
        uint64_t id = 0;
        uint32_t in = 0;  // bit i: in the shadow of candidate i
    };
    bool sampled(uint64_t id) const noexcept;
    void refer(const Reference& r, bool counts);
    void leave(size_t candidate, uint32_t shade) noexcept;
    void thin_out() noexcept;
    void trim() noexcept;
    void choose_leader() noexcept;

    Vec<Candidate> candidates_;
    Vec<Shade> shades_;
    Vec<uint32_t> free_shades_;
    IdMap shade_of_;
    const size_t limit_;
    size_t leader_ = 0, n_held_ = 0;
    uint64_t n_recent_ = 0;  // references since scores were halved
    unsigned thinning_ = 0;  // one id in 2^thinning_ is in the sample
    bool evicting_ = false;  // the capacity is known: the sample is settled
};

}  // namespace larder
