// The store beyond this machine: what is put is written to the remote behind the caller's back, and what no local tier
// has is asked of it, within a time.
#include <algorithm>

#include "base/assert.h"
#include "base/options.h"
#include "store/store.h"

using namespace larder;

namespace {

// A batch of writes, and what one turn waits for it: demand has its turn in between.
constexpr uint64_t write_bytes = 4 << 20, turn_ns = 500000;
constexpr uint32_t write_objects = 64, write_pieces = 1000;
constexpr uint64_t bring_bytes = 4 << 20;

}  // namespace

larder_status larder_store::open_remote(const larder_remote_options* user) {
    if (!user) return LARDER_OK;
    larder_remote_options o;
    LARDER_TRY(read_options(user, o, "larder_remote_options"));
    LARDER_ASSIGN(Owned<RemoteTier> tier, RemoteTier::open(*context, o));
    remote_ = make_owned<RemoteState>(context->alloc, context->alloc, std::move(tier));
    return LARDER_OK;
}

// --- writing -----------------------------------------------------------------------------------------------------

void larder_store::queue_remote(uint32_t slot) noexcept {
    if (!remote_) return;
    const Object& o = objects_[slot];
    if (o.keep_local) return;
    if (remote_->queue.size() >= remote_->tier->options().max_queued ||
        o.n_bytes > remote_->tier->max_payload_bytes()) {
        ++remote_->n_dropped;
        return;
    }
    try {
        remote_->queue.push_back(o.key);
    } catch (const std::bad_alloc&) {
        ++remote_->n_dropped;
        return;
    }
    if (remote_->scheduled || closing_) return;
    remote_->scheduled = true;
    ++n_jobs_;
    remote_->turn.run = remote_turn;
    remote_->turn.store = this;
    remote_->turn.priority = Priority::write_back;
    context->scheduler.submit(&remote_->turn);
}

void larder_store::remote_turn(Task* task) noexcept {
    larder_store& self = *static_cast<RemoteState::Turn*>(task)->store;
    RemoteState& r = *self.remote_;
    try {
        if (!r.write) self.begin_remote_write();
        if (r.write && r.tier->advance(*r.write, turn_ns) != LARDER_PENDING) self.end_remote_write();
    } catch (const std::bad_alloc&) {
        self.end_remote_write();
    }
    Lock lock(self.mutex_);
    const bool cut_short = self.closing_ || self.context->scheduler.stopping();
    if (!cut_short && (r.write || !r.queue.empty())) {
        lock.unlock();
        return self.context->scheduler.submit(task);
    }
    lock.unlock();
    if (r.write) self.end_remote_write();
    lock.lock();
    r.scheduled = false;
    self.remote_idle_.notify_all();
    if (--self.n_jobs_ == 0) self.idle_.notify_all();
}

// The next objects of the queue, as one batch.
void larder_store::begin_remote_write() {
    RemoteState& r = *remote_;
    r.held.reserve(write_objects);
    auto write = make_owned<RemoteWrite>(context->alloc, context->alloc);
    r.write = std::move(write);
    uint64_t n_bytes = 0;
    for (uint32_t n = 0; n < write_objects && n_bytes < write_bytes; ++n) {
        larder_key key;
        {
            Lock lock(mutex_);
            if (r.queue.empty()) break;
            key = r.queue.front();
            r.queue.pop_front();
        }
        const uint64_t added = add_remote_write(key);
        n_bytes += added;
        if (added) continue;
        Lock lock(mutex_);
        ++r.n_dropped;
    }
    if (!r.write->size() || r.tier->begin(*r.write) < 0) end_remote_write();
}

// Bytes that were added; 0: it is gone.
uint64_t larder_store::add_remote_write(const larder_key& key) {
    RemoteState& r = *remote_;
    Vec<ByteSpan> pieces(context->alloc);
    pieces.reserve(write_pieces);
    format::Record record{.key = key};
    ExtentSums sums;
    {
        Lock lock(mutex_);
        const uint32_t slot = objects_.slot_of(key);
        if (slot == no_slot || objects_[slot].writing) return 0;
        Object& o = objects_[slot];
        record.meta = o.meta;
        record.n_bytes = o.n_bytes;
        sums = o.sums.copy();
        if (o.in_host() && o.host.size() <= write_pieces) {
            host_->for_each(o.host, o.n_bytes, [&](std::byte* p, uint64_t n) { pieces.push_back({p, n}); });
            ++o.n_host_readers;
            r.held.push_back(slot);
        }
    }
    if (pieces.empty()) {
        Vec<std::byte>& copy = r.copies.emplace_back(record.n_bytes, std::byte{}, context->alloc);
        larder_object_want want = LARDER_OBJECT_WANT_INIT;
        want.tenant = record.meta.tenant;
        want.layout = record.meta.layout;
        want.min_quality = 255;
        larder_store_get_item item = LARDER_STORE_GET_ITEM_INIT;
        item.key = key;
        item.want = &want;
        item.buffer = copy.data();
        item.capacity = copy.size();
        larder_store_get_result result{};
        get_local({&item, 1}, &result);
        if (result.status != LARDER_OK || result.n_bytes != copy.size()) return 0;
        pieces.push_back({copy.data(), copy.size()});
    }
    r.write->add(record, sums, pieces);
    return record.n_bytes;
}

void larder_store::end_remote_write() noexcept {
    RemoteState& r = *remote_;
    if (r.write) r.tier->end(*r.write);
    {
        Lock lock(mutex_);
        for (const uint32_t slot : r.held) end_host_read(slot);
    }
    r.held.clear();
    r.copies.clear();
    r.write.reset();
}

larder_status larder_store::remote_flush(uint64_t timeout_ns) {
    if (!remote_) return fail(LARDER_E_STATE, "store", "the store has no remote tier");
    const uint64_t begin = context->os.now_ns();
    for (;;) {
        if (context->scheduler.n_workers() == 0) context->scheduler.progress(0);
        Lock lock(mutex_);
        if (!remote_->scheduled) return LARDER_OK;
        if (context->os.now_ns() - begin >= timeout_ns)
            return fail(LARDER_E_TIMEOUT, "timeout_ns", "objects are still waiting to be written to the remote");
        remote_idle_.wait_for(lock, std::chrono::milliseconds(1));
    }
}

larder_status larder_store::remote_info(larder_remote_info& out) {
    if (!remote_) return fail(LARDER_E_STATE, "store", "the store has no remote tier");
    out = remote_->tier->info();
    Lock lock(mutex_);
    out.n_queued = remote_->queue.size() + (remote_->scheduled && remote_->write ? remote_->write->size() : 0);
    out.n_dropped = remote_->n_dropped;
    return LARDER_OK;
}

// --- reading -----------------------------------------------------------------------------------------------------

// What was wrong with a value is told as if it had been there and went.
void larder_store::tell_bad_remote(const larder_key& key) noexcept {
    context->stats.add(Stat::store_corruptions);
    Lock lock(mutex_);
    note_departure(key, LARDER_ABSENT_CORRUPT, LARDER_TIER_REMOTE);
    if (!events_.on()) return;
    larder_event e{};
    e.kind = LARDER_EVENT_REMOVED;
    e.places_before = LARDER_TIER_REMOTE;
    e.key = key;
    e.cause = LARDER_ABSENT_CORRUPT;
    events_.append(e);
}

// The answer to a get, from what came. LARDER_OK: as it is wanted.
larder_status larder_store::judge_remote(const RemoteRead& read, const larder_object_want& want) noexcept {
    if (read.status == LARDER_E_CORRUPT) tell_bad_remote(read.key);
    if (read.status == LARDER_E_NOMEM) return LARDER_E_NOMEM;
    if (read.status != LARDER_OK && read.status != LARDER_E_BUFFER_TOO_SMALL) return LARDER_MISS;
    const ObjectMeta& m = read.record.meta;
    if (m.tenant != want.tenant || !(m.layout == want.layout))
        return fail(LARDER_E_IDENTITY, "want", "the object belongs to another layout or tenant");
    return m.quality > want.min_quality ? LARDER_MISS : read.status;
}

void larder_store::get_remote(std::span<RemoteGet> gets, uint64_t timeout_ns) {
    const uint64_t begin = context->os.now_ns();
    Vec<RemoteRead> reads(gets.size(), context->alloc);
    for (size_t i = 0; i < gets.size(); ++i) {
        const larder_store_get_item& item = *gets[i].item;
        const bool whole = !item.offset && !item.n_bytes;
        reads[i].key = item.key;
        reads[i].out = static_cast<std::byte*>(item.buffer);
        reads[i].capacity = whole ? item.capacity : 0;
    }
    remote_->tier->read(reads, timeout_ns);
    for (size_t i = 0; i < gets.size(); ++i) {
        const larder_store_get_item& item = *gets[i].item;
        larder_store_get_result& result = *gets[i].result;
        larder_object_want want;
        result = {read_want(item.want, want), 0, 0};
        if (result.status >= 0) result.status = judge_remote(reads[i], want);
        const uint64_t size = reads[i].record.n_bytes;
        if (result.status == LARDER_E_BUFFER_TOO_SMALL) {
            result.n_bytes = size;
            fail(result.status, "capacity", "%llu bytes are needed", (unsigned long long)size);
        }
        if (result.status != LARDER_OK) continue;
        result.n_bytes = item.n_bytes ? item.n_bytes : size - item.offset;
        result.tier = LARDER_TIER_REMOTE;
        const uint64_t spent = context->os.now_ns() - begin;
        if (reads[i].capacity)
            adopt_remote(reads[i]);
        else
            get_remote_part(gets[i], size, spent < timeout_ns ? timeout_ns - spent : 0);
    }
}

// A part can only be verified with the rest of it.
void larder_store::get_remote_part(RemoteGet& get, uint64_t size, uint64_t timeout_ns) {
    const larder_store_get_item& item = *get.item;
    larder_store_get_result& result = *get.result;
    const uint64_t n = result.n_bytes;
    result = {LARDER_OK, 0, 0};
    if (item.offset >= size || item.n_bytes > size - item.offset) {
        result.status = fail(LARDER_E_RANGE, "offset", "the object has %llu bytes", (unsigned long long)size);
    } else if (n > item.capacity) {
        result.status = fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "%llu bytes are needed", (unsigned long long)n);
        result.n_bytes = n;
    }
    if (result.status < 0) return;
    Vec<std::byte> scratch(size, std::byte{}, context->alloc);
    RemoteRead read{.key = item.key, .out = scratch.data(), .capacity = size};
    remote_->tier->read({&read, 1}, timeout_ns);
    larder_object_want want;
    result.status = read_want(item.want, want);
    if (result.status >= 0) result.status = judge_remote(read, want);
    // It may have been replaced by another meanwhile.
    if (result.status == LARDER_E_BUFFER_TOO_SMALL || read.record.n_bytes != size) result.status = LARDER_MISS;
    if (result.status != LARDER_OK) return;
    std::memcpy(item.buffer, scratch.data() + item.offset, n);
    result = {LARDER_OK, LARDER_TIER_REMOTE, n};
    adopt_remote(read);
}

// Bring what was read and verified into RAM, if there is room that can be had without writing anything.
bool larder_store::adopt_remote(const RemoteRead& read) {
    if (!host_ || options_.no_promote) return false;
    uint32_t slot = no_slot;
    Object* mine;
    try {
        ExtentSums sums = read.sums.copy();
        HostExtent extent(context->alloc);
        Lock lock(mutex_);
        if (objects_.slot_of(read.key) != no_slot) return false;
        const ObjectMeta& meta = read.record.meta;
        const uint64_t n = HostTier::rounded(read.record.n_bytes);
        if (n > host_->capacity_bytes() || !make_host_quota(tenant(meta.tenant), n) ||
            !make_host_room(read.record.n_bytes) || host_->alloc(read.record.n_bytes, extent) < 0)
            return false;
        try {
            slot = add_object(read.key, meta, read.record.n_bytes, std::move(sums));
        } catch (...) {
            host_->free(extent);
            throw;
        }
        mine = &objects_[slot];
        mine->writing = true;
        attach_host(slot, std::move(extent));
    } catch (const std::bad_alloc&) {
        return false;  // it stays where it is
    }
    const std::byte* from = read.out;
    host_->for_each(mine->host, read.record.n_bytes, [&](std::byte* p, uint64_t n) {
        std::memcpy(p, from, n);
        from += n;
    });
    Lock lock(mutex_);
    mine->writing = false;
    tell_added(slot, LARDER_TIER_HOST);
    context->stats.add(Stat::store_promoted);
    update_host_policy(slot);
    return true;
}

// Of these keys, those that no local tier has: into RAM, in pieces that RAM can bear.
void larder_store::bring_remote(std::span<const larder_key> keys) {
    const uint64_t timeout_ns = remote_->tier->options().get_timeout_ns;
    Vec<RemoteRead> heads(context->alloc);
    {
        Lock lock(mutex_);
        for (const larder_key& key : keys)
            if (slot_of(key) == no_slot) heads.push_back({.key = key});
    }
    if (heads.empty()) return;
    remote_->tier->read(heads, timeout_ns);
    for (size_t at = 0; at < heads.size();) {
        Vec<RemoteRead> reads(context->alloc);
        uint64_t n_bytes = 0;
        for (; at < heads.size() && n_bytes < bring_bytes; ++at) {
            if (heads[at].status == LARDER_E_CORRUPT) tell_bad_remote(heads[at].key);
            if (heads[at].status != LARDER_OK) continue;
            reads.push_back({.key = heads[at].key, .capacity = heads[at].record.n_bytes});
            n_bytes += heads[at].record.n_bytes;
        }
        if (reads.empty()) return;
        Vec<std::byte> scratch(n_bytes, std::byte{}, context->alloc);
        std::byte* out = scratch.data();
        for (RemoteRead& r : reads) {
            r.out = out;
            out += r.capacity;
        }
        remote_->tier->read(reads, timeout_ns);
        for (const RemoteRead& r : reads) {
            if (r.status == LARDER_E_CORRUPT) tell_bad_remote(r.key);
            if (r.status == LARDER_OK) adopt_remote(r);
        }
    }
}

void larder_store::lookup_within(const larder_key* keys, uint32_t n, const larder_object_want* want,
                                 uint64_t timeout_ns, larder_object_info* infos) {
    Vec<RemoteRead> heads(context->alloc);
    Vec<uint32_t> index(context->alloc);
    for (uint32_t i = 0; i < n; ++i) {
        infos[i] = lookup(keys[i], want);
        if (!remote_ || !timeout_ns || infos[i].status != LARDER_MISS || infos[i].tiers) continue;
        heads.push_back({.key = keys[i]});
        index.push_back(i);
    }
    if (heads.empty()) return;
    remote_->tier->read(heads, timeout_ns);
    for (size_t k = 0; k < heads.size(); ++k) {
        const RemoteRead& r = heads[k];
        larder_object_info& info = infos[index[k]];
        if (r.status == LARDER_E_CORRUPT) tell_bad_remote(r.key);
        if (r.status != LARDER_OK) continue;
        const ObjectMeta& m = r.record.meta;
        info.status = !want ? LARDER_OK : judge_remote(r, *want);
        info.tiers = LARDER_TIER_REMOTE;
        info.n_bytes = r.record.n_bytes;
        info.meta.struct_size = sizeof info.meta;
        info.meta.tenant = m.tenant;
        info.meta.layout = m.layout;
        info.meta.parent = m.parent;
        info.meta.n_tokens = m.n_tokens;
        info.meta.quality = m.quality;
        info.meta.codec = m.codec;
        info.meta.user_flags = m.user_flags;
    }
}
