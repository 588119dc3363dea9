// Reading back what a segment holds: its footer when it was sealed, otherwise record by record.
#pragma once

#include "store/tiers/store_file.h"

namespace larder {

struct ScannedRecord {
    uint32_t offset = 0;
    format::Record record;
    ExtentSums sums;
    bool payload_holds = true;  // known only after a full scan
};

struct SegmentScan {
    explicit SegmentScan(const Allocator& a) : records(a) {}
    uint32_t segment = 0;
    uint64_t sequence = 0;  // 0: nothing was ever written here
    bool sealed = false;
    uint32_t tail = 0;       // first byte behind the last record
    uint32_t n_corrupt = 0;  // records whose header holds and whose payload does not
    Vec<ScannedRecord> records;
};

class SegmentScanner {
  public:
    SegmentScanner(Os& os, const Allocator& a, StoreFile& file) noexcept : os_(os), alloc_(a), file_(file) {}

    // By its footer where that holds, otherwise as scan().
    larder_status load(uint32_t segment, SegmentScan& out);
    // Every record, verified. A damaged stretch is skipped: what lies behind it is found all the same.
    // `sequence` 0: as the segment's header says.
    larder_status scan(uint32_t segment, SegmentScan& out, uint64_t sequence = 0);
    // Give a segment a footer that lists what holds: the one that a crash left open, or one that was damaged.
    larder_status write_footer(const SegmentScan& scan);
    larder_status write_header(const SegmentScan& scan);
    // Whether the payload that a footer lists is there. The segment is the one of the last scan().
    bool payload_holds(const ScannedRecord& r) const noexcept;
    // Write a record's header and its table of checksums again, where they are.
    larder_status write_record(const SegmentScan& scan, const ScannedRecord& r);
    // Whether the header of the segment is the one that belongs to this sequence.
    Result<bool> header_holds(uint32_t segment, uint64_t sequence);
    uint64_t read_bytes() const noexcept { return read_bytes_; }

  private:
    // False: there is no valid footer.
    Result<bool> read_footer(uint32_t segment, SegmentScan& out);
    bool parse_table(ByteSpan table, const format::Trailer& t, SegmentScan& out);
    bool parse_record(const std::byte* mem, uint32_t offset, SegmentScan& out);
    larder_status read(PageBuffer& buffer, size_t n_bytes, uint64_t offset);

    Os& os_;
    const Allocator& alloc_;
    StoreFile& file_;
    PageBuffer tail_, whole_;
    uint64_t read_bytes_ = 0;
};

}  // namespace larder
