#include "store/fsck.h"

#include <algorithm>

#include "store/tiers/segment_scan.h"

namespace larder {

using namespace format;

namespace {

class Checker {
  public:
    Checker(larder_context& c, larder_store_report& report)
        : context_(c), report_(report), file_(c.os, c.alloc), scanner_(c.os, c.alloc, file_), scans_(c.alloc),
          latest_(c.alloc), tenants_(c.alloc) {}

    larder_status run(const char* directory, bool repair, RecordSink sink);

  private:
    larder_status look_at(uint32_t segment, bool repair);
    larder_status tell(RecordSink sink);
    void remember(const SegmentScan& scan);
    bool superseded(const SegmentScan& scan, const ScannedRecord& r) const;

    larder_context& context_;
    larder_store_report& report_;
    StoreFile file_;
    SegmentScanner scanner_;
    Vec<SegmentScan> scans_;
    HashMap<larder_key, LogPosition, KeyHash, KeyEqual> latest_;  // records before it do not count
    HashMap<uint32_t, LogPosition> tenants_;
};

bool same_record(const ScannedRecord& a, const ScannedRecord& b) noexcept {
    return a.offset == b.offset && a.record.key == b.record.key && a.record.payload_sum == b.record.payload_sum;
}

// One segment: by its footer and, independently, by its records. What a footer lists stands whole in it, so only a
// payload that does not hold is lost; a damaged copy among the records is counted, and written again by a repair.
larder_status Checker::look_at(uint32_t segment, bool repair) {
    SegmentScan listed(context_.alloc), found(context_.alloc);
    LARDER_TRY(scanner_.load(segment, listed));
    if (!listed.sequence) return LARDER_OK;
    LARDER_TRY(scanner_.scan(segment, found, listed.sequence));
    ++report_.n_segments;
    report_.n_sealed += listed.sealed;
    // What a footer does not list is not part of the store any more, whatever its bytes look like.
    SegmentScan& judged = listed.sealed ? listed : found;
    uint64_t n_corrupt = 0;
    Vec<const ScannedRecord*> damaged_copies(context_.alloc);
    for (ScannedRecord& r : judged.records) {
        if (listed.sealed) r.payload_holds = scanner_.payload_holds(r);
        n_corrupt += !r.payload_holds;
        if (listed.sealed && r.payload_holds && std::none_of(found.records.begin(), found.records.end(), [&](auto& f) {
                return f.payload_holds && same_record(f, r);
            }))
            damaged_copies.push_back(&r);
    }
    n_corrupt += damaged_copies.size();
    LARDER_ASSIGN(const bool header_holds, scanner_.header_holds(segment, listed.sequence));
    report_.n_corrupt += n_corrupt;
    report_.n_torn += !listed.sealed;
    if (!header_holds) ++report_.n_corrupt;
    if (repair && (n_corrupt || !listed.sealed || !header_holds)) {
        for (const ScannedRecord* r : damaged_copies) LARDER_TRY(scanner_.write_record(judged, *r));
        LARDER_TRY(scanner_.write_footer(judged));
        if (!header_holds) LARDER_TRY(scanner_.write_header(judged));
        ++report_.n_repaired;
    }
    scans_.push_back(std::move(judged));
    return LARDER_OK;
}

void Checker::remember(const SegmentScan& scan) {
    for (const ScannedRecord& r : scan.records) {
        if (!r.payload_holds) continue;
        const LogPosition here{scan.sequence, r.offset};
        switch (r.record.kind) {
        case RecordKind::object:
            ++report_.n_records;
            report_.n_bytes += r.record.n_bytes;
            latest_[r.record.key] = std::max(latest_[r.record.key], here);
            break;
        case RecordKind::key_removal:
            ++report_.n_removals;
            latest_[r.record.key] = std::max(latest_[r.record.key], r.record.horizon);
            break;
        case RecordKind::tenant_removal:
            ++report_.n_removals;
            tenants_[r.record.meta.tenant] = std::max(tenants_[r.record.meta.tenant], r.record.horizon);
            break;
        }
    }
}

bool Checker::superseded(const SegmentScan& scan, const ScannedRecord& r) const {
    const LogPosition here{scan.sequence, r.offset};
    const auto key = latest_.find(r.record.key);
    const auto tenant = tenants_.find(r.record.meta.tenant);
    return (key != latest_.end() && here < key->second) || (tenant != tenants_.end() && here < tenant->second);
}

larder_status Checker::tell(RecordSink sink) {
    for (const SegmentScan& scan : scans_)
        for (const ScannedRecord& r : scan.records) {
            if (r.record.kind != RecordKind::object) continue;
            larder_store_record out = {};
            out.struct_size = sizeof out;
            out.status = r.payload_holds ? LARDER_OK : LARDER_E_CORRUPT;
            out.segment = scan.segment;
            out.segment_sequence = scan.sequence;
            out.offset = r.offset;
            out.n_bytes = r.record.n_bytes;
            out.superseded = superseded(scan, r);
            out.key = r.record.key;
            const ObjectMeta& m = r.record.meta;
            out.meta = {sizeof out.meta, m.tenant, m.layout, m.parent, m.n_tokens, m.quality, m.codec, m.user_flags};
            if (sink.fn(sink.ctx, &out)) return LARDER_PARTIAL;
        }
    return LARDER_OK;
}

larder_status Checker::run(const char* directory, bool repair, RecordSink sink) {
    LARDER_TRY(file_.open(directory, repair ? StoreFile::Mode::repair : StoreFile::Mode::inspect, 0));
    report_.format_version = version;
    report_.n_bad_superblocks = file_.bad_superblocks();
    if (repair && file_.bad_superblocks()) {
        LARDER_TRY(file_.renew_superblocks());
        ++report_.n_repaired;
    }
    for (uint32_t i = 0; i < file_.n_segments(); ++i) {
        const larder_status status = look_at(i, repair);
        // An unreadable place does not hide the rest.
        if (status == LARDER_E_IO)
            ++report_.n_corrupt;
        else
            LARDER_TRY(status);
    }
    report_.n_torn += file_.ends_inside_a_segment();
    if (repair && file_.ends_inside_a_segment()) {
        LARDER_TRY(file_.grow_to(file_.n_segments()));
        ++report_.n_repaired;
    }
    if (repair && report_.n_repaired) LARDER_TRY(file_.sync());
    for (const SegmentScan& scan : scans_) remember(scan);
    if (sink.fn) {
        const larder_status told = tell(sink);
        if (told != LARDER_OK) return told;
    }
    return report_.n_corrupt || report_.n_torn || report_.n_bad_superblocks ? LARDER_PARTIAL : LARDER_OK;
}

}  // namespace

larder_status check_store(larder_context& c, const char* directory, bool repair, RecordSink sink,
                          larder_store_report& report) {
    Checker checker(c, report);
    return checker.run(directory, repair, sink);
}

}  // namespace larder
