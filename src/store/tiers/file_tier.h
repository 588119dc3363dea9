// The file tier: a log of segments in one file.
//
// It knows segments, records and places; which objects live in a segment, and which segment to give up, is the store's
// business. Two mutexes: the append mutex orders everything that writes; the store's table mutex guards what readers
// look at (state, buffer, sequence, readers). The append mutex is taken first.
#pragma once

#include <condition_variable>
#include <mutex>
#include <span>

#include "base/atomic.h"
#include "core/context.h"
#include "store/tiers/segment_scan.h"
#include "store/tiers/segment_writer.h"

namespace larder {

class FileTier {
  public:
    struct Options {
        uint64_t file_bytes = 0;
        uint64_t segment_bytes = 0;  // of a new store
        bool sync_on_seal = false;
    };
    enum class State : uint8_t { free, open, sealing, sealed, quarantined };
    struct Segment {
        State state = State::free;
        uint64_t sequence = 0;        // of what is in the file, also when the segment is free
        uint64_t stale_sequence = 0;  // of what may come back in a crash, until the new use is durable
        uint32_t tail = 0;            // first byte behind the last record
        uint32_t durable = 0;         // records below survive a crash
        uint32_t n_readers = 0;
        uint32_t n_buffer_readers = 0;
        const std::byte* buffer = nullptr;  // while its bytes are in memory
    };
    // Records at or behind `durable` of this segment are lost; nothing more is written to it.
    struct Failure {
        uint32_t segment;
        uint32_t durable;
    };

    FileTier(larder_context& c, std::mutex& table_mutex) noexcept;
    ~FileTier();

    larder_status open(const char* directory, const Options& o);
    // What the file holds, oldest segment first. Call once, after open.
    struct Visitor {
        virtual void segment(SegmentScan& scan) = 0;
    };
    larder_status recover(Visitor& v);

    // --- writing: all under this lock -----------------------------------------------------------------
    using AppendLock = std::unique_lock<std::mutex>;
    AppendLock lock() { return AppendLock(append_mutex_); }
    // Whether append() would find room without giving up a segment. `last`: the segment kept in reserve may be used.
    bool room(const format::Record& r, bool last = false) noexcept;
    // Copy a record into the log. `sums` are its extents' checksums: given, they are compared with what is copied
    // (E_CORRUPT: nothing was appended); NULL: they are computed into *out_sums. r.payload_sum is set here.
    Result<RecordPlace> append(format::Record& r, const ExtentSums* sums, std::span<const ByteSpan> payload,
                               ExtentSums* out_sums);
    format::LogPosition position() const noexcept;
    // Everything appended is durable, or an error that says it is not.
    larder_status flush();
    // Wait until what was sealed is written (not: durable), so that it can be evicted.
    void settle_sealed();
    // flush, and seal the open segment.
    larder_status close();
    // The segment's records are not needed any more: it may be written anew.
    void release(uint32_t segment) noexcept;
    // Records older than this may still be found by a later open.
    bool older_on_disk(uint64_t sequence, uint32_t except) const noexcept;
    Vec<Failure> take_failures();
    // OK, or why nothing is written any more.
    larder_status status() const noexcept { return broken_.load(relaxed); }

    // --- reading: under the table mutex ---------------------------------------------------------------
    Segment& segment(uint32_t i) noexcept { return segments_[i]; }
    uint32_t n_segments() const noexcept { return uint32_t(segments_.size()); }
    void hold(uint32_t segment, bool buffer) noexcept;
    void unhold(uint32_t segment, bool buffer) noexcept;

    const StoreFile& file() const noexcept { return file_; }
    StoreFile& file() noexcept { return file_; }
    uint64_t max_payload_bytes() const noexcept { return format::max_payload(file_.segment_bytes()); }
    bool io_uring() const noexcept { return writer_.io_uring(); }
    uint64_t written_bytes() const noexcept { return writer_.written_bytes(); }
    // What was given to the log, of which a part may not be written yet.
    uint64_t appended_bytes() const noexcept { return appended_bytes_; }
    uint64_t recovery_read_bytes() const noexcept { return recovery_read_bytes_; }

  private:
    bool fits(const format::Record& r) const noexcept;
    uint32_t n_free() const noexcept;
    larder_status open_segment();
    Result<uint32_t> take_slot();
    Result<SegmentWriter::Staging*> take_staging();
    void seal();
    void settle(SegmentWriter::Staging& s);
    void fail_segment(SegmentWriter::Staging& s);
    void fail_unsynced();
    void write_out();
    bool copy_payload(std::byte* to, const format::Record& r, ExtentSums& sums, bool compare,
                      std::span<const ByteSpan> payload);
    void add_to_footer(const format::Record& r, uint32_t offset, const ExtentSums& sums);
    format::Place place(uint32_t segment) const noexcept { return file_.place(segment, segments_[segment].sequence); }

    larder_context& context_;
    Os& os_;
    std::mutex& table_mutex_;
    std::mutex append_mutex_;
    std::condition_variable buffer_free_;
    StoreFile file_;
    SegmentWriter writer_;
    Vec<Segment> segments_;
    Vec<Failure> failures_;
    SegmentWriter::Staging* open_ = nullptr;
    Vec<std::byte> footer_;  // table of the open segment
    uint32_t n_footer_records_ = 0;
    uint64_t next_sequence_ = 0;
    uint32_t n_file_segments_ = 0;  // that the file has room for
    uint32_t max_segments_ = 0;
    uint32_t n_failures_ = 0;
    larder_status unreported_ = LARDER_OK;
    atomic<larder_status> broken_{LARDER_OK};
    bool sync_on_seal_ = false;
    uint64_t appended_bytes_ = 0;
    bool needs_sync_ = false;  // something was written since the last sync
    uint64_t recovery_read_bytes_ = 0;
};

}  // namespace larder
