#include "kv/kv.h"

#include <algorithm>

#include "transfer/copy_runs.h"

namespace larder {

larder_status check_watermarks(uint32_t& low, uint32_t& high) noexcept {
    if (!low) low = 100;
    if (!high) high = std::max(low, 200u);
    LARDER_TRY(check_range(low, 1, 1000, "low_watermark"));
    return check_range(high, low, 1000, "high_watermark");
}

larder_status read_scope(const larder_layout& layout, larder_span tenant_key, larder_span salt, const Allocator& a,
                         ChainScope& out) {
    const auto bytes = [&](larder_span s) {
        const std::byte* p = static_cast<const std::byte*>(s.data);
        return Vec<std::byte>(p, p + (p ? s.n_bytes : 0), a);
    };
    LARDER_TRY(check_span(tenant_key, "tenant_key"));
    if (tenant_key.n_bytes) LARDER_TRY(check_range(tenant_key.n_bytes, 16, 64, "tenant_key"));
    LARDER_TRY(check_span(salt, "salt"));
    out = ChainScope{&layout, bytes(tenant_key), bytes(salt)};
    return LARDER_OK;
}

// How many state slots, and what they leave of the arena's budget. Two for each sequence are what it can hold at once:
// its own and a checkpoint; the others keep the states behind published blocks.
larder_status read_states(const larder_layout& layout, larder_kv_options& o, uint64_t& out_left) {
    const uint64_t state_bytes = state_bytes_of(layout);
    out_left = o.arena_bytes;
    if (!state_bytes)
        return o.n_states ? fail(LARDER_E_INVALID, "n_states", "the layout has no RECURRENT groups") : LARDER_OK;
    if (!o.n_states)
        o.n_states = uint32_t(
            o.n_blocks ? 2 * uint64_t(o.max_sequences)
                       : std::clamp<uint64_t>(o.arena_bytes / 4 / state_bytes, 2, 4 * uint64_t(o.max_sequences)));
    LARDER_TRY(check_range(o.n_states, 2, Id::max_index - 1, "n_states"));
    const uint64_t n_bytes = (uint64_t(o.n_states) + 1) * state_bytes;
    if (!o.n_blocks && n_bytes > o.arena_bytes)
        return fail(LARDER_E_RANGE, "arena_bytes", "arena_bytes %llu is less than %u state slots of %llu bytes",
                    (unsigned long long)o.arena_bytes, o.n_states + 1, (unsigned long long)state_bytes);
    out_left -= o.n_blocks ? 0 : n_bytes;
    return LARDER_OK;
}

larder_status read_kv_options(const larder_kv_options* user, const larder_layout& layout, larder_kv_options& o) {
    LARDER_TRY(read_options(user, o, "larder_kv_options"));
    LARDER_TRY(check_reserved(o.reserved0, "reserved0"));
    if (o.flags & ~LARDER_KV_NO_RECLAIM)
        return fail(LARDER_E_TOO_NEW, "flags", "flags 0x%x has a bit that this library does not know", o.flags);
    LARDER_ASSIGN(const uint64_t block_bytes, block_bytes_of(layout));
    if (o.n_blocks && o.arena_bytes)
        return fail(LARDER_E_INVALID, "n_blocks", "n_blocks and arena_bytes exclude each other");
    LARDER_TRY(check_range(o.max_sequences, 0, 65536, "max_sequences"));
    if (!o.max_sequences) o.max_sequences = 1024;
    if (!o.n_blocks && !o.arena_bytes) o.arena_bytes = uint64_t(256) << 20;
    uint64_t left = 0;
    LARDER_TRY(read_states(layout, o, left));
    if (!o.n_blocks && !block_bytes) {
        o.n_blocks = 65536;  // nothing but states: blocks are names only
    } else if (!o.n_blocks) {
        o.n_blocks = left / block_bytes;
        if (o.n_blocks > Id::max_index)
            return fail(LARDER_E_RANGE, "arena_bytes", "arena_bytes %llu holds more than %llu blocks of %llu bytes",
                        (unsigned long long)o.arena_bytes, (unsigned long long)Id::max_index,
                        (unsigned long long)block_bytes);
        if (o.n_blocks < 3)
            return fail(LARDER_E_RANGE, "arena_bytes", "arena_bytes %llu holds fewer than three blocks of %llu bytes",
                        (unsigned long long)o.arena_bytes, (unsigned long long)block_bytes);
        --o.n_blocks;  // the null block takes one
    }
    LARDER_TRY(check_range(o.n_blocks, 2, Id::max_index - 1, "n_blocks"));
    if (block_bytes && o.n_blocks > (uint64_t(1) << 46) / block_bytes)
        return fail(LARDER_E_RANGE, "n_blocks", "%llu blocks of %llu bytes are more than a machine addresses",
                    (unsigned long long)o.n_blocks, (unsigned long long)block_bytes);
    if (!o.write_policy) o.write_policy = LARDER_KV_WRITE_BACK;
    LARDER_TRY(check_range(uint32_t(o.write_policy), LARDER_KV_WRITE_BACK, LARDER_KV_WRITE_THROUGH, "write_policy"));
    if ((o.file_bytes || o.segment_bytes) && !o.directory)
        return fail(LARDER_E_INVALID, "directory", "file_bytes and segment_bytes need a directory");
    return check_watermarks(o.low_watermark, o.high_watermark);
}

}  // namespace larder

using namespace larder;

larder_status larder_kv::open(larder_context& c, larder_layout& layout, const larder_kv_options* user,
                              larder_kv** out) {
    larder_kv_options o;
    LARDER_TRY(read_kv_options(user, layout, o));
    larder_kv* kv = c.make_handle<larder_kv>(c, o);
    larder_status s;
    try {
        s = kv->set_up(layout, o);
    } catch (...) {
        c.drop_handle(kv);
        throw;
    }
    if (s < 0) {
        const larder_error_info why = last_error();
        c.drop_handle(kv);
        set_last_error(why);
        return s;
    }
    *out = kv;
    return LARDER_OK;
}

larder_status larder_kv::set_up(larder_layout& layout, const larder_kv_options& o) {
    const Allocator& a = context->alloc;
    LARDER_TRY(check_groups(layout, 1, 1, o.n_blocks));
    ChainScope scope;
    LARDER_TRY(read_scope(layout, o.tenant_key, o.salt, a, scope));
    WorkerConfig w;
    w.n_blocks = uint32_t(o.n_blocks);
    w.n_states = o.n_states;
    w.host_bytes = o.host_bytes;
    w.directory = o.directory;
    w.file_bytes = o.file_bytes;
    w.segment_bytes = o.segment_bytes;
    w.codec = o.codec;
    w.write_through = o.write_policy == LARDER_KV_WRITE_THROUGH;
    worker = make_owned<Worker>(a, *context, layout, w);
    LARDER_TRY(worker->init(w));
    if (worker->store()) below = make_owned<StoreDirectory>(a, *worker);
    PlannerConfig p;
    p.n_blocks = uint32_t(o.n_blocks);
    p.n_states = o.n_states;
    p.max_sequences = o.max_sequences;
    p.low_watermark = o.low_watermark;
    p.high_watermark = o.high_watermark;
    p.write_policy = o.write_policy;
    p.store_quality = worker->quality();
    planner = make_owned<Planner>(a, *context, layout, p, std::move(scope), below.get());
    return planner->init();
}

larder_kv::~larder_kv() {
    closing_.store(true, release);
    std::unique_lock lock(run_mutex_);
    while (n_running_) {
        lock.unlock();
        wait_for_a_plan();
        lock.lock();
    }
}

larder_status larder_kv::begin(larder_lease lease, const larder_kv_begin_options& o, larder_queue* queue,
                               uint64_t user_data, larder_seq* out_seq, larder_job* out_job) {
    for (;;) {
        Plan plan(context->alloc);
        uint64_t deadline_ns = 0;
        const larder_status s = planner->begin(lease, o.max_load_tokens, *out_seq, deadline_ns, plan);
        if (s != LARDER_RETRY)
            return s == LARDER_PENDING
                       ? wait_or_spawn(*out_seq, std::move(plan), queue, user_data, out_job, deadline_ns)
                       : s;
        LARDER_TRY(make_room(std::move(plan)));
    }
}

larder_status larder_kv::resume(larder_seq seq, const larder_kv_begin_options& o, larder_queue* queue,
                                uint64_t user_data, larder_job* out_job) {
    for (;;) {
        Plan plan(context->alloc);
        const larder_status s = planner->resume(seq, o.max_load_tokens, plan);
        if (s != LARDER_RETRY)
            return s == LARDER_PENDING ? wait_or_spawn(seq, std::move(plan), queue, user_data, out_job, 0) : s;
        LARDER_TRY(make_room(std::move(plan)));
    }
}

larder_status larder_kv::reserve(larder_seq seq, uint64_t n_tokens, uint64_t n_lookahead) {
    for (;;) {
        Plan plan(context->alloc);
        const larder_status s = planner->reserve(seq, n_tokens, n_lookahead, plan);
        if (s != LARDER_RETRY) {
            if (plan.id) run_now(std::move(plan));
            if (s == LARDER_OK) write_back_if_due();
            return s;
        }
        if (flags_ & LARDER_KV_NO_RECLAIM) {
            if (plan.id) spawn(std::move(plan), {}, Priority::demand, false, false, 0);
            return s;
        }
        LARDER_TRY(make_room(std::move(plan)));
    }
}

larder_status larder_kv::commit(larder_seq seq, const int32_t* tokens, uint64_t n) {
    Plan none;
    LARDER_TRY(planner->commit(seq, tokens, n, none));
    write_back_if_due();
    return LARDER_OK;
}

larder_status larder_kv::truncate(larder_seq seq, uint64_t n_tokens) {
    LARDER_TRY(planner->truncate(seq, n_tokens));
    write_back_if_due();
    return LARDER_OK;
}

larder_status larder_kv::end(larder_seq seq) {
    LARDER_TRY(planner->end(seq));
    write_back_if_due();
    return LARDER_OK;
}

larder_status larder_kv::compact(larder_seq seq, const uint64_t* src, const uint64_t* dst, uint64_t n) {
    LARDER_TRY(planner->check_active(seq));
    uint32_t from_block = 0, from = 0, to_block = 0, to = 0;
    for (uint64_t i = 0; i < n; ++i) {
        if (dst[i] > src[i] || (i && (src[i] <= src[i - 1] || dst[i] <= dst[i - 1])))
            return fail(LARDER_E_INVALID, "src",
                        "position %llu: src and dst must ascend, and dst must not be above src", (unsigned long long)i);
        LARDER_TRY(planner->locate(seq, src[i], from_block, from));
        LARDER_TRY(planner->locate(seq, dst[i], to_block, to));
    }
    const uint64_t n_runs =
        for_each_copy_run({dst, size_t(n)}, {src, size_t(n)}, planner->block_tokens(), [&](CopyRun r) {
            // Located once already: these cannot fail.
            planner->locate(seq, r.src, from_block, from);
            planner->locate(seq, r.dst, to_block, to);
            worker->copy_rows(to_block, to, from_block, from, uint32_t(r.n));
        });
    context->stats.add(Stat::transfer_runs, n_runs);
    return LARDER_OK;
}

larder_status larder_kv::suspend(larder_seq seq, larder_kv_suspend_mode mode, larder_queue* queue, uint64_t user_data,
                                 larder_job* out_job) {
    Plan plan(context->alloc);
    const larder_status s = planner->suspend(seq, mode == LARDER_KV_SUSPEND_OFFLOAD, plan);
    return s == LARDER_PENDING ? wait_or_spawn(seq, std::move(plan), queue, user_data, out_job, 0) : s;
}

larder_status larder_kv::flush(larder_queue* queue, uint64_t user_data, larder_job* out_job) {
    Plan plan(context->alloc);
    if (!below) return LARDER_OK;
    JobRef job{queue, 0};
    if (queue) {
        LARDER_ASSIGN(job.job, queue->begin(user_data, 1));
    }
    try {
        planner->flush(plan);
    } catch (...) {
        if (!queue) throw;
        fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
        queue->finish(job.job, LARDER_E_NOMEM);
    }
    if (!queue) return run_now(std::move(plan));
    if (out_job) *out_job = job.job;
    if (plan.id) spawn(std::move(plan), job, Priority::write_back, false, true, 0);
    return LARDER_PENDING;
}

larder_status larder_kv::evict(uint64_t n_blocks, uint64_t& out_n) {
    for (out_n = 0;;) {
        Plan plan(context->alloc);
        uint64_t n = 0;
        const larder_status s = planner->evict(n_blocks - out_n, n, plan);
        out_n += n;
        if (s != LARDER_RETRY) return s;
        LARDER_TRY(make_room(std::move(plan)));
    }
}

void larder_kv::info(larder_kv_info& out) {
    planner->info(out);
    if (!worker->store()) return;
    const larder_store_info i = worker->store()->info();
    out.host_bytes = i.host_used_bytes;
    out.file_bytes = i.file_live_bytes;
}
