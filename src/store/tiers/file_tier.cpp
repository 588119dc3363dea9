#include "store/tiers/file_tier.h"

#include <algorithm>

#include "base/assert.h"
#include "base/crc32c.h"

namespace larder {

using namespace format;
using Staging = SegmentWriter::Staging;

namespace {
// Blocks are handed to the ring once so many bytes of them are complete.
constexpr uint64_t write_ahead_bytes = 512 << 10;
// After so many segments failed to be written the disk is taken for broken.
constexpr uint32_t max_failures = 4;
}  // namespace

FileTier::FileTier(larder_context& c, std::mutex& table_mutex) noexcept
    : context_(c), os_(c.os), table_mutex_(table_mutex), file_(c.os, c.alloc), writer_(c.os, c.alloc, file_, c.stats),
      segments_(c.alloc), failures_(c.alloc), footer_(c.alloc) {}

FileTier::~FileTier() {
    for (Staging& s : writer_.stagings()) writer_.wait(s);
}

larder_status FileTier::open(const char* directory, const Options& o) {
    LARDER_TRY(file_.open(directory, StoreFile::Mode::open_or_create, o.segment_bytes));
    sync_on_seal_ = o.sync_on_seal;
    const uint64_t fit = (o.file_bytes - std::min(o.file_bytes, data_offset)) / file_.segment_bytes();
    max_segments_ = uint32_t(std::min<uint64_t>(fit, max_segments));
    if (max_segments_ < 3)
        return fail(LARDER_E_RANGE, "file_bytes", "file_bytes holds %u segments of %llu bytes; at least 3 are needed",
                    max_segments_, (unsigned long long)file_.segment_bytes());
    segments_.resize(max_segments_);
    // Every segment may fail once between two looks at the failures.
    failures_.reserve(max_segments_);
    return writer_.open(uint32_t(context_.param(LARDER_PARAM_IO_DEPTH)), context_.param(LARDER_PARAM_IO_URING) != 0);
}

larder_status FileTier::recover(Visitor& visitor) {
    if (file_.n_segments() > max_segments_) LARDER_TRY(file_.shrink_to(max_segments_));
    n_file_segments_ = file_.n_segments();
    SegmentScanner scanner(os_, context_.alloc, file_);
    Vec<SegmentScan> scans(context_.alloc);
    uint64_t latest = 0;
    for (uint32_t i = 0; i < n_file_segments_; ++i) {
        SegmentScan scan(context_.alloc);
        const larder_status status = scanner.load(i, scan);
        if (status == LARDER_E_NOMEM) return status;
        if (status < 0) {
            // What cannot be read is forgotten, and not written to either.
            segments_[i].state = State::quarantined;
            context_.stats.add(Stat::io_errors);
            context_.log(LARDER_LOG_WARNING, "segment %u of the file tier cannot be read", i);
            continue;
        }
        if (!scan.sequence) continue;
        latest = std::max(latest, scan.sequence);
        scans.push_back(std::move(scan));
    }
    recovery_read_bytes_ = scanner.read_bytes();
    std::sort(scans.begin(), scans.end(), [](auto& a, auto& b) { return a.sequence < b.sequence; });
    for (SegmentScan& scan : scans) {
        Segment& s = segments_[scan.segment];
        // A failed footer costs nothing but another scan at the next open.
        if (!scan.sealed) scanner.write_footer(scan);
        s.state = State::sealed;
        s.sequence = scan.sequence;
        s.tail = s.durable = scan.tail;
        visitor.segment(scan);
    }
    LARDER_TRY(file_.begin_epoch(latest >> 32));
    next_sequence_ = file_.super().epoch << 32;
    return LARDER_OK;
}

// --- room -------------------------------------------------------------------------------------------------

bool FileTier::fits(const Record& r) const noexcept {
    const Segment& s = segments_[open_->segment];
    return s.tail + r.total_bytes() + footer_zone(footer_.size() + r.footer_bytes()) <= file_.segment_bytes();
}

uint32_t FileTier::n_free() const noexcept {
    uint32_t n = max_segments_ - std::min(max_segments_, n_file_segments_);
    for (uint32_t i = 0; i < n_file_segments_; ++i) n += segments_[i].state == State::free;
    return n;
}

bool FileTier::room(const Record& r, bool last) noexcept {
    return (open_ && fits(r)) || n_free() > (last ? 0u : 1u);
}

LogPosition FileTier::position() const noexcept {
    if (open_) return {segments_[open_->segment].sequence, segments_[open_->segment].tail};
    return {next_sequence_ + 1, 0};
}

bool FileTier::older_on_disk(uint64_t sequence, uint32_t except) const noexcept {
    for (uint32_t i = 0; i < n_file_segments_; ++i) {
        const Segment& s = segments_[i];
        if (i == except) continue;
        if ((s.sequence && s.sequence < sequence) || (s.stale_sequence && s.stale_sequence < sequence)) return true;
    }
    return false;
}

Result<uint32_t> FileTier::take_slot() {
    for (uint32_t i = 0; i < n_file_segments_; ++i)
        if (segments_[i].state == State::free) return i;
    if (n_file_segments_ >= max_segments_) return fail(LARDER_E_NOSPACE, "file_bytes", "the file tier is full");
    const larder_status status = file_.grow_to(n_file_segments_ + 1);
    if (status < 0) {
        // The disk has less room than the cap: from now on that is the cap.
        if (status == LARDER_E_DISK_FULL) max_segments_ = n_file_segments_;
        context_.stats.add(Stat::io_errors);
        return status;
    }
    return n_file_segments_++;
}

Result<Staging*> FileTier::take_staging() {
    for (;;) {
        for (Staging& s : writer_.stagings())
            if (s.idle()) return &s;
        // Both are being written: wait for the one that began first.
        auto all = writer_.stagings();
        Staging& oldest = segments_[all[0].segment].sequence < segments_[all[1].segment].sequence ? all[0] : all[1];
        writer_.wait(oldest);
        settle(oldest);
    }
}

larder_status FileTier::open_segment() {
    LARDER_ASSIGN(Staging* const staging, take_staging());
    LARDER_ASSIGN(const uint32_t slot, take_slot());
    staging->segment = slot;
    staging->submitted = 0;
    staging->status = LARDER_OK;
    {
        std::lock_guard table(table_mutex_);
        Segment& s = segments_[slot];
        if (!s.stale_sequence) s.stale_sequence = s.sequence;
        s.sequence = ++next_sequence_;
        s.state = State::open;
        s.tail = segment_header_bytes;
        s.durable = 0;
        s.buffer = staging->memory.data();
    }
    encode_segment_header(place(slot), staging->memory.data());
    writer_.write_opening(*staging, place(slot));
    footer_.clear();
    n_footer_records_ = 0;
    open_ = staging;
    return LARDER_OK;
}

// --- appending --------------------------------------------------------------------------------------------

bool FileTier::copy_payload(std::byte* to, const Record& r, ExtentSums& sums, bool compare,
                            std::span<const ByteSpan> payload) {
    size_t part = 0, at = 0;  // position in the payload's parts
    uint64_t done = 0;
    for (uint32_t i = 0; i < sums.size(); ++i) {
        uint64_t left = std::min<uint64_t>(extent_bytes, r.n_bytes - done);
        uint32_t sum = 0;
        while (left) {
            const size_t n = std::min<size_t>(left, payload[part].size() - at);
            sum = crc32c_copy(sum, to + done, payload[part].data() + at, n);
            done += n, left -= n, at += n;
            if (at == payload[part].size()) ++part, at = 0;
        }
        if (compare && sum != sums[i]) return false;
        sums.data()[i] = sum;
    }
    return true;
}

void FileTier::add_to_footer(const Record& r, uint32_t offset, const ExtentSums& sums) {
    const std::byte* header = open_->memory.data() + offset;
    std::byte where[4];
    store_le<uint32_t>(where, offset);
    footer_.insert(footer_.end(), where, where + 4);
    footer_.insert(footer_.end(), header, header + record_header_bytes);
    const auto* table = reinterpret_cast<const std::byte*>(sums.data());
    if (r.table_bytes()) footer_.insert(footer_.end(), table, table + r.table_bytes());
    ++n_footer_records_;
}

Result<RecordPlace> FileTier::append(Record& r, const ExtentSums* sums, std::span<const ByteSpan> payload,
                                     ExtentSums* out_sums) {
    if (status() < 0) return fail(status(), "store.larder", "the file tier takes no writes after earlier failures");
    ExtentSums mine = sums ? sums->copy() : ExtentSums(context_.alloc, r.n_extents());
    if (open_ && open_->status < 0) fail_segment(*open_);
    if (open_ && !fits(r)) seal();
    if (!open_) LARDER_TRY(open_segment());
    if (footer_.capacity() < footer_.size() + r.footer_bytes())
        footer_.reserve(2 * footer_.capacity() + r.footer_bytes() + 4096);

    Segment& s = segments_[open_->segment];
    std::byte* const mem = open_->memory.data();
    const uint32_t offset = s.tail;
    const uint64_t end = offset + r.total_bytes(), payload_at = offset + r.payload_offset();
    LARDER_ASSERT(end <= file_.segment_bytes());
    if (!copy_payload(mem + payload_at, r, mine, sums != nullptr, payload))
        return fail(LARDER_E_CORRUPT, "data", "an object changed in memory since it was put");
    r.payload_sum = payload_sum(mine);
    encode_record(r, place(open_->segment), offset, mem + offset);
    if (r.table_bytes()) std::memcpy(mem + offset + record_header_bytes, mine.data(), r.table_bytes());
    std::memset(mem + payload_at + r.n_bytes, 0, end - payload_at - r.n_bytes);
    add_to_footer(r, offset, mine);
    const RecordPlace out{open_->segment, offset};
    needs_sync_ = true;
    appended_bytes_ += r.total_bytes() + r.footer_bytes();
    {
        std::lock_guard table(table_mutex_);
        s.tail = uint32_t(end);
    }
    const uint32_t whole = align_down<uint32_t>(s.tail, block_bytes);
    if (whole - open_->submitted >= std::min(write_ahead_bytes, file_.segment_bytes() / 8)) {
        writer_.write(*open_, open_->submitted, whole);
        open_->submitted = whole;
        writer_.poll();
    }
    if (out_sums) *out_sums = std::move(mine);
    return out;
}

// --- sealing and durability -------------------------------------------------------------------------------

void FileTier::seal() {
    Staging& staging = *open_;
    const uint32_t size = uint32_t(file_.segment_bytes());
    std::byte* const mem = staging.memory.data();
    const Segment& s = segments_[staging.segment];
    const uint32_t body = align_up<uint32_t>(s.tail, block_bytes);
    const uint32_t zone = size - uint32_t(footer_zone(footer_.size()));
    std::memset(mem + s.tail, 0, std::min(body, zone) - s.tail);
    // What was written over the former trailer must not overtake the new one.
    writer_.wait(staging);
    std::memset(mem + zone, 0, size - zone);
    const uint32_t table = size - trailer_bytes - uint32_t(footer_.size());
    std::copy(footer_.begin(), footer_.end(), mem + table);
    encode_trailer({n_footer_records_, uint32_t(footer_.size()), crc32c(0, footer_.data(), footer_.size()), s.tail},
                   place(staging.segment), mem + size - trailer_bytes);
    if (body > staging.submitted) writer_.write(staging, staging.submitted, body);
    writer_.write(staging, zone, size);
    staging.submitted = size;
    needs_sync_ = true;
    {
        std::lock_guard lock(table_mutex_);
        segments_[staging.segment].state = State::sealing;
    }
    open_ = nullptr;
}

// The staging buffer's last request is done: give the buffer back.
void FileTier::settle(Staging& staging) {
    LARDER_ASSERT(staging.n_in_flight == 0 && &staging != open_);
    if (staging.status < 0) return fail_segment(staging);
    std::unique_lock table(table_mutex_);
    Segment& s = segments_[staging.segment];
    buffer_free_.wait(table, [&] { return s.n_buffer_readers == 0; });
    s.state = State::sealed;
    s.buffer = nullptr;
    staging.segment = no_segment;
    table.unlock();
    if (!sync_on_seal_) return;
    if (file_.sync() < 0) return fail_unsynced();
    std::lock_guard again(table_mutex_);
    if (s.state == State::sealed) s.durable = s.tail, s.stale_sequence = 0;
}

void FileTier::fail_segment(Staging& staging) {
    writer_.wait(staging);
    const uint32_t i = staging.segment;
    context_.stats.add(Stat::io_errors);
    context_.log(LARDER_LOG_ERROR, "segment %u of the file tier could not be written", i);
    unreported_ = staging.status;
    if (++n_failures_ >= max_failures) broken_.store(staging.status, relaxed);
    std::unique_lock table(table_mutex_);
    Segment& s = segments_[i];
    buffer_free_.wait(table, [&] { return s.n_buffer_readers == 0; });
    // Without a footer; what was durable stays readable and is found by the next open.
    s.state = s.durable ? State::sealed : State::quarantined;
    s.tail = s.durable;
    s.buffer = nullptr;
    failures_.push_back({i, s.durable});
    staging.segment = no_segment;
    staging.status = LARDER_OK;
    if (open_ == &staging) open_ = nullptr;
}

// After a failed sync nobody knows what of the unsynced data is there, and asking again proves nothing.
void FileTier::fail_unsynced() {
    const larder_error_info why = last_error();
    unreported_ = why.status;
    for (Staging& staging : writer_.stagings()) {
        if (staging.idle()) continue;
        staging.status = why.status;
        fail_segment(staging);
    }
    std::lock_guard table(table_mutex_);
    for (uint32_t i = 0; i < n_file_segments_; ++i) {
        Segment& s = segments_[i];
        if (s.state != State::sealed || s.durable == s.tail) continue;
        failures_.push_back({i, s.durable});
        s.tail = s.durable;
        if (!s.durable) s.state = State::quarantined;
    }
    if (++n_failures_ >= max_failures) broken_.store(why.status, relaxed);
    set_last_error(why);
}

// Hand everything to the system and wait for it. Buffers of sealed segments come back.
void FileTier::settle_sealed() {
    for (Staging& staging : writer_.stagings()) {
        if (staging.idle() || &staging == open_) continue;
        writer_.wait(staging);
        settle(staging);
    }
}

void FileTier::write_out() {
    if (open_) {
        Segment& s = segments_[open_->segment];
        // What follows begins in a block of its own: a durable block is never written again.
        const uint32_t end =
            std::min<uint32_t>(align_up<uint32_t>(s.tail, block_bytes), uint32_t(file_.segment_bytes()));
        if (end > open_->submitted) {
            std::memset(open_->memory.data() + s.tail, 0, end - s.tail);
            writer_.write(*open_, open_->submitted, end);
            open_->submitted = end;
            std::lock_guard table(table_mutex_);
            s.tail = end;
        }
    }
    settle_sealed();
    if (!open_) return;
    writer_.wait(*open_);
    if (open_->status < 0) fail_segment(*open_);
}

larder_status FileTier::flush() {
    write_out();
    if (needs_sync_) {
        context_.stats.add(Stat::io_syncs);
        if (file_.sync() < 0) {
            fail_unsynced();
        } else {
            needs_sync_ = false;
            std::lock_guard table(table_mutex_);
            for (uint32_t i = 0; i < n_file_segments_; ++i) {
                Segment& s = segments_[i];
                if (s.state == State::sealed || s.state == State::open) s.durable = s.tail, s.stale_sequence = 0;
            }
        }
    }
    const larder_status status = std::exchange(unreported_, LARDER_OK);
    if (status < 0) return fail(status, "store.larder", "data written since the last flush may be lost");
    return LARDER_OK;
}

larder_status FileTier::close() {
    if (open_ && open_->status >= 0 && n_footer_records_) seal();
    return flush();
}

void FileTier::release(uint32_t segment) noexcept {
    std::lock_guard table(table_mutex_);
    Segment& s = segments_[segment];
    if (s.state == State::sealed) s.state = State::free;
}

Vec<FileTier::Failure> FileTier::take_failures() {
    Vec<Failure> out(context_.alloc);
    out.reserve(max_segments_);
    std::swap(out, failures_);
    // Room for the next ones without allocating then.
    failures_.reserve(max_segments_);
    return out;
}

// --- readers ----------------------------------------------------------------------------------------------

void FileTier::hold(uint32_t segment, bool buffer) noexcept {
    ++segments_[segment].n_readers;
    if (buffer) ++segments_[segment].n_buffer_readers;
}

void FileTier::unhold(uint32_t segment, bool buffer) noexcept {
    Segment& s = segments_[segment];
    --s.n_readers;
    if (buffer && --s.n_buffer_readers == 0) buffer_free_.notify_all();
}

}  // namespace larder
