// Virtually contiguous KV memory (vAttention): each sequence slot owns an address range per layer and plane, and memory
// appears in it by granules ahead of need.
//
// ANON: granules are committed in place, once; a finished sequence's memory stays for the next one in that slot, so
// that growth in the steady state is a comparison. MEMFD: granules come from a shared file, so that two ranges can show
// the same ones: a fork shares every granule that is full. A granule row is one granule in each layer of a group, all
// of the same plane; it is the unit of accounting and sharing.
#pragma once

#include <condition_variable>
#include <mutex>

#include "memory/arena_storage.h"
#include "memory/slot_pool.h"

namespace larder {

class ContigStorage {
  public:
    ContigStorage(larder_context& c, const Vec<GroupShape>& shapes, const larder_arena_options& o);
    ~ContigStorage();
    ContigStorage(const ContigStorage&) = delete;
    // Address space and, with MEMFD, the file. After a failure the object may only be destroyed.
    larder_status reserve();

    std::byte* base(uint32_t slot, uint32_t group, uint32_t layer, uint32_t plane) const noexcept;
    uint64_t range_bytes(uint32_t group, uint32_t plane) const noexcept;  // 0 for a plane that the group has not
    uint64_t granule_bytes() const noexcept { return granule_; }
    uint64_t mapped_bytes(uint32_t group) const noexcept;

    // A slot changes hands. (Each call on a slot, but for these two, is made by the thread that uses the sequence.) A
    // retired slot keeps its memory until it is reclaimed.
    void activate(uint32_t slot) noexcept;
    void retire(uint32_t slot) noexcept;
    // Tokens [first, first + n) exist, private to this slot, and may be written; memory ahead of them is a wish.
    // E_NOSPACE at the budget.
    larder_status prepare_write(uint32_t slot, uint64_t first, uint64_t n) noexcept;
    // dst, an active slot without tokens, shows the first n_tokens of src.
    larder_status fork(uint32_t src, uint32_t dst, uint64_t n_tokens) noexcept;
    // Unmap granules of retired slots until at most keep_bytes of them are mapped.
    larder_status trim(uint64_t keep_bytes) noexcept;
    larder_status verify();

  private:
    // One plane of one group.
    struct Pool {
        Pool(const Allocator& a, uint32_t n, const Cpus& cpus, bool shared, uint32_t n_slots)
            : free_rows(a, 0, shared ? n : 0, cpus), refs(a, shared ? n : 0), rows(a), n_mapped(a),
              n_solid(a, n_slots) {}
        std::byte* region = nullptr;  // [n_layers][max_seqs] ranges
        uint64_t token_bytes = 0;
        uint64_t range_bytes = 0;
        uint64_t region_bytes = 0;
        uint32_t n_layers = 0;
        uint32_t range_granules = 0;
        bool per_sequence = false;  // one state instead of one entry per token
        uint64_t file_offset = 0;   // MEMFD: [n_layers][n_rows] granules from here
        uint32_t n_rows = 0;
        SlotPool free_rows;               // MEMFD
        AtomicArray<uint32_t> refs;       // MEMFD: ranges that show a row
        Vec<uint32_t> rows;               // MEMFD: [max_seqs][range_granules], SlotPool::none: nothing of ours is there
        Vec<uint32_t> n_mapped;           // [max_seqs] granules from the start that are mapped, holes included
        AtomicArray<uint32_t> n_solid;    // [max_seqs] granules from the start without a hole
        atomic<uint64_t> mapped_rows{0};  // with memory behind them
    };

    uint64_t bytes_for(const Pool& p, uint64_t n_tokens) const noexcept {
        return p.per_sequence ? (n_tokens ? p.token_bytes : 0) : n_tokens * p.token_bytes;
    }
    std::byte* range(const Pool& p, uint32_t slot, uint32_t layer) const noexcept {
        return p.region + (uint64_t(layer) * max_seqs_ + slot) * p.range_bytes;
    }
    uint32_t& row_at(Pool& p, uint32_t slot, uint32_t granule) noexcept {
        return p.rows[size_t(slot) * p.range_granules + granule];
    }

    uint64_t row_offset(const Pool& p, uint32_t layer, uint32_t row) const noexcept {
        return p.file_offset + (uint64_t(layer) * p.n_rows + row) * granule_;
    }

    larder_status reserve_pool(const GroupShape& s, uint32_t plane, uint64_t& file_bytes);
    uint32_t granules_for(const Pool& p, uint64_t n_tokens) const noexcept {
        return uint32_t((bytes_for(p, n_tokens) + granule_ - 1) / granule_);
    }
    bool covers(uint32_t slot, uint64_t n_tokens) const noexcept;
    bool affords(uint32_t slot, uint64_t n_tokens) const noexcept;
    void look_ahead(uint32_t slot, uint64_t n_tokens) noexcept;
    larder_status grow_all(uint32_t slot, uint64_t n_tokens) noexcept;
    void wish(uint32_t slot, uint64_t n_tokens) noexcept;
    void wake() noexcept;
    void run_background() noexcept;
    larder_status grow(Pool& p, uint32_t slot, uint32_t n_granules) noexcept;
    larder_status grow_anon(Pool& p, uint32_t slot, uint32_t n_granules) noexcept;
    larder_status grow_shared(Pool& p, uint32_t slot, uint32_t n_granules) noexcept;
    larder_status map_rows(Pool& p, uint32_t slot, uint32_t granule, uint32_t row, uint32_t n) noexcept;
    larder_status make_private(Pool& p, uint32_t slot, uint32_t granule) noexcept;
    larder_status fork_plane(Pool& p, uint32_t src, uint32_t dst, uint64_t n_bytes) noexcept;
    larder_status new_row(Pool& p, uint32_t& out) noexcept;
    void drop_row(Pool& p, uint32_t row) noexcept;
    larder_status charge(uint64_t n_bytes) noexcept;
    void discard(Pool& p, uint32_t slot, uint32_t layer, uint32_t granule, uint32_t n) noexcept;
    bool reclaim_idle(uint64_t n_bytes) noexcept;
    void reclaim_slot(uint32_t slot) noexcept;
    larder_status verify_pool(Pool& p, uint64_t& bytes);

    larder_context& context_;
    const bool shared_;
    const uint32_t max_seqs_, n_lookahead_, map_flags_;
    const uint64_t max_seq_tokens_, budget_bytes_, granule_;
    const Vec<GroupShape>& shapes_;
    Vec<Owned<Pool>> pools_;  // [group][plane]; NULL where a group has no such plane
    atomic<uint64_t> mapped_bytes_{0};
    std::byte* scratch_ = nullptr;  // MEMFD: where a new row is filled before it replaces a shared one
    std::mutex scratch_mutex_;
    OsHandle memfd_;
    std::mutex idle_mutex_;  // idle_ and the memory of idle slots
    Vec<uint8_t> idle_;      // [max_seqs]
    // Taken before idle_mutex_: changes of what an active slot shows.
    Deque<std::mutex> slot_mutexes_;  // [max_seqs]

    const bool background_;
    const uint64_t warm_bytes_;
    AtomicArray<uint64_t> wishes_;  // [max_seqs] tokens that there should be memory for; 0: nothing is wished
    std::mutex background_mutex_;
    std::condition_variable background_wakes_;
    bool woken_ = false, stopping_ = false;
    std::mutex round_mutex_;  // held while the thread changes something
    uint64_t thread_ = 0;
};

}  // namespace larder
