#include "store/store.h"

#include <algorithm>

#include "base/assert.h"
#include "base/options.h"

using namespace larder;

namespace {

constexpr uint64_t min_host_bytes = 64 << 10;

larder_status check_options(larder_store_options& o) noexcept {
    if (o.set_mask) return fail(LARDER_E_INVALID, "set_mask", "set_mask must be zero");
    LARDER_TRY(EventLog::check(o.n_events));
    if (o.record_path && !o.host_bytes) return fail(LARDER_E_INVALID, "record_path", "a recording needs a host tier");
    const bool has_file = o.directory != nullptr;
    if (!o.host_bytes && !has_file)
        return fail(LARDER_E_INVALID, "host_bytes", "a store needs host_bytes or a directory");
    if (has_file && !*o.directory) return fail(LARDER_E_INVALID, "directory", "directory is empty");
    if (!has_file && (o.file_bytes || o.segment_bytes))
        return fail(LARDER_E_INVALID, "file_bytes", "file_bytes needs a directory");
    for (const uint64_t rate : {o.write_bytes_per_day, o.write_back_bytes_per_s, o.prefetch_bytes_per_s})
        LARDER_TRY(check_range(rate, 0, uint64_t(1) << 50, "write_bytes_per_day"));
    // The host tier numbers its units with 28 bits.
    if (o.host_bytes) LARDER_TRY(check_range(o.host_bytes, min_host_bytes, uint64_t(1) << 40, "host_bytes"));
    if (!o.write_policy) o.write_policy = LARDER_WRITE_THROUGH;
    if (!o.sync_policy) o.sync_policy = LARDER_SYNC_ON_FLUSH;
    if (!o.host_policy) o.host_policy = LARDER_POLICY_LRU;
    if (!o.file_policy) o.file_policy = LARDER_POLICY_LRU;
    if (!o.max_dirty_bytes) o.max_dirty_bytes = o.host_bytes / 2;
    LARDER_TRY(check_range(uint32_t(o.write_policy), 1, 2, "write_policy"));
    LARDER_TRY(check_range(uint32_t(o.sync_policy), 1, 2, "sync_policy"));
    LARDER_TRY(check_range(o.reinsert_percent, 0, 50, "reinsert_percent"));
    LARDER_TRY(check_range(o.no_promote, 0, 1, "no_promote"));
    const PolicyRow* row = find_policy(o.host_policy);
    if (!row || !row->online)
        return fail(LARDER_E_RANGE, "host_policy", "host_policy %u is not a policy that works on line", o.host_policy);
    if (o.file_policy != LARDER_POLICY_LRU && o.file_policy != LARDER_POLICY_FIFO)
        return fail(LARDER_E_RANGE, "file_policy", "file_policy is %u; it must be LRU or FIFO", o.file_policy);
    if (!has_file) return LARDER_OK;
    if (o.segment_bytes) {
        LARDER_TRY(check_range(o.segment_bytes, format::min_segment_bytes, format::max_segment_bytes, "segment_bytes"));
        if (o.segment_bytes & (o.segment_bytes - 1))
            return fail(LARDER_E_RANGE, "segment_bytes", "segment_bytes is not a power of two");
    } else {
        for (o.segment_bytes = format::max_segment_bytes;
             o.segment_bytes > format::min_segment_bytes && o.segment_bytes * 8 + format::data_offset > o.file_bytes;)
            o.segment_bytes /= 2;
    }
    const uint64_t least = 4 * o.segment_bytes + format::data_offset;
    // The table of segments is in memory from the beginning.
    const uint64_t most = uint64_t(format::max_segments) * o.segment_bytes + format::data_offset;
    return check_range(o.file_bytes, least, most, "file_bytes");
}

}  // namespace

larder_store::larder_store(larder_context& c, const larder_store_options& o)
    : Handle(HandleType::store, c), options_(o), objects_(c.alloc), tenants_(c.alloc), departures_(c.alloc),
      events_(c.alloc, o.n_events), hints_(c.alloc), protected_until_(ExpiryOrder(), c.alloc),
      leases_(c.alloc, IdKind::lease, c.random_generation()), books_(c.alloc), removals_(c.alloc) {}

larder_store::~larder_store() {
    close();
}

larder_status larder_store::open(larder_context& c, const larder_store_options& options, larder_store** out) {
    larder_store_options o = options;
    LARDER_TRY(check_options(o));
    larder_store* s = c.make_handle<larder_store>(c, o);
    larder_status status;
    try {
        status = s->open_tiers(o);
    } catch (const std::bad_alloc&) {
        status = fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
    }
    s->options_.directory = s->options_.record_path = nullptr;  // the caller's
    s->options_.remote = nullptr;
    if (status < 0) {
        const larder_error_info why = last_error();
        // What could not be opened is not flushed either.
        s->file_.reset();
        c.drop_handle(s);
        set_last_error(why);
        return status;
    }
    *out = s;
    s->open_ = true;
    return LARDER_OK;
}

void larder_store::open_throttles(const larder_store_options& o, uint64_t now_ns) noexcept {
    constexpr uint64_t second_ns = 1000000000, day_s = 24 * 3600;
    // At once: an hour's share of a day, a tenth of a second of a rate.
    endurance_ = Throttle(o.write_bytes_per_day, day_s * second_ns, o.write_bytes_per_day / 24, now_ns);
    write_back_ = Throttle(o.write_back_bytes_per_s, second_ns, o.write_back_bytes_per_s / 10, now_ns);
    prefetching_ = Throttle(o.prefetch_bytes_per_s, second_ns, o.prefetch_bytes_per_s / 10, now_ns);
}

larder_status larder_store::open_tiers(const larder_store_options& o) {
    const Allocator& a = context->alloc;
    if (o.host_bytes) {
        host_ = make_owned<HostTier>(a, *context, o.host_bytes);
        const PolicyRow& row = *find_policy(o.host_policy);
        host_policy_ = make_owned<RecordedPolicy>(a, a, row);
        tail_first_ = row.tail_first;
        if (o.record_path) {
            recorder_ = make_owned<Recorder>(a, context->os, a);
            LARDER_TRY(recorder_->open(o.record_path, {o.host_policy, host_->capacity_bytes(), context->os.wall_ns()}));
            host_policy_->listen(recorder_.get());
        }
    }
    LARDER_TRY(open_remote(o.remote));
    if (!o.directory) return LARDER_OK;
    const uint64_t start = context->os.now_ns();
    open_throttles(o, start);
    auto file = make_owned<FileTier>(a, *context, mutex_);
    LARDER_TRY(file->open(o.directory, {o.file_bytes, o.segment_bytes, o.sync_policy == LARDER_SYNC_ON_SEAL}));
    file_policy_ = find_policy(o.file_policy)->make(a);
    file_policy_->reserve(file->n_segments());
    books_.resize(file->n_segments());
    reader_ = make_owned<FileReader>(a, *context, file->file());
    file_ = std::move(file);
    LARDER_TRY(file_->recover(*this));
    for (uint32_t i = 0; i < file_->n_segments(); ++i)
        if (!books_[i].n_objects && !books_[i].n_removals) file_->release(i);
    n_recovered_ = n_file_objects_;
    recovery_ns_ = context->os.now_ns() - start;
    return LARDER_OK;
}

// --- recovery: segments arrive oldest first, so that the latest record of a key is met last
// -----------------------------------

void larder_store::segment(SegmentScan& scan) {
    for (ScannedRecord& r : scan.records) {
        if (!r.payload_holds) continue;
        if (r.record.kind == format::RecordKind::object)
            recover_object(scan, r);
        else
            recover_removal(scan, r);
    }
}

void larder_store::recover_object(SegmentScan& scan, ScannedRecord& r) {
    const uint32_t old = objects_.slot_of(r.record.key);
    if (old != no_slot) remove_object(old, LARDER_ABSENT_REPLACED, LARDER_TIER_FILE);
    const uint32_t slot = add_object(r.record.key, r.record.meta, r.record.n_bytes, std::move(r.sums));
    attach_file(slot, {scan.segment, r.offset});
}

void larder_store::recover_removal(SegmentScan& scan, const ScannedRecord& r) {
    const format::Record& m = r.record;
    auto apply = [&](uint32_t slot) {
        const RecordPlace& p = objects_[slot].place;
        const format::LogPosition at{file_->segment(p.segment).sequence, p.offset};
        if (at < m.horizon)
            remove_object(slot,
                          m.kind == format::RecordKind::key_removal ? LARDER_ABSENT_REMOVED : LARDER_ABSENT_DROPPED,
                          LARDER_TIER_FILE);
    };
    if (m.kind == format::RecordKind::key_removal) {
        const uint32_t slot = objects_.slot_of(m.key);
        if (slot != no_slot) apply(slot);
    } else if (const auto t = tenants_.find(m.meta.tenant); t != tenants_.end()) {
        for (uint32_t slot = t->second.objects.front; slot != no_slot;) {
            const uint32_t next = objects_[slot].in_tenant.next;
            apply(slot);
            slot = next;
        }
    }
    removals_.push_back({m, scan.segment});
    ++books_[scan.segment].n_removals;
    SegmentBook& b = books_[scan.segment];
    if (b.in_policy) return;
    b.in_policy = true;
    file_policy_->admit(scan.segment, {.id = scan.segment, .now = ++clock_});
}

// --- the end
// ------------------------------------------------------------------------------------------------------------------

void larder_store::close() noexcept {
    if (remote_) remote_flush(remote_->tier->options().put_timeout_ns);
    {
        Lock lock(mutex_);
        closing_ = true;
    }
    // Jobs that were submitted are this store's until they are done. Without workers, closing is what runs them.
    while (true) {
        if (context->scheduler.n_workers() == 0) context->scheduler.progress(0);
        Lock lock(mutex_);
        if (n_jobs_ == 0) break;
        idle_.wait_for(lock, std::chrono::milliseconds(1));
    }
    if (file_) {
        try {
            while (write_back_one()) {
            }
            AppendLock append = file_->lock();
            file_->close();
            append.unlock();
        } catch (const std::bad_alloc&) {
            context->log(LARDER_LOG_WARNING, "the store was closed without writing everything: no memory");
        }
    }
    Stats& stats = context->stats;
    stats.sub(Stat::store_dirty_bytes, dirty_bytes_);
    stats.sub(Stat::store_pinned, n_pinned_);
    stats.sub(Stat::store_reservations, n_reserved_);
    stats.sub(Stat::store_leases, leases_.size() - n_reserved_);
    stats.sub(Stat::store_objects, objects_.size());
    for (auto& [id, t] : tenants_) {
        stats.sub(Stat::store_host_bytes, t.host_bytes);
        stats.sub(Stat::store_file_bytes, t.file_bytes);
    }
}

larder_status larder_store::flush() {
    if (!file_) return fail(LARDER_E_STATE, "store", "the store has no file tier");
    while (write_back_one()) {
    }
    AppendLock append = file_->lock();
    const larder_status status = file_->flush();
    drop_failed_segments(append);
    Lock lock(mutex_);
    const uint64_t unplaced = std::exchange(n_unplaced_, 0);
    if (status < 0) return status;
    if (unplaced && file_->status() < 0)
        return fail(file_->status(), "store.larder", "the file tier takes no writes after earlier failures");
    return unplaced ? LARDER_PARTIAL : LARDER_OK;
}

larder_store_info larder_store::info() {
    larder_store_info i = LARDER_STORE_INFO_INIT;
    Lock lock(mutex_);
    i.write_budget_bytes = endurance_.left(context->os.now_ns());
    i.n_objects = objects_.size();
    i.n_host_objects = n_host_objects_;
    i.n_file_objects = n_file_objects_;
    i.n_pinned = n_pinned_;
    if (remote_) i.tiers |= LARDER_TIER_REMOTE;
    i.n_reserved = n_reserved_;
    if (recorder_) i.record_status = recorder_->status();
    i.n_leases = leases_.size() - n_reserved_;
    if (host_) {
        i.tiers |= LARDER_TIER_HOST;
        i.max_object_bytes = std::min<uint64_t>(host_->capacity_bytes(), UINT32_MAX);
        i.host_capacity_bytes = host_->capacity_bytes();
        i.host_used_bytes = host_->used_bytes();
        i.host_dirty_bytes = dirty_bytes_;
    }
    if (!file_) return i;
    i.tiers |= LARDER_TIER_FILE;
    i.max_object_bytes = file_->max_payload_bytes();
    i.segment_bytes = file_->file().segment_bytes();
    i.file_capacity_bytes = uint64_t(file_->n_segments()) * i.segment_bytes;
    for (uint32_t s = 0; s < file_->n_segments(); ++s) i.n_segments += file_->segment(s).state != FileTier::State::free;
    i.file_used_bytes = i.n_segments * i.segment_bytes;
    for (auto& [id, t] : tenants_) i.file_live_bytes += t.file_bytes;
    i.put_bytes = put_bytes_;
    i.written_bytes = file_->written_bytes();
    i.reinserted_bytes = reinserted_bytes_;
    i.recovered_records = n_recovered_;
    i.recovery_read_bytes = file_->recovery_read_bytes();
    i.recovery_ns = recovery_ns_;
    i.file_status = file_->status();
    i.direct_io = file_->file().direct();
    i.io_uring = file_->io_uring();
    return i;
}
