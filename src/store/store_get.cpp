// Getting objects: from RAM by a verified copy, from the file by many reads at once.
#include <algorithm>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/options.h"
#include "store/store.h"

using namespace larder;

namespace {

// So many items are looked up under one lock and read together.
constexpr size_t window = 128;

}  // namespace

struct larder_store::GetBatch final : FileReader::Sink {
    struct Host {
        uint32_t slot = no_slot;
        Object* object = nullptr;
    };
    GetBatch(larder_store& s, std::span<const larder_store_get_item> i, larder_store_get_result* r)
        : store(s), items(i), results(r), hosts(s.context->alloc), reads(s.context->alloc), read_item(s.context->alloc),
          touched(s.context->alloc), remotes(s.context->alloc) {}
    void done(size_t i) override { store.file_read_done(*this, read_item[i], reads[i]); }

    larder_store& store;
    std::span<const larder_store_get_item> items;
    larder_store_get_result* results;
    Vec<std::pair<size_t, Host>> hosts;
    Vec<FileRead> reads;
    Vec<size_t> read_item;
    Vec<uint32_t> touched;
    Vec<size_t> remotes;  // items that no local tier has
    bool from_remote = false;
    Progress progress{nullptr, nullptr};
    bool* finished = nullptr;  // [window]
    size_t base = 0, n_front = 0;
    bool stopped = false;

    // Item i of the window has its result. Tell of it once everything before it is done too.
    void finish(size_t i) {
        finished[i] = true;
        uint64_t n_bytes = 0;
        const size_t before = n_front;
        while (n_front < items.size() && finished[n_front]) {
            if (results[n_front].status == LARDER_OK) n_bytes += results[n_front].n_bytes;
            ++n_front;
        }
        if (n_front != before && progress.fn && !progress.fn(progress.ctx, base + n_front, n_bytes)) stopped = true;
    }
};

larder_status larder_store::read_want(const larder_object_want* user, larder_object_want& want) noexcept {
    LARDER_TRY(read_options(user, want, "larder_object_want"));
    LARDER_TRY(check_reserved(want.reserved0, "reserved0"));
    if (!want.min_quality) want.min_quality = LARDER_QUALITY_EXACT;
    return check_range(uint32_t(want.min_quality), 1, 255, "min_quality");
}

larder_status larder_store::check_want(const Object& o, const larder_object_want* want) const noexcept {
    if (o.meta.tenant != want->tenant || !(o.meta.layout == want->layout))
        return fail(LARDER_E_IDENTITY, "want", "the object belongs to another layout or tenant");
    return o.meta.quality > want->min_quality ? LARDER_MISS : LARDER_OK;
}

void larder_store::record_get(const larder_key& key, const larder_object_want& want) noexcept {
    const Object* o = objects_.find(key);
    const bool served = o && !o->writing && check_want(*o, &want) == LARDER_OK;
    recorder_->get(load_le<uint64_t>(key.bytes), o ? o->n_bytes : 0, served ? o->residency() : 0);
}

// LARDER_OK: there, and as it is wanted. What stands in the way is counted.
larder_status larder_store::find_readable(const larder_key& key, const larder_object_want& want,
                                          uint32_t* out_slot) noexcept {
    *out_slot = slot_of(key);
    if (*out_slot == no_slot) {
        context->stats.add(Stat::store_misses_absent);
        return LARDER_MISS;
    }
    const Object& o = objects_[*out_slot];
    const larder_status met = check_want(o, &want);
    if (met == LARDER_MISS) context->stats.add(Stat::store_misses_coarse);
    if (met < 0) context->stats.add(Stat::store_gets_identity);
    if (met != LARDER_OK || !o.writing) return met;
    context->stats.add(Stat::store_gets_retry);
    return LARDER_RETRY;
}

void larder_store::fill_file_read(uint32_t slot, FileRead& read) {
    const Object& o = objects_[slot];
    const FileTier::Segment& s = file_->segment(o.place.segment);
    read.segment = o.place.segment;
    read.sequence = s.sequence;
    read.offset = o.place.offset;
    read.key = o.key;
    read.n_bytes = o.n_bytes;
    read.sums = o.sums.copy();
    read.buffer = s.buffer;
}

// Under the table mutex: the item's answer, or where its bytes are to come from.
void larder_store::resolve(GetBatch& batch, size_t i) {
    const larder_store_get_item& item = batch.items[i];
    larder_store_get_result& result = batch.results[i];
    result = {LARDER_MISS, 0, 0};
    context->stats.add(Stat::store_gets);
    larder_object_want want;
    if (!item.want || !item.buffer) {
        result.status = fail(LARDER_E_INVALID, item.want ? "buffer" : "want", "a get needs a want and a buffer");
        return;
    }
    result.status = check_reserved(item.reserved0, "reserved0");
    if (result.status >= 0) result.status = read_want(item.want, want);
    if (result.status < 0) return;
    if (batch.from_remote && slot_of(item.key) == no_slot) {
        batch.remotes.push_back(i);
        result.status = LARDER_PENDING;
        return;
    }
    uint32_t slot;
    if (recorder_) record_get(item.key, want);
    result.status = find_readable(item.key, want, &slot);
    if (result.status != LARDER_OK) return;
    Object& o = objects_[slot];
    if (item.offset >= o.n_bytes || item.n_bytes > o.n_bytes - item.offset) {
        result.status = fail(LARDER_E_RANGE, "offset", "the object has %u bytes", o.n_bytes);
        return;
    }
    result.n_bytes = item.n_bytes ? item.n_bytes : o.n_bytes - item.offset;
    if (result.n_bytes > item.capacity) {
        result.status =
            fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "%llu bytes are needed", (unsigned long long)result.n_bytes);
        return;
    }
    batch.touched.push_back(slot);
    result.status = LARDER_PENDING;
    if (o.in_host()) {
        batch.hosts.push_back({i, {slot, &o}});
        ++o.n_host_readers;
        return;
    }
    FileRead read;
    fill_file_read(slot, read);
    read.want_offset = item.offset;
    read.want_bytes = result.n_bytes;
    read.out = static_cast<std::byte*>(item.buffer);
    batch.reads.push_back(std::move(read));
    batch.read_item.push_back(i);
    reading_bytes_ += result.n_bytes;
    file_->hold(o.place.segment, batch.reads.back().buffer != nullptr);
    o.hot = true;
}

namespace {

// Copies [lo, hi) of a payload that comes in pieces, and checks every extent it touches.
class VerifiedCopy {
  public:
    VerifiedCopy(const Object& o, uint64_t lo, uint64_t hi, std::byte* out) noexcept
        : o_(o), lo_(lo), hi_(hi), out_(out), begin_(lo / extent_bytes * extent_bytes),
          end_(std::min<uint64_t>(o.n_bytes, (hi + extent_bytes - 1) / extent_bytes * extent_bytes)) {}

    void piece(const std::byte* p, uint64_t n) noexcept {
        const uint64_t piece_begin = at_;
        at_ += n;
        uint64_t a = std::max(piece_begin, begin_);
        const uint64_t b = std::min(at_, end_);
        while (a < b) {
            const uint64_t extent_end = std::min<uint64_t>((a / extent_bytes + 1) * extent_bytes, end_);
            const uint64_t stop = std::min(b, extent_end);
            add(p + (a - piece_begin), a, stop);
            a = stop;
            if (a != extent_end) continue;
            holds_ &= sum_ == o_.sums[uint32_t((a - 1) / extent_bytes)];
            sum_ = 0;
        }
    }
    bool holds() const noexcept { return holds_; }

  private:
    void add(const std::byte* p, uint64_t a, uint64_t b) noexcept {
        const uint64_t lo = std::clamp(lo_, a, b), hi = std::clamp(hi_, a, b);
        sum_ = crc32c(sum_, p, lo - a);
        if (out_)
            sum_ = crc32c_copy(sum_, out_ + (lo - lo_), p + (lo - a), hi - lo);
        else
            sum_ = crc32c(sum_, p + (lo - a), hi - lo);
        sum_ = crc32c(sum_, p + (hi - a), b - hi);
    }
    const Object& o_;
    const uint64_t lo_, hi_;
    std::byte* const out_;
    const uint64_t begin_, end_;
    uint64_t at_ = 0;
    uint32_t sum_ = 0;
    bool holds_ = true;
};

}  // namespace

bool larder_store::copy_host(const Object& o, uint64_t offset, uint64_t n_bytes, std::byte* out) const noexcept {
    VerifiedCopy copy(o, offset, offset + n_bytes, out);
    host_->for_each(o.host, o.n_bytes, [&](std::byte* p, uint64_t n) { copy.piece(p, n); });
    return copy.holds();
}

void larder_store::count_read(uint32_t tier, bool holds, uint64_t n_bytes) noexcept {
    const bool host = tier == LARDER_TIER_HOST;
    Stats& stats = context->stats;
    if (holds) {
        stats.add(host ? Stat::store_hits_host : Stat::store_hits_file);
        stats.add(host ? Stat::store_hit_bytes_host : Stat::store_hit_bytes_file, n_bytes);
    } else {
        stats.add(Stat::store_misses);
        stats.add(Stat::store_misses_damaged);
    }
}

void larder_store::read_host(GetBatch& batch, size_t h) {
    const auto [i, from] = batch.hosts[h];
    larder_store_get_result& result = batch.results[i];
    const uint64_t start = context->os.now_ns();
    const bool holds =
        copy_host(*from.object, batch.items[i].offset, result.n_bytes, static_cast<std::byte*>(batch.items[i].buffer));
    {
        const uint64_t ns = context->os.now_ns() - start;
        Lock lock(mutex_);
        host_rate_.sample(result.n_bytes, ns);
        if (!holds) drop_bad_host(from.slot);
        end_host_read(from.slot);
    }
    result.status = holds ? LARDER_OK : LARDER_MISS;
    result.tier = LARDER_TIER_HOST;
    count_read(LARDER_TIER_HOST, holds, result.n_bytes);
    if (!holds) result.n_bytes = 0;
    batch.finish(i);
}

// RAM that changed under us. The object goes, its copy in the file included: the next put brings it back.
void larder_store::drop_bad_host(uint32_t slot) noexcept {
    context->stats.add(Stat::store_corruptions);
    if (!objects_[slot].zombie) remove_object(slot, LARDER_ABSENT_CORRUPT, LARDER_TIER_HOST);
}

void larder_store::drop_bad_record(const FileRead& read) {
    const bool corrupt = read.status == LARDER_E_CORRUPT;
    if (corrupt) context->stats.add(Stat::store_corruptions);
    const uint32_t slot = objects_.slot_of(read.key);
    if (slot == no_slot) return;
    const Object& o = objects_[slot];
    // Only if it is still the record that was read.
    if (o.place.segment != read.segment || o.place.offset != read.offset ||
        file_->segment(read.segment).sequence != read.sequence)
        return;
    note_departure(read.key, corrupt ? LARDER_ABSENT_CORRUPT : LARDER_ABSENT_IO, LARDER_TIER_FILE);
    leave(slot, LARDER_TIER_FILE, corrupt ? LARDER_ABSENT_CORRUPT : LARDER_ABSENT_IO);
}

void larder_store::file_read_done(GetBatch& batch, size_t i, FileRead& read) {
    larder_store_get_result& result = batch.results[i];
    const bool ok = read.status >= 0;
    if (ok && host_ && !options_.no_promote && read.want_bytes == read.n_bytes) promote(read);
    {
        Lock lock(mutex_);
        reading_bytes_ -= read.want_bytes;
        if (!ok) drop_bad_record(read);
        end_file_read(read.segment, read.buffer != nullptr);
    }
    result.status = ok ? LARDER_OK : LARDER_MISS;
    result.tier = LARDER_TIER_FILE;
    count_read(LARDER_TIER_FILE, ok, result.n_bytes);
    if (!ok) result.n_bytes = 0;
    read.segment = no_segment;
    batch.finish(i);
}

// Bring what was read and verified into RAM, if that can be had without writing anything.
void larder_store::promote(const FileRead& read) {
    HostExtent extent(context->alloc);
    try {
        Lock lock(mutex_);
        const Object* o = objects_.find(read.key);
        if (!o || o->in_host() || o->writing) return;
        Tenant& t = tenant(o->meta.tenant);
        const uint64_t n = HostTier::rounded(read.n_bytes);
        if (n > host_->capacity_bytes() || !make_host_quota(t, n) || !make_host_room(read.n_bytes)) return;
        if (host_->alloc(read.n_bytes, extent) < 0) return;
    } catch (const std::bad_alloc&) {
        return;  // it stays where it is
    }
    const std::byte* from = read.out;
    host_->for_each(extent, read.n_bytes, [&](std::byte* p, uint64_t n) {
        std::memcpy(p, from, n);
        from += n;
    });
    Lock lock(mutex_);
    const uint32_t slot = objects_.slot_of(read.key);
    const bool same = slot != no_slot && !objects_[slot].in_host() && !objects_[slot].writing &&
                      objects_[slot].place.segment == read.segment && objects_[slot].place.offset == read.offset;
    if (!same) return host_->free(extent);
    attach_host(slot, std::move(extent));
    tell_added(slot, LARDER_TIER_HOST);
    context->stats.add(Stat::store_promoted);
    update_host_policy(slot);
}

void larder_store::get(std::span<const larder_store_get_item> items, larder_store_get_result* results,
                       Progress progress) {
    get_items(items, results, progress, remote_ != nullptr);
}

// What no local tier has, within the time.
void larder_store::read_remote(GetBatch& batch, uint64_t timeout_ns) {
    if (batch.remotes.empty()) return;
    try {
        Vec<RemoteGet> gets(context->alloc);
        for (const size_t i : batch.remotes) gets.push_back({&batch.items[i], &batch.results[i]});
        get_remote(gets, timeout_ns);
    } catch (const std::bad_alloc&) {
        for (const size_t i : batch.remotes)
            if (batch.results[i].status == LARDER_PENDING)
                batch.results[i] = {fail(LARDER_E_NOMEM, "", "the allocator gave no memory"), 0, 0};
    }
    for (const size_t i : batch.remotes) {
        const larder_store_get_result& r = batch.results[i];
        Stats& stats = context->stats;
        if (r.status == LARDER_OK) {
            stats.add(Stat::store_hits_remote);
            stats.add(Stat::store_hit_bytes_remote, r.n_bytes);
        } else if (r.status == LARDER_MISS) {
            stats.add(Stat::store_misses);
            stats.add(Stat::store_misses_absent);
        } else {
            stats.add(r.status == LARDER_E_IDENTITY ? Stat::store_gets_identity : Stat::store_gets_failed);
        }
        batch.finish(i);
    }
}

void larder_store::get_items(std::span<const larder_store_get_item> items, larder_store_get_result* results,
                             Progress progress, bool from_remote) {
    const uint64_t begin = from_remote ? context->os.now_ns() : 0;
    bool finished[window];
    for (size_t base = 0; base < items.size(); base += window) {
        GetBatch batch(*this, items.subspan(base, std::min(window, items.size() - base)), results + base);
        batch.progress = progress;
        batch.from_remote = from_remote;
        batch.finished = finished;
        batch.base = base;
        const size_t n = batch.items.size();
        std::fill_n(finished, n, false);
        // Nothing below allocates between taking a hold and giving it back.
        batch.hosts.reserve(n);
        batch.reads.reserve(n);
        batch.read_item.reserve(n);
        batch.touched.reserve(n);
        if (from_remote) batch.remotes.reserve(n);
        {
            Lock lock(mutex_);
            if (recorder_ && base == 0) recorder_->request();
            for (size_t i = 0; i < n; ++i) {
                try {
                    resolve(batch, i);
                } catch (const std::bad_alloc&) {
                    batch.results[i] = {fail(LARDER_E_NOMEM, "", "the allocator gave no memory"), 0, 0};
                }
            }
            if (tail_first_) std::reverse(batch.touched.begin(), batch.touched.end());
            for (const uint32_t slot : batch.touched) touch(slot);
        }
        for (size_t i = 0; i < n; ++i) {
            const larder_status status = results[base + i].status;
            if (status == LARDER_PENDING) continue;
            if (status == LARDER_MISS) context->stats.add(Stat::store_misses);
            if (status < 0 && status != LARDER_E_IDENTITY) context->stats.add(Stat::store_gets_failed);
            batch.finish(i);
        }
        for (size_t h = 0; h < batch.hosts.size(); ++h) read_host(batch, h);
        read_files(batch);
        if (!batch.remotes.empty()) {
            // One time for all that was asked for at once.
            const uint64_t spent = context->os.now_ns() - begin, most = remote_->tier->options().get_timeout_ns;
            read_remote(batch, spent < most ? most - spent : 0);
        }
        if (!batch.stopped) continue;
        for (size_t i = base + n; i < items.size(); ++i) results[i] = {LARDER_E_CANCELLED, 0, 0};
        return;
    }
}

void larder_store::read_files(GetBatch& batch) {
    if (batch.reads.empty()) return;
    larder_status status;
    const uint64_t start = context->os.now_ns();
    try {
        status = reader_->run(batch.reads, batch);
    } catch (const std::bad_alloc&) {
        status = fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
    }
    if (status >= 0) {
        uint64_t n_bytes = 0;
        for (const FileRead& read : batch.reads) n_bytes += read.want_bytes;
        const uint64_t ns = context->os.now_ns() - start;
        Lock lock(mutex_);
        return file_rate_.sample(n_bytes, ns);
    }
    // Not one of them was begun: the records are as good as before.
    for (size_t k = 0; k < batch.reads.size(); ++k) {
        FileRead& read = batch.reads[k];
        if (read.segment == no_segment) continue;
        {
            Lock lock(mutex_);
            reading_bytes_ -= read.want_bytes;
            end_file_read(read.segment, read.buffer != nullptr);
        }
        read.segment = no_segment;
        batch.results[batch.read_item[k]] = {status == LARDER_E_NOMEM ? LARDER_E_NOMEM : LARDER_MISS, 0, 0};
        if (status == LARDER_E_NOMEM)
            context->stats.add(Stat::store_gets_failed);
        else
            count_read(LARDER_TIER_FILE, false, 0);
        batch.finish(batch.read_item[k]);
    }
}
