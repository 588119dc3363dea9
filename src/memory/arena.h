// The arena behind larder/arena.h, and what the kv room uses of it.
//
// The public functions map one to one to methods. Beyond them there is the unchecked side, by group and block number,
// for callers that hold a reference on what they name: block numbers of live blocks are stable, so a caller may keep
// (group, number) beside the id.
#pragma once

#include <mutex>
#include <span>

#include "core/layout.h"
#include "larder/arena.h"
#include "memory/arena_storage.h"
#include "memory/block_table.h"
#include "memory/contig.h"
#include "memory/shared_record.h"

namespace larder {

struct BlockRef {
    uint32_t group = 0;
    uint32_t number = 0;
};

// One layer group of an arena.
struct ArenaGroup {
    ArenaGroup(const Allocator& a, const larder_layer_group& i, uint32_t first_index, uint32_t n_blocks,
               uint32_t first_generation, const Cpus& cpus, bool empty)
        : info(i), pool(a, first_index, n_blocks, first_generation, cpus, 0, empty) {}
    // Table entries that n_tokens tokens need.
    uint64_t blocks_for(uint64_t n_tokens) const noexcept {
        if (info.kind == LARDER_GROUP_RECURRENT) return n_tokens ? 1 : 0;
        return n_tokens / info.block_tokens + (n_tokens % info.block_tokens != 0);
    }
    const larder_layer_group info;
    uint32_t index = 0;
    ArenaStorage* storage = nullptr;
    BlockPool pool;
    bool plain_alloc = false,
         plain_free = false;  // nothing to do but to take a block from the pool, or to give it back
    atomic<uint64_t> n_failures{0}, n_copies{0};
};

struct ArenaSeq {
    atomic<uint32_t> generation{0};
    atomic<uint32_t> live{0};
    uint64_t n_tokens = 0;
};

// Who copies the blocks that a write makes necessary.
struct CopyList {
    larder_arena_copy* items = nullptr;  // NULL: the arena copies
    uint32_t capacity = 0;
    uint32_t n = 0;
};

}  // namespace larder

struct larder_arena final : larder::Handle, larder::StatSource {
    using Group = larder::ArenaGroup;

    larder_arena(larder_context& c, larder_layout& layout, const larder_arena_options& o);
    ~larder_arena();
    static larder_status create(larder_context& c, larder_layout& layout, const larder_arena_options* options,
                                larder_arena** out);
    static larder_status import(larder_context& c, larder_layout& layout, const larder_arena_options* options,
                                const larder_arena_import_options* import_options, larder_arena** out);

    bool paged() const noexcept { return options_.mode == LARDER_ARENA_PAGED; }
    uint32_t n_groups() const noexcept { return uint32_t(layout_->groups.size()); }
    larder_layout& layout() const noexcept { return *layout_; }
    larder_context& owner() const noexcept { return *context; }
    larder_status group_query(uint32_t group, larder_arena_group_state& out) noexcept;
    larder_status layer_view(uint32_t group, uint32_t layer, larder_arena_layer& out) const noexcept;

    // --- blocks by id: any id is safe -----------------------------------------------------------
    larder_status alloc(uint32_t group, std::span<larder_block> out) noexcept {
        if (out.size() == 1 && group < groups_.size() && groups_[group]->plain_alloc) [[likely]]
            if ((out[0] = groups_[group]->pool.alloc_one())) [[likely]]
                return LARDER_OK;
        return alloc_any(group, out);
    }
    larder_status ref(std::span<const larder_block> blocks) noexcept;
    larder_status unref(std::span<const larder_block> blocks) noexcept {
        if (blocks.size() == 1)
            for (auto& g : groups_)
                if (g->plain_free && g->pool.free_one(blocks[0])) [[likely]]
                    return LARDER_OK;
        return unref_any(blocks);
    }
    larder_status seal(std::span<const larder_block> blocks) noexcept;
    larder::Result<larder::BlockRef> resolve(larder_block block) noexcept;  // E_STALE
    larder_status block_query(larder_block block, larder_arena_block_state& out) noexcept;
    larder_status block_address(larder_block block, uint32_t layer, larder_plane plane, void** out) noexcept;

    // --- blocks by number: the caller holds a reference; no check ----------------------------------
    larder_block id(larder::BlockRef b) const noexcept { return groups_[b.group]->pool.id(b.number); }
    uint32_t refs(larder::BlockRef b) const noexcept { return groups_[b.group]->pool.refs(b.number); }
    std::byte* address(larder::BlockRef b, uint32_t layer, larder_plane plane) const noexcept {
        return storage_->address(b.group, b.number, layer, larder::plane_index(plane));
    }
    bool host_visible() const noexcept { return !storage_ || storage_->host_visible(); }
    const larder::GroupShape& shape(uint32_t group) const noexcept { return shapes_[group]; }
    // The first n_tokens tokens in every layer, host memory.
    void copy_block(uint32_t group, uint32_t dst, uint32_t src, uint64_t n_tokens) noexcept {
        storage_->copy_block(group, dst, src, n_tokens);
    }

    // --- sequences ---------------------------------------------------------------------------------
    larder_status seq_create(larder_seq* out) noexcept;
    larder_status seq_destroy(larder_seq seq) noexcept;
    larder_status seq_append(larder_seq seq, uint64_t n_tokens, larder::CopyList& copies) noexcept;
    larder_status seq_make_writable(larder_seq seq, uint64_t first, uint64_t n, larder::CopyList& copies) noexcept;
    larder_status seq_truncate(larder_seq seq, uint64_t n_tokens) noexcept;
    larder_status seq_fork(larder_seq seq, uint64_t n_tokens, std::span<larder_seq> out) noexcept;
    larder_status seq_attach(larder_seq seq, uint32_t group, std::span<const larder_block> blocks,
                             uint64_t n_tokens) noexcept;
    larder_status seq_slide(larder_seq seq, uint64_t n_computed) noexcept;
    larder_status seq_length(larder_seq seq, uint64_t* out) noexcept;
    larder_status seq_blocks(larder_seq seq, uint32_t group, uint64_t first, std::span<larder_block> out) noexcept;
    larder_status seq_lookup(larder_seq seq, uint32_t group, std::span<const uint32_t> entries, int32_t* out) noexcept;
    larder_status seq_runs(larder_seq seq, uint32_t group, std::span<larder_arena_run> out, uint64_t* out_n) noexcept;
    larder_status seq_base(larder_seq seq, uint32_t group, uint32_t layer, larder_plane plane, void** out) noexcept;

    // --- exports -----------------------------------------------------------------------------------
    larder_status block_table(uint32_t group, std::span<const larder_seq> seqs, uint32_t n_rows, int32_t* dst,
                              uint64_t row_stride) noexcept;
    larder_status block_csr(uint32_t group, std::span<const larder_seq> seqs, uint32_t n_rows, int32_t* indptr,
                            int32_t* indices, uint64_t capacity, int32_t* last_page_len, uint64_t* out_n) noexcept;
    larder_status block_pointers(uint32_t group, uint32_t layer, larder_plane plane, std::span<const larder_seq> seqs,
                                 uint32_t n_rows, void** dst, uint64_t row_stride) noexcept;
    larder_status slot_mapping(uint32_t group, std::span<const larder_arena_range> ranges, void* dst,
                               uint32_t entry_bytes, uint64_t n_entries, uint64_t* out_n) noexcept;

    // --- several processes -------------------------------------------------------------------------
    larder_status export_fd(int32_t* out) noexcept;
    static larder_status join(larder_context& c, larder_layout& layout, const larder_arena_options* options,
                              larder::OsHandle file, larder_arena** out);
    larder_status reap(uint64_t* out) noexcept;

    larder_status verify();
    larder_status trim(uint64_t keep_bytes) noexcept;
    void collect(larder::StatSums& sums) const noexcept override;

  private:
    struct SeqRef {
        larder::ArenaSeq* seq = nullptr;
        uint32_t index = 0;
    };
    // Where the memory comes from, if not from the system.
    struct Source {
        const larder_arena_import_options* import = nullptr;
        larder::OsHandle join{};
    };
    larder_status set_up(const Source& source);
    larder_status set_up_paged(const Source& source);
    larder_status set_up_storage(const Source& source);
    static larder_status make(larder_context& c, larder_layout& layout, const larder_arena_options* options,
                              const Source& source, larder_arena** out);
    larder::SharedTerms terms() const noexcept;
    larder_status open_record(bool make);
    larder_status size_groups();
    larder_status divide_budget();
    larder::Result<SeqRef> find(larder_seq seq) noexcept;
    larder::Result<SeqRef> new_seq() noexcept;
    void free_seq(uint32_t index) noexcept;
    larder_seq seq_id(uint32_t index) const noexcept;
    larder::TableRoot& root(uint32_t seq_index, uint32_t group) noexcept {
        return roots_[size_t(seq_index) * groups_.size() + group];
    }
    Group* group_of(larder_block block) noexcept;
    larder::Recycler::ClearFn clear_of(const Group& g) const noexcept;
    larder::Recycler recycler(Group& g) noexcept;
    bool take_scarce(uint32_t group, std::span<uint32_t> out, uint32_t owner) noexcept;
    bool claim_chunk(uint32_t group) noexcept;
    bool take_ids(uint32_t group, std::span<larder_block> out) noexcept;
    larder_status alloc_any(uint32_t group, std::span<larder_block> out) noexcept;
    larder_status unref_any(std::span<const larder_block> blocks) noexcept;
    size_t unref_run(Group& g, std::span<const larder_block> blocks, larder_status& worst) noexcept;
    bool take_blocks(uint32_t group, std::span<uint32_t> out, uint32_t owner = larder::RunPool::none) noexcept;
    larder_status no_space(uint32_t group, uint64_t n) noexcept;
    larder_status no_entries() const noexcept;
    larder_status grow(SeqRef s, uint32_t group, uint64_t n_blocks) noexcept;
    larder_status copy_on_write(SeqRef s, uint32_t group, uint64_t entry, uint32_t n_tokens,
                                larder::CopyList& copies) noexcept;
    template <class EntryOf> void settle(SeqRef s, larder::CopyList& copies, bool keep, EntryOf entry_of) noexcept;
    larder_status append_paged(SeqRef s, uint64_t n_tokens, larder::CopyList& copies) noexcept;
    larder_status truncate_tables(SeqRef s, uint64_t n_tokens) noexcept;
    larder_status fork_into(SeqRef from, SeqRef to, uint64_t n_tokens) noexcept;
    larder_status hold(uint32_t group, larder_block block, uint32_t& number) noexcept;
    larder_status check_rows(uint32_t group, std::span<const larder_seq> seqs, uint32_t n_rows,
                             uint64_t row_stride) noexcept;
    larder_status check_group(uint32_t group) const noexcept;
    larder_status check_paged() const noexcept;
    larder_status check_plane(uint32_t group, uint32_t layer, larder_plane plane) const noexcept;

    larder_layout* layout_;
    larder_arena_options options_;
    larder::Vec<larder::GroupShape> shapes_;
    larder::Vec<larder::Owned<Group>> groups_;     // PAGED
    larder::Owned<larder::ArenaStorage> storage_;  // PAGED
    larder::Owned<larder::SharedRecord> record_;   // PAGED in shared memory, or NULL
    larder::Owned<larder::BlockTables> tables_;    // PAGED
    larder::Vec<larder::TableRoot> roots_;         // [max_seqs][n_groups], PAGED
    larder::Owned<larder::ContigStorage> contig_;  // CONTIGUOUS
    larder::Deque<larder::ArenaSeq> seqs_;         // [max_seqs]
    std::mutex seq_mutex_;
    larder::Vec<uint32_t> free_seqs_;
    bool counted_ = false;  // attached to the context's statistics
};
