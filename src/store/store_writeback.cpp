// From RAM to the file, and the file's own housekeeping: which segment goes, and what of it is kept.
#include <algorithm>

#include "base/assert.h"
#include "store/store.h"

using namespace larder;

namespace {
// One turn of the drain task: others of the same priority get theirs in between.
constexpr int drain_turn = 16;
constexpr uint64_t throttle_slice_ns = 200000;
}  // namespace

void larder_store::schedule_drain() noexcept {
    if (drain_scheduled_ || closing_) return;
    drain_scheduled_ = true;
    ++n_jobs_;
    drain_.run = drain;
    drain_.store = this;
    drain_.priority = Priority::write_back;
    context->scheduler.submit(&drain_);
}

void larder_store::drain(Task* task) noexcept {
    larder_store& self = *static_cast<DrainTask*>(task)->store;
    bool starved = false;
    try {
        // What is more urgent waits no longer for this worker than a slice.
        const uint64_t wait_ns = self.drain_wait_ns();
        if (wait_ns) self.context->os.sleep_ns(std::min(wait_ns, throttle_slice_ns));
        for (int i = 0; i < drain_turn && !self.drain_wait_ns() && self.write_back_one(); ++i) {
        }
    } catch (const std::bad_alloc&) {
        starved = true;  // the next put tries again
    }
    Lock lock(self.mutex_);
    if (!starved && !self.dirty_.empty() && !self.closing_ && !self.context->scheduler.stopping()) {
        lock.unlock();
        return self.context->scheduler.submit(task);
    }
    self.drain_scheduled_ = false;
    if (--self.n_jobs_ == 0) self.idle_.notify_all();
}

uint64_t larder_store::drain_wait_ns() noexcept {
    Lock lock(mutex_);
    // Closing does not wait.
    return closing_ ? 0 : write_back_.wait_ns(context->os.now_ns());
}

// The object that has waited longest, or that of a key if it can be written: no_slot when there is none.
uint32_t larder_store::take_dirty(const larder_key* key) noexcept {
    if (!key) return dirty_.front;
    const uint32_t slot = objects_.slot_of(*key);
    if (slot == no_slot) return no_slot;
    const Object& o = objects_[slot];
    return o.in_host() && !o.in_file() && !o.writing && !o.keep_in_ram ? slot : no_slot;
}

// False when none waits.
bool larder_store::write_back_one() {
    return write_back(nullptr) != LARDER_MISS;
}

// LARDER_MISS: there was nothing to write.
larder_status larder_store::write_back(const larder_key* key) {
    AppendLock append = file_->lock();
    Vec<ByteSpan> pieces(context->alloc);
    format::Record r;
    ExtentSums sums;
    uint32_t slot;
    {
        Lock lock(mutex_);
        slot = take_dirty(key);
        if (slot == no_slot) return LARDER_MISS;
        Object& o = objects_[slot];
        pieces.reserve(o.host.size());
        host_->for_each(o.host, o.n_bytes, [&](std::byte* p, uint64_t n) { pieces.push_back({p, n}); });
        r = {.key = o.key, .meta = o.meta, .n_bytes = o.n_bytes};
        sums = o.sums.copy();
        write_back_.take(o.n_bytes);
        set_dirty(slot, false);
        o.writing_back = true;
        ++o.n_host_readers;
    }
    Result<RecordPlace> placed = LARDER_E_NOSPACE;
    larder_absence why = LARDER_ABSENT_REJECTED;
    try {
        bool in_quota;
        {
            Lock lock(mutex_);
            in_quota = make_file_quota(tenant(r.meta.tenant), r.n_bytes);
        }
        const larder_status status = in_quota ? make_file_room(append, r) : LARDER_E_QUOTA;
        if (status >= 0)
            placed = file_->append(r, &sums, pieces, nullptr);
        else
            placed = status;
    } catch (const std::bad_alloc&) {
        placed = LARDER_E_NOMEM;
    }
    if (placed.status() == LARDER_E_CORRUPT) why = LARDER_ABSENT_CORRUPT;
    const larder_error_info detail = last_error();
    settle_write_back(append, slot, placed, why);
    if (placed.status() < 0) set_last_error(detail);
    return placed.status();
}

void larder_store::settle_write_back(AppendLock& append, uint32_t slot, const Result<RecordPlace>& placed,
                                     larder_absence why) {
    {
        Lock lock(mutex_);
        Object& o = objects_[slot];
        o.writing_back = false;
        const bool gone = o.zombie;
        if (placed.ok() && !gone) {
            attach_file(slot, *placed);
            tell_added(slot, LARDER_TIER_FILE);
            put_bytes_ += o.n_bytes;
        }
        if (!placed.ok() && !gone) {
            context->stats.add(Stat::store_rejections);
            context->stats.add(Stat::store_unwritten);
            ++n_unplaced_;
        }
        end_host_read(slot);
        if (!gone && why == LARDER_ABSENT_CORRUPT) {
            context->stats.add(Stat::store_corruptions);
            remove_object(slot, why, LARDER_TIER_HOST);
        } else if (!gone) {
            update_host_policy(slot);
        }
    }
    drop_failed_segments(append);
}

bool larder_store::make_file_quota(Tenant& t, uint64_t n_bytes) noexcept {
    if (!t.file_quota) return true;
    for (uint32_t slot = t.objects.front; t.file_bytes + n_bytes > t.file_quota && slot != no_slot;) {
        const uint32_t next = decltype(t.objects)::next(objects_, slot);
        Object& o = objects_[slot];
        if (o.in_file() && o.n_pins == 0) {
            leave(slot, LARDER_TIER_FILE, LARDER_ABSENT_QUOTA);
        }
        slot = next;
    }
    return t.file_bytes + n_bytes <= t.file_quota;
}

// Whatever was written or is on its way is charged to the disk's life, once.
bool larder_store::file_may_write(AppendLock&) noexcept {
    if (!options_.write_bytes_per_day) return true;
    const uint64_t n = std::max(file_->written_bytes(), file_->appended_bytes());
    Lock lock(mutex_);
    endurance_.take(n - charged_bytes_);
    charged_bytes_ = n;
    return endurance_.open(context->os.now_ns());
}

// Give up segments until the record fits.
larder_status larder_store::make_file_room(AppendLock& append, const format::Record& r) {
    if (file_->status() < 0)
        return fail(file_->status(), "store.larder", "the file tier takes no writes after earlier failures");
    if (r.kind == format::RecordKind::object && !file_may_write(append)) {
        context->stats.add(Stat::store_over_endurance);
        return fail(LARDER_E_NOSPACE, "write_bytes_per_day", "the file tier's budget of writing is used up");
    }
    for (uint32_t tries = 0; !file_->room(r); ++tries) {
        uint32_t victim = tries > 2 * file_->n_segments() ? no_segment : choose_victim();
        if (victim == no_segment && tries == 0) {
            // What was sealed last may still be on its way.
            file_->settle_sealed();
            drop_failed_segments(append);
            victim = choose_victim();
        }
        if (victim == no_segment)
            return fail(LARDER_E_NOSPACE, "file_bytes", "the file tier is full and nothing in it can be evicted");
        LARDER_TRY(evict_segment(append, victim));
    }
    return LARDER_OK;
}

uint32_t larder_store::choose_victim() {
    Lock lock(mutex_);
    // An empty segment costs nothing.
    for (uint32_t i = 0; i < file_->n_segments(); ++i) {
        const FileTier::Segment& s = file_->segment(i);
        if (s.state == FileTier::State::sealed && s.n_readers == 0 && books_[i].n_objects == 0 &&
            books_[i].n_removals == 0) {
            if (books_[i].in_policy) file_policy_->remove(i);
            books_[i].in_policy = false;
            return i;
        }
    }
    const uint64_t half = file_->file().segment_bytes() / 2;
    for (uint32_t tries = 0; tries < file_->n_segments(); ++tries) {
        const uint32_t i = file_policy_->evict();
        if (i == Policy::no_victim) break;
        const FileTier::Segment& s = file_->segment(i);
        // A segment whose eviction would free less than half of it is not worth the writing.
        if (s.state == FileTier::State::sealed && s.n_readers == 0 && books_[i].pinned_bytes <= half) {
            books_[i].in_policy = false;
            return i;
        }
        file_policy_->admit(i, {.id = i, .now = ++clock_});
    }
    return no_segment;
}

larder_status larder_store::evict_segment(AppendLock& append, uint32_t victim) {
    {
        // Nobody else takes it meanwhile: readers may still come, and are waited for below.
        Lock lock(mutex_);
        file_->hold(victim, false);
    }
    SegmentBook& b = books_[victim];
    Lock lock(mutex_, std::defer_lock);
    larder_status status;
    for (;;) {
        try {
            status = keep_records(append, victim);
            if (status >= 0) status = keep_removals(append, victim);
        } catch (const std::bad_alloc&) {
            status = fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
        }
        lock.lock();
        // Pinned while the others were being saved: once more.
        if (status < 0 || b.pinned_bytes == 0) break;
        lock.unlock();
    }
    file_->unhold(victim, false);
    if (status < 0) {
        b.in_policy = true;
        file_policy_->admit(victim, {.id = victim, .now = ++clock_});
        return status;
    }
    for (uint32_t slot = b.objects.front; slot != no_slot;) {
        const uint32_t next = decltype(b.objects)::next(objects_, slot);
        leave(slot, LARDER_TIER_FILE, LARDER_ABSENT_EVICTED);
        slot = next;
    }
    // Objects found just now may be read by somebody who holds the segment.
    readers_gone_.wait(lock, [&] { return file_->segment(victim).n_readers == 0; });
    lock.unlock();
    file_->release(victim);
    return LARDER_OK;
}

// A record that outlives its segment.
struct larder_store::Kept {
    uint32_t slot;
    bool pinned;
    Vec<std::byte> payload;
};

// Write again what is pinned, and what was read since it was written as far as the budget goes. It is durable at its
// new place before the old one goes.
larder_status larder_store::keep_records(AppendLock& append, uint32_t victim) {
    const Allocator& a = context->alloc;
    const uint32_t percent = file_may_write(append) ? options_.reinsert_percent : 0;
    Vec<Kept> kept(a);
    Vec<FileRead> reads(a);
    {
        Lock lock(mutex_);
        uint64_t budget = file_->file().segment_bytes() * percent / 100;
        for (uint32_t slot = books_[victim].objects.front; slot != no_slot; slot = objects_[slot].in_segment.next) {
            const Object& o = objects_[slot];
            const bool worth_it = o.hot || o.priority > Reference::default_priority;
            if (!o.n_pins && !(worth_it && o.record_bytes() <= budget)) continue;
            if (!o.n_pins) budget -= o.record_bytes();
            kept.push_back({slot, o.n_pins != 0, Vec<std::byte>(o.n_bytes, std::byte{}, a)});
            FileRead read;
            fill_file_read(slot, read);
            read.want_bytes = o.n_bytes;
            read.out = kept.back().payload.data();
            reads.push_back(std::move(read));
        }
    }
    if (kept.empty()) return LARDER_OK;
    struct Ignore : FileReader::Sink {
        void done(size_t) override {}
    } ignore;
    LARDER_TRY(reader_->run(reads, ignore));
    // A put of finer quality takes no append lock: under the same key, even in the same slot, may be another object
    // now.
    const auto is_in_place = [&](size_t i) {
        const Object& o = objects_[kept[i].slot];
        return o.in_file() && o.place.segment == victim && o.place.offset == reads[i].offset;
    };
    for (size_t i = 0; i < kept.size(); ++i) {
        if (reads[i].status < 0) {
            Lock lock(mutex_);
            drop_bad_record(reads[i]);
            continue;
        }
        format::Record r;
        {
            Lock lock(mutex_);
            if (!is_in_place(i)) continue;
            const Object& o = objects_[kept[i].slot];
            r = {.key = o.key, .meta = o.meta, .n_bytes = o.n_bytes};
        }
        if (!file_->room(r, true))
            return fail(LARDER_E_NOSPACE, "file_bytes", "the file tier has no room for what is pinned");
        const ByteSpan payload(kept[i].payload);
        LARDER_ASSIGN(const RecordPlace place, file_->append(r, &reads[i].sums, {&payload, 1}, nullptr));
        Lock lock(mutex_);
        if (!is_in_place(i)) continue;
        detach_file(kept[i].slot);
        attach_file(kept[i].slot, place);
        reinserted_bytes_ += r.n_bytes;
        context->stats.add(Stat::store_reinserted_bytes, r.n_bytes);
    }
    return file_->flush();
}

// A removal stays as long as an older segment of the file may hold what it removed.
larder_status larder_store::keep_removals(AppendLock&, uint32_t victim) {
    if (!books_[victim].n_removals) return LARDER_OK;
    bool moved = false;
    for (size_t i = 0; i < removals_.size();) {
        Removal& m = removals_[i];
        if (m.segment != victim) {
            ++i;
            continue;
        }
        if (file_->older_on_disk(m.record.horizon.sequence, victim)) {
            if (!file_->room(m.record, true))
                return fail(LARDER_E_NOSPACE, "file_bytes", "the file tier has no room for a removal");
            LARDER_ASSIGN(const RecordPlace place, file_->append(m.record, nullptr, {}, nullptr));
            Lock lock(mutex_);
            --books_[victim].n_removals;
            ++books_[place.segment].n_removals;
            m.segment = place.segment;
            moved = true;
            ++i;
            continue;
        }
        Lock lock(mutex_);
        --books_[victim].n_removals;
        removals_[i] = removals_.back();
        removals_.pop_back();
    }
    return moved ? file_->flush() : LARDER_OK;
}

larder_status larder_store::append_removal(AppendLock& append, format::RecordKind kind, const larder_key& key,
                                           uint32_t tenant_id) {
    format::Record r{.kind = kind, .key = key, .meta = {.tenant = tenant_id}};
    removals_.reserve(removals_.size() + 1);
    const larder_status room = make_file_room(append, r);
    larder_status status = room;
    if (room >= 0) {
        r.horizon = file_->position();
        const auto placed = file_->append(r, nullptr, {}, nullptr);
        status = placed.status();
        if (placed.ok()) {
            removals_.push_back({r, placed->segment});
            Lock lock(mutex_);
            SegmentBook& b = books_[placed->segment];
            ++b.n_removals;
            if (!b.in_policy) {
                b.in_policy = true;
                file_policy_->admit(placed->segment, {.id = placed->segment, .now = ++clock_});
            }
        }
    }
    drop_failed_segments(append);
    return status;
}
