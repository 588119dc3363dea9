#include "store/tiers/segment_scan.h"

#include <algorithm>

#include "base/crc32c.h"

namespace larder {

using namespace format;

namespace {
// Enough for the footer of most segments in one read.
constexpr uint64_t footer_guess_bytes = 64 << 10;
}  // namespace

larder_status SegmentScanner::read(PageBuffer& buffer, size_t n_bytes, uint64_t offset) {
    if (buffer.size() < n_bytes) {
        LARDER_ASSIGN(buffer, PageBuffer::make(os_, n_bytes));
    }
    read_bytes_ += n_bytes;
    return file_.read(buffer.data(), n_bytes, offset);
}

larder_status SegmentScanner::load(uint32_t segment, SegmentScan& out) {
    LARDER_ASSIGN(const bool sealed, read_footer(segment, out));
    return sealed ? LARDER_OK : scan(segment, out);
}

Result<bool> SegmentScanner::read_footer(uint32_t segment, SegmentScan& out) {
    const uint64_t size = file_.segment_bytes(), end = file_.segment_offset(segment) + size;
    uint64_t have = std::min(footer_guess_bytes, size);
    LARDER_TRY(read(tail_, have, end - have));
    Trailer t;
    out.segment = segment;
    out.sequence = decode_trailer(tail_.data() + have - trailer_bytes, file_.super().id, segment, size, t);
    if (!out.sequence) return false;
    if (footer_zone(t.table_bytes) > have) {
        have = footer_zone(t.table_bytes);
        LARDER_TRY(read(tail_, have, end - have));
    }
    const ByteSpan table(tail_.data() + have - trailer_bytes - t.table_bytes, t.table_bytes);
    out.records.clear();
    return parse_table(table, t, out);
}

bool SegmentScanner::parse_table(ByteSpan table, const Trailer& t, SegmentScan& out) {
    if (crc32c(0, table.data(), table.size()) != t.table_sum) return false;
    const Place place = file_.place(out.segment, out.sequence);
    ByteReader in(table);
    uint64_t at = segment_header_bytes;
    for (uint32_t i = 0; i < t.n_records; ++i) {
        ScannedRecord r;
        r.offset = in.get<uint32_t>();
        const ByteSpan header = in.take(record_header_bytes);
        if (!in.ok() || r.offset < at || !decode_record(header.data(), place, r.offset, r.record)) return false;
        at = r.offset + r.record.total_bytes();
        if (at > t.tail) return false;
        const uint32_t n = r.record.n_extents();
        r.sums = ExtentSums(alloc_, n);
        if (n == 1) *r.sums.data() = r.record.payload_sum;
        if (n > 1) {
            const ByteSpan sums = in.take(size_t(n) * 4);
            if (!in.ok()) return false;
            std::memcpy(r.sums.data(), sums.data(), sums.size());
            if (payload_sum(r.sums) != r.record.payload_sum) return false;
        }
        out.records.push_back(std::move(r));
    }
    out.sealed = true;
    out.tail = t.tail;
    return in.remaining() == 0;
}

namespace {

bool extents_hold(const std::byte* segment, const ScannedRecord& r) noexcept {
    const std::byte* payload = segment + r.offset + r.record.payload_offset();
    for (uint32_t i = 0; i < r.record.n_extents(); ++i) {
        const uint64_t begin = uint64_t(i) * extent_bytes;
        if (crc32c(0, payload + begin, std::min<uint64_t>(extent_bytes, r.record.n_bytes - begin)) != r.sums[i])
            return false;
    }
    return true;
}

}  // namespace

bool SegmentScanner::payload_holds(const ScannedRecord& r) const noexcept {
    return extents_hold(whole_.data(), r);
}

bool SegmentScanner::parse_record(const std::byte* mem, uint32_t offset, SegmentScan& out) {
    const uint64_t size = file_.segment_bytes();
    ScannedRecord r;
    r.offset = offset;
    if (!decode_record(mem + offset, file_.place(out.segment, out.sequence), offset, r.record)) return false;
    if (offset + r.record.total_bytes() > size) return false;
    const uint32_t n = r.record.n_extents();
    r.sums = ExtentSums(alloc_, n);
    if (n == 1) *r.sums.data() = r.record.payload_sum;
    if (n > 1) {
        std::memcpy(r.sums.data(), mem + offset + record_header_bytes, size_t(n) * 4);
        r.payload_holds = payload_sum(r.sums) == r.record.payload_sum;
    }
    r.payload_holds = r.payload_holds && extents_hold(mem, r);
    out.n_corrupt += !r.payload_holds;
    out.records.push_back(std::move(r));
    return out.records.back().payload_holds;
}

larder_status SegmentScanner::scan(uint32_t segment, SegmentScan& out, uint64_t sequence) {
    const uint64_t size = file_.segment_bytes();
    out.segment = segment;
    out.sealed = false;
    out.records.clear();
    out.n_corrupt = 0;
    out.tail = segment_header_bytes;
    out.sequence = sequence;
    if (!sequence) {
        LARDER_TRY(read(tail_, block_bytes, file_.segment_offset(segment)));
        out.sequence = decode_segment_header(tail_.data(), file_.super().id, segment);
        // An open segment has a copy of its header where its trailer will be.
        LARDER_TRY(read(tail_, block_bytes, file_.segment_offset(segment) + size - block_bytes));
        out.sequence = std::max(out.sequence, decode_segment_header(tail_.data(), file_.super().id, segment));
    }
    if (!out.sequence) return LARDER_OK;
    LARDER_TRY(read(whole_, size, file_.segment_offset(segment)));
    for (uint64_t at = segment_header_bytes; at + record_header_bytes <= size;) {
        // Bytes inside a record that holds are never taken for a record; inside a damaged one they may be looked at,
        // and a header that was not written at that very place by this store does not pass.
        if (!parse_record(whole_.data(), uint32_t(at), out)) {
            at += record_align;
            continue;
        }
        at += out.records.back().record.total_bytes();
        out.tail = uint32_t(at);
    }
    return LARDER_OK;
}

Result<bool> SegmentScanner::header_holds(uint32_t segment, uint64_t sequence) {
    LARDER_TRY(read(tail_, block_bytes, file_.segment_offset(segment)));
    return decode_segment_header(tail_.data(), file_.super().id, segment) == sequence;
}

larder_status SegmentScanner::write_header(const SegmentScan& scan) {
    // The block also holds the beginning of the first record.
    LARDER_TRY(read(tail_, block_bytes, file_.segment_offset(scan.segment)));
    encode_segment_header(file_.place(scan.segment, scan.sequence), tail_.data());
    return file_.write(tail_.data(), block_bytes, file_.segment_offset(scan.segment));
}

larder_status SegmentScanner::write_record(const SegmentScan& scan, const ScannedRecord& r) {
    const uint64_t begin = align_down<uint64_t>(r.offset, block_bytes);
    const uint64_t end =
        align_up<uint64_t>(r.offset + record_header_bytes + r.record.table_bytes(), uint64_t(block_bytes));
    LARDER_TRY(read(whole_, end - begin, file_.segment_offset(scan.segment) + begin));
    std::byte* at = whole_.data() + (r.offset - begin);
    encode_record(r.record, file_.place(scan.segment, scan.sequence), r.offset, at);
    std::memcpy(at + record_header_bytes, r.sums.data(), r.record.table_bytes());
    return file_.write(whole_.data(), end - begin, file_.segment_offset(scan.segment) + begin);
}

larder_status SegmentScanner::write_footer(const SegmentScan& scan) {
    const Place place = file_.place(scan.segment, scan.sequence);
    Vec<std::byte> table(alloc_);
    Trailer t{.tail = scan.tail};
    for (const ScannedRecord& r : scan.records) {
        if (!r.payload_holds) continue;
        std::byte head[4 + record_header_bytes];
        store_le<uint32_t>(head, r.offset);
        std::memset(head + 4, 0, record_header_bytes);
        encode_record(r.record, place, r.offset, head + 4);
        table.insert(table.end(), head, head + sizeof head);
        const auto* sums = reinterpret_cast<const std::byte*>(r.sums.data());
        if (r.record.table_bytes()) table.insert(table.end(), sums, sums + r.record.table_bytes());
        ++t.n_records;
    }
    const uint64_t zone = footer_zone(table.size()), size = file_.segment_bytes();
    if (scan.tail + zone > size)
        return fail(LARDER_E_NOSPACE, "store.larder", "segment %u has no room for a footer", scan.segment);
    t.table_bytes = uint32_t(table.size());
    t.table_sum = crc32c(0, table.data(), table.size());
    LARDER_ASSIGN(PageBuffer block, PageBuffer::make(os_, zone));
    std::copy(table.begin(), table.end(), block.data() + zone - trailer_bytes - table.size());
    encode_trailer(t, place, block.data() + zone - trailer_bytes);
    return file_.write(block.data(), zone, file_.segment_offset(scan.segment) + size - zone);
}

}  // namespace larder
