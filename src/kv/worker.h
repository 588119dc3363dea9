// The worker: one rank's memory, its tiers and the codec between them. Applies plans, decides nothing.
#pragma once

#include <mutex>
#include <span>

#include "codec/codec.h"
#include "codec/stream.h"
#include "core/plan.h"
#include "kv/directory.h"
#include "kv/shard.h"
#include "memory/arena_storage.h"
#include "store/store.h"

namespace larder {

struct WorkerConfig {
    uint32_t n_blocks = 0;  // without the null block
    uint32_t n_states = 0;  // state slots, without the null slot
    Shard shard;
    uint64_t host_bytes = 0;
    const char* directory = nullptr;
    uint64_t file_bytes = 0, segment_bytes = 0;
    const char* codec = nullptr;
    bool write_through = false;
    bool engine_memory = false;
};

// One record of the tiers.
struct InventoryEntry {
    larder_key key{}, parent{};
    uint32_t n_tokens = 0;
    larder_quality quality = 0;
};

// Told about the progress of a plan; all members may be NULL.
struct PlanWatch {
    void* ctx = nullptr;
    // What a load will come to is known: all records have been read and verified, or have failed. With layers_done it
    // is called before the first layer is there.
    void (*checked)(void* ctx, std::span<const larder_status> statuses) = nullptr;
    void (*layers_done)(void* ctx, uint32_t n) = nullptr;
    void (*moved)(void* ctx, uint64_t n_bytes) = nullptr;
    bool (*cancelled)(void* ctx) = nullptr;
};

// Memory that is not cleared, owned.
struct RecordBuffer {
    RecordBuffer() = default;
    RecordBuffer(RecordBuffer&& o) noexcept { swap(o); }
    RecordBuffer& operator=(RecordBuffer&& o) noexcept { return swap(o), *this; }
    ~RecordBuffer() { a.free(p, n_bytes, 64); }
    // At least n bytes; what was in it is lost.
    std::byte* make(const Allocator& allocator, uint64_t n) {
        if (n <= n_bytes) return p;
        a.free(p, n_bytes, 64);
        p = nullptr;
        n_bytes = 0;
        a = allocator;
        p = static_cast<std::byte*>(a.alloc(n, 64));
        n_bytes = n;
        return p;
    }
    void swap(RecordBuffer& o) noexcept {
        std::swap(a, o.a);
        std::swap(p, o.p);
        std::swap(n_bytes, o.n_bytes);
    }
    Allocator a;
    std::byte* p = nullptr;
    uint64_t n_bytes = 0;
};

// Of the record of a state slot (docs/formats/block.md).
inline constexpr size_t state_head_bytes = 8;

class Worker {
  public:
    Worker(larder_context& c, larder_layout& layout, const WorkerConfig& config);
    ~Worker();
    Worker(const Worker&) = delete;
    larder_status init(const WorkerConfig& config);

    larder_status layer_view(uint32_t group, uint32_t layer, larder_kv_layer_view& out) const noexcept;
    larder_status add_tensor(const larder_worker_tensor& t);
    larder_status check_ready() const noexcept;  // E_STATE while tensors are missing
    larder_status check(const Plan& plan) const noexcept;

    // Runs a plan on the calling thread; one status per operation. Several threads may run plans at once.
    void run(const Plan& plan, std::span<larder_status> statuses, const PlanWatch& watch) noexcept;
    void run_copies(const Plan& plan) noexcept;  // the part of run() that cannot fail
    // n tokens' rows in every layer; host memory.
    void copy_rows(uint32_t to_block, uint32_t to, uint32_t from_block, uint32_t from, uint32_t n) noexcept;

    larder_store* store() const noexcept { return store_; }
    const larder_key& identity() const noexcept { return identity_; }  // of this rank's shard
    larder_quality quality() const noexcept { return codec_ ? codec_->quality() : LARDER_QUALITY_EXACT; }
    uint32_t n_layers() const noexcept { return n_layers_; }  // over all groups
    uint64_t block_bytes() const noexcept { return block_bytes_; }
    const larder_layout& layout() const noexcept { return layout_; }
    // Appends what the tiers hold of this shard.
    larder_status inventory(Vec<InventoryEntry>& out);

  private:
    struct Group {
        explicit Group(const Allocator& a) : views(a) {}
        GroupShape shape;  // of this rank, with the planner's blocks
        larder_stream_shape stream{};
        bool is_state() const noexcept { return shape.is_state; }
        uint32_t split = 1;               // blocks of the group in one of the planner's
        Vec<larder_kv_layer_view> views;  // one per layer of this rank, with the planner's blocks
    };
    struct Load;  // a record on its way
    larder_status init_groups();
    void init_group(uint32_t g);
    // What the tensors of a layer look like to the engine, and back.
    static larder_kv_layer_view outside(const Group& g, larder_kv_layer_view v) noexcept;
    static larder_kv_layer_view inside(const Group& g, larder_kv_layer_view v) noexcept;
    larder_status check_tensor(const Group& g, const larder_worker_tensor& t) const noexcept;
    uint32_t local_tokens(const PlanOp& op) const noexcept { return shard_.local_tokens(op.n_tokens); }
    larder_status init_store(const WorkerConfig& config);
    larder_status init_codec(const WorkerConfig& config);

    void run_loads(const Plan& plan, std::span<larder_status> statuses, const PlanWatch& watch);
    static void fail_loads(const Plan& plan, std::span<larder_status> statuses) noexcept;
    void load_by_layers(const Plan& plan, std::span<Load> loads, RecordBuffer& buffer,
                        std::span<larder_status> statuses, const PlanWatch& watch);
    void load_by_blocks(const Plan& plan, std::span<Load> loads, RecordBuffer& buffer,
                        std::span<larder_status> statuses, const PlanWatch& watch);
    void count_loaded(std::span<const Load> loads, std::span<const larder_status> statuses) noexcept;
    RecordBuffer borrow_buffer() noexcept;
    void give_back(RecordBuffer buffer) noexcept;
    void place_records(std::span<Load* const> loads, std::span<larder_store_get_item> items, RecordBuffer& buffer);
    void read_records(std::span<Load> loads, RecordBuffer& buffer, std::span<larder_status> statuses,
                      const PlanWatch& watch);
    larder_status missing(const larder_key& key);
    larder_status parse(Load& l) const;
    larder_status check_stream(const Group& g, const PlanOp& op, ByteSpan stream,
                               uint64_t& workspace_bytes) const noexcept;
    size_t record_header_bytes() const noexcept;
    uint64_t state_record_bytes() const noexcept;
    struct DecodeScratch {
        explicit DecodeScratch(const Allocator& a) : planes(a), workspace(a) {}
        Vec<larder_stream_plane> planes;
        Vec<std::byte> workspace;
    };
    void decode_layers(std::span<const Load> loads, std::span<larder_status> statuses, const PlanWatch& watch);
    larder_status decode_block(const Load& l, DecodeScratch& scratch);
    larder_status decode_group(const Load& l, uint32_t group, uint32_t first_layer, uint32_t n_layers,
                               DecodeScratch& scratch);
    void load_scales(const Load& l, uint32_t group, uint32_t layer) noexcept;
    larder_status parse_state(Load& l) const;
    void copy_state(uint32_t to, uint32_t from) noexcept;
    void load_state_layer(const Load& l, uint32_t group, uint32_t layer) noexcept;
    void encode_state(const PlanOp& op, Vec<std::byte>& record);
    larder_status encode_block(const PlanOp& op, Vec<std::byte>& record, Vec<std::byte>& workspace);
    larder_status run_store(const PlanOp& op, Vec<std::byte>& record, Vec<std::byte>& workspace);
    larder_status encode_group(size_t index, const PlanOp& op, Vec<std::byte>& record, Vec<std::byte>& workspace);
    static uint64_t scale_record_bytes(const Group& g) noexcept;
    static void set_planes(larder_stream_plane* kv, const larder_kv_layer_view& v, uint32_t block) noexcept;

    larder_context& context_;
    larder_layout& layout_;
    const uint32_t n_blocks_, n_states_;
    const Shard shard_;
    const uint32_t block_tokens_;  // the planner's
    const bool engine_memory_;
    Vec<Group> groups_;
    Owned<ArenaStorage> storage_;
    larder_codec* codec_ = nullptr;
    larder_store* store_ = nullptr;
    bool has_file_ = false;
    larder_key identity_{};
    uint32_t n_layers_ = 0;
    uint64_t block_bytes_ = 0;
    uint64_t record_bound_ = 0;
    std::mutex buffer_mutex_;
    RecordBuffer spare_;
};

// What a kv's planner sees of its own worker's store.
class StoreDirectory final : public TierDirectory {
  public:
    explicit StoreDirectory(Worker& w) noexcept : worker_(w) {}
    StoredAt find(const larder_key& key, larder_quality min_quality) noexcept override;
    void stored(const larder_key&, larder_quality) override {}
    void lost(const larder_key&) noexcept override {}
    void rank_lost(uint32_t) noexcept override {}
    void rank_has(uint32_t, const larder_key&, larder_quality) override {}

  private:
    Worker& worker_;
};

}  // namespace larder
