#include "kv/ranks.h"

#include "base/crc32c.h"
#include "kv/kv.h"

namespace larder {

StoredAt ReportedDirectory::find(const larder_key& key, larder_quality min_quality) noexcept {
    const auto it = known_.find(key);
    if (it == known_.end() || it->second.ranks != all_) return {};
    return {it->second.quality <= min_quality ? LARDER_KV_IN_HOST : 0, it->second.quality};
}

void ReportedDirectory::stored(const larder_key& key, larder_quality quality) {
    known_[key] = {all_, quality};
}

void ReportedDirectory::lost(const larder_key& key) noexcept {
    known_.erase(key);
}

void ReportedDirectory::rank_lost(uint32_t rank) noexcept {
    for (auto it = known_.begin(); it != known_.end();) {
        it->second.ranks &= ~(uint64_t(1) << rank);
        it = it->second.ranks ? std::next(it) : known_.erase(it);
    }
}

void ReportedDirectory::rank_has(uint32_t rank, const larder_key& key, larder_quality quality) {
    Known& k = known_[key];
    k.ranks |= uint64_t(1) << rank;
    k.quality = std::max(k.quality, quality);
}

namespace {

constexpr uint32_t inventory_magic = 0x564e494c;  // "LINV"
constexpr uint16_t inventory_version = 1;
constexpr size_t at_crc = 8, after_crc = 12;

uint32_t checksum(ByteSpan b) noexcept {
    return crc32c(crc32c(0, b.data(), at_crc), b.data() + after_crc, b.size() - after_crc);
}

}  // namespace

void inventory_write(const larder_key& layout, std::span<const InventoryEntry> entries, MutByteSpan out) noexcept {
    std::memset(out.data(), 0, out.size());
    std::byte* p = out.data();
    store_le(p, inventory_magic);
    store_le(p + 4, inventory_version);
    store_le(p + 6, uint16_t(inventory_header_bytes));
    store_le(p + 16, uint64_t(entries.size()));
    std::memcpy(p + 24, layout.bytes, sizeof layout.bytes);
    p += inventory_header_bytes;
    for (const InventoryEntry& e : entries) {
        std::memcpy(p, e.key.bytes, 32);
        std::memcpy(p + 32, e.parent.bytes, 32);
        store_le(p + 64, e.n_tokens);
        store_le(p + 68, e.quality);
        p += inventory_entry_bytes;
    }
    store_le(out.data() + at_crc, checksum(out));
}

larder_status inventory_check(ByteSpan b, const larder_key& layout, uint64_t& out_n) noexcept {
    const std::byte* p = b.data();
    if (b.size() < inventory_header_bytes)
        return fail(LARDER_E_TRUNCATED, "inventory", "an inventory has at least %zu bytes", inventory_header_bytes);
    if (load_le<uint32_t>(p) != inventory_magic)
        return fail(LARDER_E_FORMAT, "inventory.magic", "these bytes are not an inventory");
    if (load_le<uint16_t>(p + 4) > inventory_version)
        return fail(LARDER_E_VERSION, "inventory.version", "the inventory has version %u", load_le<uint16_t>(p + 4));
    if (load_le<uint16_t>(p + 4) != inventory_version || load_le<uint16_t>(p + 6) != inventory_header_bytes)
        return fail(LARDER_E_FORMAT, "inventory.header", "the inventory's header is not that of version %u",
                    inventory_version);
    out_n = load_le<uint64_t>(p + 16);
    const uint64_t room = (b.size() - inventory_header_bytes) / inventory_entry_bytes;
    if (out_n > room) return fail(LARDER_E_TRUNCATED, "inventory", "the inventory ends before its last entry");
    if (b.size() != inventory_header_bytes + out_n * inventory_entry_bytes)
        return fail(LARDER_E_FORMAT, "inventory", "there are bytes behind the inventory");
    if (load_le<uint32_t>(p + at_crc) != checksum(b))
        return fail(LARDER_E_CORRUPT, "inventory.crc", "the inventory's checksum does not hold");
    if (std::memcmp(p + 24, layout.bytes, sizeof layout.bytes))
        return fail(LARDER_E_IDENTITY, "inventory.layout", "the inventory is for another layout");
    for (uint64_t i = 0; i < out_n; ++i) {
        const larder_quality q = inventory_at(b, i).quality;
        if (q < LARDER_QUALITY_EXACT || q > LARDER_QUALITY_APPROXIMATE)
            return fail(LARDER_E_FORMAT, "inventory.entries", "entry %llu is not valid", (unsigned long long)i);
    }
    return LARDER_OK;
}

InventoryEntry inventory_at(ByteSpan b, uint64_t i) noexcept {
    const std::byte* p = b.data() + inventory_header_bytes + i * inventory_entry_bytes;
    InventoryEntry e;
    std::memcpy(e.key.bytes, p, 32);
    std::memcpy(e.parent.bytes, p + 32, 32);
    e.n_tokens = load_le<uint32_t>(p + 64);
    e.quality = load_le<int32_t>(p + 68);
    return e;
}

namespace {

// Sets up a handle made by make_handle, or drops it; the error that led to it is kept.
template <class T, class F> larder_status finish_handle(larder_context& c, T* h, T** out, F set_up) {
    larder_status s;
    try {
        s = set_up(*h);
    } catch (...) {
        c.drop_handle(h);
        throw;
    }
    if (s >= 0) {
        *out = h;
        return LARDER_OK;
    }
    const larder_error_info why = last_error();
    c.drop_handle(h);
    set_last_error(why);
    return s;
}

larder_status check_states(const larder_layout& layout, uint32_t n_states) {
    if (checkpoint_tokens_of(layout)) return check_range(n_states, 2, Id::max_index - 1, "n_states");
    return n_states ? fail(LARDER_E_INVALID, "n_states", "the layout has no RECURRENT groups") : LARDER_OK;
}

larder_status read_planner_options(const larder_planner_options* user, larder_planner_options& o) {
    LARDER_TRY(read_options(user, o, "larder_planner_options"));
    LARDER_TRY(check_reserved(o.flags, "flags"));
    LARDER_TRY(check_reserved(o.reserved0, "reserved0"));
    for (uint32_t* n : {&o.n_tp, &o.n_pp, &o.n_cp, &o.n_dp})
        if (!*n) *n = 1;
    LARDER_TRY(check_range(o.n_tp, 1, 64, "n_tp"));
    LARDER_TRY(check_range(o.n_pp, 1, 64, "n_pp"));
    LARDER_TRY(check_range(o.n_cp, 1, 64, "n_cp"));
    LARDER_TRY(check_range(o.n_dp, 1, 64, "n_dp"));
    LARDER_TRY(check_range(uint64_t(o.n_tp) * o.n_pp * o.n_cp * o.n_dp, 1, 64, "n_tp"));
    LARDER_TRY(check_range(o.n_blocks, 2, Id::max_index - 1, "n_blocks"));
    if (!o.write_policy) o.write_policy = LARDER_KV_WRITE_BACK;
    LARDER_TRY(check_range(uint32_t(o.write_policy), LARDER_KV_WRITE_BACK, LARDER_KV_WRITE_THROUGH, "write_policy"));
    if (!o.max_sequences) o.max_sequences = 1024;
    LARDER_TRY(check_range(o.max_sequences, 1, 65536, "max_sequences"));
    LARDER_TRY(check_range(o.has_store, 0, 1, "has_store"));
    LARDER_TRY(check_range(o.approximate, 0, 1, "approximate"));
    return check_watermarks(o.low_watermark, o.high_watermark);
}

}  // namespace
}  // namespace larder

using namespace larder;

larder_planner::~larder_planner() {
    planner.reset();
    if (layout) layout->unref();
}

larder_status larder_planner::create(larder_context& c, larder_layout& layout, const larder_planner_options* user,
                                     larder_planner** out) {
    larder_planner_options o;
    LARDER_TRY(read_planner_options(user, o));
    LARDER_TRY(check_groups(layout, o.n_tp, o.n_cp, o.n_blocks));
    LARDER_TRY(check_states(layout, o.n_states));
    return finish_handle(c, c.make_handle<larder_planner>(c), out, [&](larder_planner& p) -> larder_status {
        p.layout = layout.ref();
        ChainScope scope;
        LARDER_TRY(read_scope(layout, o.tenant_key, o.salt, c.alloc, scope));
        PlannerConfig config;
        config.n_blocks = uint32_t(o.n_blocks);
        config.n_ranks = o.n_tp * o.n_pp * o.n_cp * o.n_dp;
        config.n_cp = o.n_cp;
        config.n_states = o.n_states;
        config.max_sequences = o.max_sequences;
        config.low_watermark = o.low_watermark;
        config.high_watermark = o.high_watermark;
        config.write_policy = o.write_policy;
        config.store_quality = o.approximate ? LARDER_QUALITY_APPROXIMATE : LARDER_QUALITY_EXACT;
        config.publish_at_commit = false;
        if (o.has_store) p.below = make_owned<ReportedDirectory>(c.alloc, c.alloc, config.n_ranks);
        p.planner = make_owned<Planner>(c.alloc, c, layout, config, std::move(scope), p.below.get());
        return p.planner->init();
    });
}

larder_status larder_planner::import_inventory(uint32_t rank, ByteSpan bytes) {
    uint64_t n = 0;
    LARDER_TRY(check_range(rank, 0, planner->n_ranks() - 1, "rank"));
    LARDER_TRY(inventory_check(bytes, layout->identity, n));
    if (!below) return fail(LARDER_E_STATE, "planner", "the planner was made without a store");
    return planner->with_directory([&](TierDirectory& d) {
        for (uint64_t i = 0; i < n; ++i) {
            const InventoryEntry e = inventory_at(bytes, i);
            if (e.n_tokens == planner->block_tokens()) d.rank_has(rank, e.key, e.quality);
        }
        return LARDER_OK;
    });
}

struct larder_worker::PlanTask final : Task {
    PlanTask(larder_worker& w, const Plan& p)
        : worker(w), plan(p), statuses(p.ops.size(), LARDER_OK, w.context->alloc) {}
    larder_worker& worker;
    Plan plan;
    Vec<larder_status> statuses;
    JobRef job;
    PlanWatch watch() noexcept {
        PlanWatch w;
        w.ctx = this;
        if (!job.queue) return w;
        w.cancelled = [](void* t) {
            auto* p = static_cast<PlanTask*>(t);
            return p->job.queue->cancelled(p->job.job);
        };
        w.moved = [](void* t, uint64_t n) {
            auto* p = static_cast<PlanTask*>(t);
            p->job.queue->add_bytes(p->job.job, n);
        };
        w.layers_done = [](void* t, uint32_t n) {
            auto* p = static_cast<PlanTask*>(t);
            p->job.queue->layers_done(p->job.job, n);
        };
        return w;
    }
};

larder_worker::~larder_worker() {
    std::unique_lock lock(mutex_);
    while (n_running_) {
        lock.unlock();
        context->scheduler.progress(1);
        lock.lock();
        if (n_running_) ran_.wait_for(lock, std::chrono::milliseconds(1));
    }
}

larder_status larder_worker::create(larder_context& c, larder_layout& layout, const larder_worker_options* user,
                                    larder_worker** out) {
    larder_worker_options o;
    LARDER_TRY(read_options(user, o, "larder_worker_options"));
    LARDER_TRY(check_reserved(o.flags, "flags"));
    for (uint32_t* n : {&o.n_tp, &o.n_pp, &o.n_cp, &o.n_dp})
        if (!*n) *n = 1;
    LARDER_TRY(check_range(o.n_tp, 1, 64, "n_tp"));
    LARDER_TRY(check_range(o.n_pp, 1, 64, "n_pp"));
    LARDER_TRY(check_range(o.n_cp, 1, 64, "n_cp"));
    LARDER_TRY(check_range(o.tp, 0, o.n_tp - 1, "tp"));
    LARDER_TRY(check_range(o.pp, 0, o.n_pp - 1, "pp"));
    LARDER_TRY(check_range(o.cp, 0, o.n_cp - 1, "cp"));
    LARDER_TRY(check_range(o.dp, 0, o.n_dp - 1, "dp"));
    LARDER_TRY(check_range(o.n_layers, 0, UINT32_MAX - o.first_layer, "n_layers"));
    LARDER_TRY(check_range(o.n_blocks, 2, Id::max_index - 1, "n_blocks"));
    LARDER_TRY(check_range(o.engine_memory, 0, 1, "engine_memory"));
    if ((o.file_bytes || o.segment_bytes) && !o.directory)
        return fail(LARDER_E_INVALID, "directory", "file_bytes and segment_bytes need a directory");
    LARDER_TRY(check_groups(layout, o.n_tp, o.n_cp, o.n_blocks));
    LARDER_TRY(check_states(layout, o.n_states));
    WorkerConfig w;
    w.n_states = o.n_states;
    w.n_blocks = uint32_t(o.n_blocks);
    w.shard.tp = o.tp;
    w.shard.n_tp = o.n_tp;
    w.shard.cp = o.cp;
    w.shard.n_cp = o.n_cp;
    split_layers(layout, o.pp, o.n_pp, w.shard);
    if (o.n_layers) {
        w.shard.first_layer = o.first_layer;
        w.shard.end_layer = o.first_layer + o.n_layers;
    } else if (o.first_layer) {
        return fail(LARDER_E_INVALID, "n_layers", "first_layer is given without n_layers");
    }
    w.host_bytes = o.host_bytes;
    w.directory = o.directory;
    w.file_bytes = o.file_bytes;
    w.segment_bytes = o.segment_bytes;
    w.codec = o.codec;
    w.engine_memory = o.engine_memory;
    return finish_handle(c, c.make_handle<larder_worker>(c), out, [&](larder_worker& h) -> larder_status {
        h.worker = make_owned<Worker>(c.alloc, c, layout, w);
        return h.worker->init(w);
    });
}

void larder_worker::run_task(PlanTask& t) noexcept {
    worker->run(t.plan, t.statuses, t.watch());
    if (t.job.queue) {
        for (size_t i = 0; i < t.statuses.size(); ++i)
            if (t.statuses[i] < 0) t.job.queue->item_failed(t.job.job, i, t.statuses[i]);
    }
    {
        std::lock_guard lock(mutex_);
        Report& r = reports_.find(t.plan.id)->second;
        r.statuses.swap(t.statuses);
        r.done = true;
    }
    if (t.job.queue) t.job.queue->finish(t.job.job, LARDER_OK);
}

// A plan that gets no job is not here: it may be submitted again.
Result<larder_job> larder_worker::begin_job(larder_queue& queue, uint64_t user_data, larder_plan_id plan) {
    const auto forget = [&] {
        std::lock_guard lock(mutex_);
        reports_.erase(plan);
    };
    try {
        auto job = queue.begin(user_data, worker->n_layers());
        if (!job.ok()) forget();
        return job;
    } catch (...) {
        forget();
        throw;
    }
}

larder_status larder_worker::submit(const Plan& plan, larder_queue* queue, uint64_t user_data, larder_job* out_job) {
    LARDER_TRY(worker->check(plan));
    PlanTask* t = context->alloc.create<PlanTask>(*this, plan);
    Owned<PlanTask> owner(t, AllocDelete<PlanTask>(context->alloc));
    {
        std::lock_guard lock(mutex_);
        if (!reports_.try_emplace(plan.id, context->alloc).second)
            return fail(LARDER_E_EXISTS, "plan", "this plan was submitted already and its report not taken");
    }
    if (!queue) {
        run_task(*t);
        return LARDER_OK;
    }
    const auto job = begin_job(*queue, user_data, plan.id);
    if (!job.ok()) return job.status();
    t->job = {queue, *job};
    if (out_job) *out_job = *job;
    t->run = [](Task* task) noexcept {
        auto* p = static_cast<PlanTask*>(task);
        larder_worker& w = p->worker;
        w.run_task(*p);
        w.context->alloc.destroy(p);
        std::lock_guard lock(w.mutex_);
        --w.n_running_;
        w.ran_.notify_all();
    };
    {
        std::lock_guard lock(mutex_);
        ++n_running_;
    }
    context->scheduler.submit(owner.release());
    return LARDER_PENDING;
}

larder_status larder_worker::take_report(larder_plan_id plan, larder_status* statuses, uint64_t n, uint64_t& out_n) {
    std::lock_guard lock(mutex_);
    const auto it = reports_.find(plan);
    if (it == reports_.end()) return fail(LARDER_E_STALE, "plan", "no such plan, or its report was taken already");
    if (!it->second.done) return LARDER_PENDING;
    out_n = it->second.statuses.size();
    if (n < out_n)
        return fail(LARDER_E_BUFFER_TOO_SMALL, "n", "the plan has %llu operations", (unsigned long long)out_n);
    std::copy(it->second.statuses.begin(), it->second.statuses.end(), statuses);
    reports_.erase(it);
    return LARDER_OK;
}

larder_status larder_worker::inventory(void* buffer, uint64_t capacity, uint64_t& out_n_bytes) {
    Vec<InventoryEntry> entries(context->alloc);
    if (worker->store()) LARDER_TRY(worker->inventory(entries));
    out_n_bytes = inventory_header_bytes + entries.size() * inventory_entry_bytes;
    if (capacity < out_n_bytes)
        return fail(LARDER_E_BUFFER_TOO_SMALL, "buffer", "the inventory has %llu bytes",
                    (unsigned long long)out_n_bytes);
    inventory_write(worker->layout().identity, entries, {static_cast<std::byte*>(buffer), size_t(out_n_bytes)});
    return LARDER_OK;
}
