// The planner: which block holds what, who uses it, what is loaded, stored and given up. Decides everything, touches no
// tensor.
#pragma once

#include <mutex>
#include <span>

#include "base/ids.h"
#include "base/options.h"
#include "core/lease.h"
#include "core/plan.h"
#include "kv/block_cache.h"
#include "kv/chain.h"
#include "kv/directory.h"
#include "kv/shard.h"

namespace larder {

struct PlannerConfig {
    uint32_t n_blocks = 0;  // without the null block
    uint32_t n_states = 0;  // state slots without the null slot; 0 without RECURRENT groups
    uint32_t n_ranks = 1;
    uint32_t n_cp = 1;  // token t of a block lies on the ranks of t mod n_cp
    uint32_t max_sequences = 1024;
    uint32_t low_watermark = 100, high_watermark = 200;  // per mille
    larder_kv_write_policy write_policy = LARDER_KV_WRITE_BACK;
    larder_quality store_quality = LARDER_QUALITY_EXACT;  // the best that the codec below leaves
    bool publish_at_commit = true;                        // false: when all ranks have reported the seal
};

// Whom to tell when everything that a sequence waits for is there. queue may be NULL.
struct JobRef {
    larder_queue* queue = nullptr;
    larder_job job = 0;
};

// One wait of one sequence for one or several plans.
struct Ticket {
    JobRef job;
    larder_seq seq = 0;      // 0: the sequence has ended meanwhile
    uint32_t n_pending = 0;  // plans that are out
    uint32_t n_failed = 0;
    larder_status first_failure = LARDER_OK;
    Ticket* prev =
        nullptr;  // in the planner's list while plans are out; then `next` links those that a report completed
    Ticket* next = nullptr;
};

struct Sequence {
    explicit Sequence(const Allocator& a) : chain(a), blocks(a) {}
    TokenChain chain;
    Vec<uint32_t> blocks;
    uint64_t n_reserved = 0, n_computed = 0;
    size_t n_sealed = 0;     // leading blocks that are complete and have a key
    size_t n_published = 0;  // leading blocks that the index has
    // The block that the next token goes to may be written by this sequence alone. False after sharing it; reserve()
    // copies.
    bool tail_owned = false;
    atomic<int32_t> state{LARDER_KV_SEQ_ACTIVE};
    Ticket* ticket = nullptr;  // while LOADING, or suspending
    // RECURRENT groups: the slot with the state behind n_computed tokens. Like the tail block it may be shared (with a
    // checkpoint, with forks): then reserve() copies it. 0 is the null slot, the state before the first token.
    uint32_t slot = 0;
    bool slot_owned = false;
    uint64_t n_state_tokens = 0;
    uint32_t checkpoint = 0;  // held: the state behind n_checkpoint_tokens
    uint64_t n_checkpoint_tokens = 0;
    bool checkpoint_due = false;  // to be published when the blocks before it are, and then no longer held
    larder_key tail_key{};        // suspended with an unsealed block stored under this key
    larder_key state_key{};       // suspended with the state stored under this key
    uint32_t n_tail_tokens = 0;
    uint32_t epoch = 0;
};

// A lease: blocks held for whoever asked.
struct LeaseState {
    LeaseState() = default;
    explicit LeaseState(const Allocator& a) : chain(a), blocks(a) {}
    TokenChain chain;
    Vec<uint32_t> blocks;  // of each matched full block; 0: in a tier below
    uint32_t partial_block = 0;
    uint32_t n_partial = 0;
    uint32_t state = 0;
    uint64_t deadline_ns = 0;
    uint32_t epoch = 0;
};

// A plan that is out.
struct OutPlan {
    OutPlan() = default;
    explicit OutPlan(const Allocator& a) : ops(a), worst(a), waiters(a) {}
    Vec<PlanOp> ops;
    Vec<larder_status> worst;  // over the ranks that have reported
    Vec<Ticket*> waiters;
    uint64_t reported = 0;  // a bit per rank
    larder_seq seq = 0;     // whose blocks it seals
    Owned<Sequence> ended;  // the same, when it ended before the ranks reported: what to publish then
};

class Planner final : StatSource {
  public:
    Planner(larder_context& c, larder_layout& layout, PlannerConfig config, ChainScope scope, TierDirectory* below);
    ~Planner();
    Planner(const Planner&) = delete;
    larder_status init();  // before anything else

    // --- as in larder/plan.h. `out` receives a plan with id 0 when there is nothing to do --------------------
    larder_status match(const larder_kv_query* query, larder_kv_match_info& out);
    larder_status release_lease(larder_lease lease);
    // LARDER_PENDING: the sequence waits for `out` or for plans of others. LARDER_RETRY: run `out`, or wait for a
    // report, then ask again.
    larder_status begin(larder_lease lease, uint64_t max_load_tokens, larder_seq& out_seq, uint64_t& out_deadline_ns,
                        Plan& out);
    larder_status reserve(larder_seq seq, uint64_t n_tokens, uint64_t n_lookahead, Plan& out);
    larder_status commit(larder_seq seq, const int32_t* tokens, uint64_t n, Plan& out);
    larder_status append_keys(larder_seq seq, const larder_key* keys, uint64_t n);
    larder_status append_extra(larder_seq seq, const larder_kv_extra& extra);
    larder_status truncate(larder_seq seq, uint64_t n_tokens);
    larder_status checkpoint(larder_seq seq);
    larder_status fork(larder_seq seq, uint64_t n_tokens, std::span<larder_seq> out);
    larder_status suspend(larder_seq seq, bool offload, Plan& out);
    larder_status resume(larder_seq seq, uint64_t max_load_tokens, Plan& out);
    larder_status end(larder_seq seq);
    // Who is told when a waiting sequence has everything. False: it has already. out_n_plans: for how many plans it
    // waits.
    bool attach_job(larder_seq seq, JobRef job, uint32_t& out_n_plans) noexcept;
    bool waiting(larder_seq seq) noexcept;
    larder_status check_active(larder_seq seq) noexcept;
    larder_status seq_info(larder_seq seq, larder_kv_seq_info& out);
    larder_status view(const larder_seq* seqs, uint32_t n, const larder_kv_view_options* options);
    // Positions of reserved, uncommitted slots as (block, offset).
    larder_status locate(larder_seq seq, uint64_t position, uint32_t& block, uint32_t& offset);
    larder_status evict(uint64_t n_blocks, uint64_t& out_n_free, Plan& out);
    void flush(Plan& out);
    // Blocks to store because free ones run low; an empty plan when they do not.
    void write_back(Plan& out);
    bool write_back_due() const noexcept { return due_.load(relaxed); }
    larder_status explain(const larder_kv_query* query, void* out, uint32_t stride, uint64_t n, uint64_t& out_n);
    void info(larder_kv_info& out);

    // done receives the tickets that this report completed, linked by next; to be given to free_tickets().
    larder_status report(larder_plan_id plan, uint32_t rank, std::span<const larder_status> statuses, Ticket*& done);
    void free_tickets(Ticket* list) noexcept;
    // A plan that cannot be run for want of memory: its copies have been made, everything else has not happened. One
    // rank only.
    void abandon(larder_plan_id plan, Ticket*& done) noexcept;
    // What a load will come to is known before its layers arrive: cuts the sequences that wait for it.
    void loads_checked(larder_plan_id plan, std::span<const larder_status> statuses);
    larder_status rank_dead(uint32_t rank, Ticket*& done);
    larder_status rank_alive(uint32_t rank);
    template <class F> larder_status with_directory(F f) {
        std::lock_guard lock(mutex_);
        return f(*below_);
    }

    larder_status verify();  // every invariant; for tests
    void collect(StatSums& sums) const noexcept override;
    uint32_t block_tokens() const noexcept { return block_tokens_; }
    const larder_layout& layout() const noexcept { return layout_; }
    uint32_t n_plans_out() noexcept;
    uint32_t n_ranks() const noexcept { return config_.n_ranks; }

  private:
    struct SeqSlot {
        atomic<uint64_t> id{0};  // 0: free
        Owned<Sequence> seq;
        uint32_t generation = 0, uses = 0;
    };
    struct Found {  // a chain as far as it is there; holds nothing
        explicit Found(const Allocator& a) : blocks(a), tiers(a), qualities(a) {}
        Vec<uint32_t> blocks;  // 0: below
        Vec<uint32_t> tiers;   // LARDER_KV_IN_* bits
        Vec<uint8_t> qualities;
        uint32_t partial_block = 0, n_partial = 0;
        uint32_t state = 0;                                  // 0: below, or there are no states
        larder_quality tail_quality = LARDER_QUALITY_EXACT;  // of the partial block and the state
        larder_quality quality() const noexcept;
        void cut(size_t n) noexcept;
    };
    struct StateAt {
        uint32_t slot = 0;  // 0: below
        larder_quality quality = LARDER_QUALITY_EXACT;
    };
    struct Gathered {  // the same, held, until it is made a sequence's
        Gathered(const Allocator& a, BlockCache& c, BlockCache& s) : cache(c), states(s), blocks(a), qualities(a) {}
        ~Gathered();
        BlockCache& cache;
        BlockCache& states;
        Vec<uint32_t> blocks;  // 0: to be loaded
        Vec<uint8_t> qualities;
        size_t n_loads = 0;
        uint32_t partial_block = 0, n_partial = 0;
        larder_key tail_key{};  // a private record to be loaded behind the last block
        uint32_t n_tail = 0;
        uint32_t state = 0;  // held
        bool load_state = false, private_state = false;
        larder_key state_key{};
        larder_quality state_quality = LARDER_QUALITY_EXACT;
        size_t n_fresh() const noexcept { return n_loads + (n_partial || n_tail); }
        void drop_state() noexcept;
        void cut(size_t n_blocks) noexcept;
        void drop_partial() noexcept;
    };

    // planner.cpp: sequences, plans, tickets
    Result<Sequence*> find_seq(larder_seq seq) noexcept;
    Result<Sequence*> find_active(larder_seq seq) noexcept;
    larder_status check_alive() const noexcept;
    Result<larder_seq> new_seq(Owned<Sequence> s);
    void free_seq(larder_seq seq) noexcept;
    size_t blocks_for(uint64_t n_tokens) const noexcept {
        return size_t((n_tokens + block_tokens_ - 1) / block_tokens_);
    }
    // Enter a plan into the table of those that are out; every block that it names is held until all ranks have
    // reported.
    void send(Plan& plan, larder_seq seals_for = 0);
    Ticket* make_ticket(larder_seq seq);
    void unlink_ticket(Ticket* t) noexcept;
    void drop_ticket(Sequence& s) noexcept;
    larder_status view_rows(const larder_seq* seqs, uint32_t n, const larder_kv_view_options& o);
    void wait_for(larder_id plan, Ticket* t);

    // planner_match.cpp
    void drop_lease(larder_lease id) noexcept;
    larder_status find_chain(const TokenChain& c, uint64_t limit, Found& out);
    bool usable(uint32_t block, larder_quality min_quality) const noexcept;
    void gather(const TokenChain& c, const LeaseState* lease, size_t n_blocks, uint64_t max_load_tokens, Gathered& out);
    // Room for what must be loaded or copied; where there is none, less is loaded.
    larder_status fit(const TokenChain& c, Gathered& g, Plan& out);
    larder_status fit_blocks(const TokenChain& c, Gathered& g, Plan& out);
    // Make the gathered blocks the sequence's and plan what is missing. PENDING when the sequence has to wait.
    larder_status attach(Sequence& s, larder_seq id, Gathered& g, Plan& out);
    void load_into(Sequence& s, size_t i, uint32_t block, Plan& out);

    // planner_state.cpp
    bool has_states() const noexcept { return checkpoint_tokens_ != 0; }
    BlockCache& cache_of(const PlanOp& op) noexcept { return op.is_state() ? states_ : blocks_; }
    uint64_t& storing(const BlockCache& p) noexcept { return &p == &states_ ? n_storing_states_ : n_storing_; }
    bool find_state(const larder_key& key, larder_quality min_quality, StateAt& out) noexcept;
    void cut_to_state(const TokenChain& c, Found& f) noexcept;
    void gather_state(const TokenChain& c, Gathered& g) noexcept;
    void gather_own_state(const Sequence& s, Gathered& g) noexcept;
    void attach_state(Sequence& s, Gathered& g, Ticket* ticket, Plan& out);
    void take_state(Sequence& s, uint32_t slot, bool owned) noexcept;
    void drop_state(Sequence& s) noexcept;
    void drop_checkpoint(Sequence& s) noexcept;
    bool publish_state(uint32_t slot) noexcept;
    void hold_checkpoint(Sequence& s, bool due) noexcept;
    void publish_checkpoint(Sequence& s) noexcept;
    void forget_all(Sequence& s) noexcept;
    bool own_state(Sequence& s) noexcept;
    bool state_of(const Sequence& s, uint64_t n_tokens, uint32_t& slot) noexcept;
    larder_status no_state(const Sequence& s, uint64_t n_tokens) noexcept;
    static PlanOp state_op(PlanOpKind kind, uint32_t slot, const larder_key& key) noexcept;

    // planner_seq.cpp
    larder_status grow(Sequence& s, uint64_t n_total, Plan& out);
    void seal_up_to(larder_seq seq, Sequence& s, size_t n_full, Plan& out);
    void seal(Sequence& s, size_t i, Plan& out);
    void publish_ready(Sequence& s);
    void leave_to_plan(larder_seq id, Sequence& s);
    bool publish_chain(Sequence& s, size_t i);
    // 0: not published
    uint64_t publish_block(const TokenChain& c, size_t i, uint32_t block, uint64_t parent_entry);
    uint64_t entry_of(const larder_key& key) noexcept;
    void keep_blocks(Sequence& s, size_t n_keep) noexcept;
    void cut_chain(Sequence& s, uint64_t n_tokens) noexcept;

    // planner_evict.cpp
    larder_status make_room(BlockCache& p, size_t n_blocks, Plan& out);
    void evict_block(BlockCache& p, uint32_t b) noexcept;
    void unpublish(BlockCache& p, uint32_t b) noexcept;
    void collect_dirty(BlockCache& p, Plan& out, size_t n_max);
    bool add_store(Plan& out, BlockCache& p, uint32_t b, bool again = false);
    bool add_block(Plan& out, uint32_t b);
    void check_due() noexcept;
    void remember(const larder_key& key, larder_kv_reason why) noexcept;
    larder_kv_reason remembered(const larder_key& key) const noexcept;

    // planner_report.cpp
    larder_plan_id any_over() noexcept;  // a plan that waits for no living rank
    void complete(larder_plan_id id, Ticket*& done) noexcept;
    void finish_op(OutPlan& p, const PlanOp& op, larder_status s) noexcept;
    void note_stored(const PlanOp& op) noexcept;
    void load_failed(OutPlan& p, const PlanOp& op, larder_status why) noexcept;
    void settle(Ticket* t, Ticket*& done) noexcept;

    larder_context& context_;
    larder_layout& layout_;
    const PlannerConfig config_;
    const ChainScope scope_;
    TierDirectory* const below_;  // NULL: nothing is below
    const uint32_t block_tokens_;

    std::mutex mutex_;
    BlockCache blocks_;
    const uint64_t checkpoint_tokens_;  // 0: no RECURRENT groups
    BlockCache states_;                 // their slots; a published one is found by state_key()
    HashMap<larder_key, uint32_t, KeyHash, KeyEqual> state_of_;
    Owned<PrefixIndex> index_;
    Deque<SeqSlot> slots_;  // max_sequences of them; found without a lock
    Vec<uint32_t> free_slots_;
    LeaseTable<LeaseState> leases_;
    IdTable<OutPlan> plans_;
    Ticket* tickets_ = nullptr;
    atomic<bool> due_{false};     // write_back() has something to do
    uint32_t n_store_plans_ = 0;  // plans out that store blocks
    uint64_t n_storing_ = 0, n_storing_states_ = 0;
    Vec<uint32_t> unstored_;  // WRITE_THROUGH: blocks that sealed since the last write_back()
    uint64_t dead_ranks_ = 0;
    atomic<uint32_t> epoch_{0};  // rises when a rank dies
    struct Gone {
        larder_key key{};
        larder_kv_reason why = 0;
    };
    static constexpr size_t n_gone = 4096;
    Vec<Gone> gone_;  // ring, by hash of the key: what left all tiers not long ago
};

}  // namespace larder
