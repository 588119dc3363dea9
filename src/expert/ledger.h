// What one layer remembers of its experts, and who of those that are held is worth least. Not synchronised.
#pragma once

#include <compare>

#include "expert/policy.h"

namespace larder {

class ExpertLedger {
  public:
    ExpertLedger(const Allocator& a, uint32_t n_experts, const ExpertPolicyRow& row,
                 const ExpertFuture* future = nullptr)
        : uses_(n_experts, ExpertUse{}, a), journal_(row.learns ? journal_size(n_experts) : 0, 0, a),
          exact_(!row.online), policy_(row.make(a, n_experts, future)) {
        records_.uses = uses_;
    }

    // A choice of n experts follows. Cheap: what the policy learns from it waits in the journal until a victim is
    // wanted.
    void begin_step(uint32_t n) noexcept {
        ++records_.step;
        records_.n_sequence += n;
        if (journal_.empty()) return;
        if (n_journal_ + n + 1 > journal_.size()) make_room();
        journal_[n_journal_++] = n;
    }
    void use(uint32_t expert, bool fine) noexcept {
        ExpertUse& u = uses_[expert];
        u.last = records_.step;
        ++u.n;
        ++u.n_sequence;
        u.n_fine += fine;
        if (!journal_.empty()) journal_[n_journal_++] = expert;
    }
    void begin_sequence() noexcept {
        for (ExpertUse& u : uses_) u.n_sequence = u.n_fine = 0;
        records_.first_step = records_.step;
        records_.n_sequence = 0;
    }

    // The least goes first.
    struct Rank {
        double worth;
        uint64_t last;
        uint32_t expert;
        friend auto operator<=>(const Rank&, const Rank&) = default;
    };
    // To be called before rank(), after the step.
    void settle() noexcept {
        if (gap_) policy_->skip();
        gap_ = false;
        for (size_t i = 0; i < n_journal_; i += 1 + journal_[i]) policy_->learn({&journal_[i + 1], journal_[i]});
        n_journal_ = 0;
    }
    Rank rank(uint32_t expert, double nearness = 1) const noexcept {
        return {policy_->worth(expert, records_, nearness), uses_[expert].last, expert};
    }

  private:
    // So long without a miss that a cache may forget; who knows the future may not.
    void make_room() noexcept {
        if (exact_) return settle();
        n_journal_ = 0;
        gap_ = true;
    }
    static size_t journal_size(uint32_t n_experts) noexcept { return 4096 + n_experts; }

    Vec<ExpertUse> uses_;
    ExpertRecords records_;
    Vec<uint32_t> journal_;  // choices that the policy was not told of yet, each with its size before it
    size_t n_journal_ = 0;
    bool gap_ = false;
    const bool exact_;
    Owned<ExpertPolicy> policy_;
};

}  // namespace larder
