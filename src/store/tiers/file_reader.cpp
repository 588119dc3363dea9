#include "store/tiers/file_reader.h"

#include <algorithm>
#include <cerrno>

#include "base/crc32c.h"
#include "os/errno_status.h"

namespace larder {

using namespace format;

namespace {

// One request covers so many extents; beyond half a megabyte larger requests bring nothing.
constexpr uint32_t piece_extents = 8;
constexpr size_t slot_bytes = size_t(piece_extents + 1) * extent_bytes;  // with header, table and alignment
constexpr uint32_t max_depth = 32;

// A part of one read: some extents, and perhaps the header before them.
struct Piece {
    IoOp io;
    size_t read = 0;
    uint32_t first_extent = 0, n_extents = 0;
    uint64_t begin = 0;  // in the file: what the piece needs, before alignment
    bool header = false;
};

// Which piece comes next.
struct Cursor {
    size_t read = 0;
    uint32_t extent = 0;
    bool started = false;
};

uint32_t first_extent(const FileRead& r) noexcept {
    return uint32_t(r.want_offset / extent_bytes);
}
uint32_t end_extent(const FileRead& r) noexcept {
    return uint32_t((r.want_offset + r.want_bytes + extent_bytes - 1) / extent_bytes);
}
uint64_t payload_at(const FileRead& r) noexcept {
    return record_header_bytes + (r.sums.size() > 1 ? r.sums.size() * 4 : 0);
}
// A part that begins with the first extent is read together with the header; otherwise the header is a piece of its
// own.
bool header_apart(const FileRead& r) noexcept {
    return first_extent(r) != 0;
}

uint32_t count_pieces(const FileRead& r) noexcept {
    const uint32_t n = end_extent(r) - first_extent(r);
    return (n + piece_extents - 1) / piece_extents + header_apart(r);
}

// `from` holds extent i. Verify it and copy what is wanted of it.
bool take_extent(FileRead& r, uint32_t i, const std::byte* from) noexcept {
    const uint64_t begin = uint64_t(i) * extent_bytes, n = std::min<uint64_t>(extent_bytes, r.n_bytes - begin);
    const uint64_t lo = std::max(begin, r.want_offset), hi = std::min(begin + n, r.want_offset + r.want_bytes);
    std::byte* const to = r.out + (lo - r.want_offset);
    uint32_t sum = crc32c(0, from, lo - begin);
    sum = crc32c_copy(sum, to, from + (lo - begin), hi - lo);
    return crc32c(sum, from + (hi - begin), begin + n - hi) == r.sums[i];
}

bool header_holds(const FileRead& r, const StoreFile& file, const std::byte* header) noexcept {
    Record record;
    return decode_record(header, file.place(r.segment, r.sequence), r.offset, record) &&
           record.kind == RecordKind::object && record.key == r.key && record.n_bytes == r.n_bytes &&
           record.payload_sum == payload_sum(r.sums);
}

bool take_from_memory(FileRead& r, const StoreFile& file) noexcept {
    const std::byte* record = r.buffer + r.offset;
    if (!header_holds(r, file, record)) return false;
    for (uint32_t i = first_extent(r); i < end_extent(r); ++i)
        if (!take_extent(r, i, record + payload_at(r) + uint64_t(i) * extent_bytes)) return false;
    return true;
}

}  // namespace

// A ring with its bounce buffers; used by one thread at a time.
struct FileReader::Lane {
    Lane(const Allocator& a) : pieces(a), free(a) {}
    Owned<IoRing> ring;
    PageBuffer memory;
    Vec<Piece> pieces;
    Vec<Piece*> free;
};

FileReader::~FileReader() {
    for (Lane* lane : idle_) context_.alloc.destroy(lane);
}

Result<FileReader::Lane*> FileReader::take() {
    {
        std::lock_guard lock(mutex_);
        if (!idle_.empty()) {
            Lane* lane = idle_.back();
            idle_.pop_back();
            return lane;
        }
    }
    const Allocator& a = context_.alloc;
    auto lane = make_owned<Lane>(a, a);
    const uint32_t depth = uint32_t(std::min<uint64_t>(context_.param(LARDER_PARAM_IO_DEPTH), max_depth));
    LARDER_ASSIGN(lane->ring, context_.os.io_ring(a, depth, context_.param(LARDER_PARAM_IO_URING) != 0));
    LARDER_ASSIGN(lane->memory, PageBuffer::make(context_.os, depth * slot_bytes));
    lane->pieces.resize(depth);
    for (uint32_t i = 0; i < depth; ++i) {
        lane->pieces[i].io.buffer = lane->memory.data() + i * slot_bytes;
        lane->pieces[i].io.tag = i;
    }
    lane->free.reserve(depth);
    std::lock_guard lock(mutex_);
    idle_.reserve(idle_.size() + 64);  // give_back() must not allocate
    return lane.release();
}

void FileReader::give_back(Lane* lane) noexcept {
    std::lock_guard lock(mutex_);
    if (lane->ring && idle_.size() < idle_.capacity())
        idle_.push_back(lane);
    else
        context_.alloc.destroy(lane);
}

// One call of run().
struct FileReader::Run {
    FileReader& reader;
    std::span<FileRead> reads;
    Sink& sink;
    Lane& lane;
    Cursor next{};
    uint32_t n_in_flight = 0;

    bool next_piece(Piece& p);
    void fill();
    void reap();
    void finish(Piece& p);
    bool complete(Piece& p);
    void piece_done(size_t read, larder_status status);
    void lose_ring();
};

bool FileReader::Run::next_piece(Piece& p) {
    while (next.read < reads.size() && reads[next.read].buffer) ++next.read, next.started = false;
    if (next.read == reads.size()) return false;
    FileRead& r = reads[next.read];
    const uint64_t record = reader.file_.segment_offset(r.segment) + r.offset;
    p.read = next.read;
    uint64_t end;
    if (!next.started && header_apart(r)) {
        p.header = true;
        p.n_extents = 0;
        p.begin = record;
        end = record + record_header_bytes;
        next.extent = first_extent(r);
    } else {
        if (!next.started) next.extent = first_extent(r);
        p.header = next.extent == 0;
        p.first_extent = next.extent;
        p.n_extents = std::min(piece_extents, end_extent(r) - next.extent);
        next.extent += p.n_extents;
        p.begin = p.header ? record : record + payload_at(r) + uint64_t(p.first_extent) * extent_bytes;
        end = record + payload_at(r) + std::min<uint64_t>(uint64_t(next.extent) * extent_bytes, r.n_bytes);
    }
    next.started = true;
    if (next.extent == end_extent(r)) ++next.read, next.started = false;
    const uint64_t from = align_down<uint64_t>(p.begin, block_bytes);
    p.io.kind = IoOp::Kind::read;
    p.io.file = reader.file_.handle();
    p.io.offset = from;
    p.io.n_bytes = uint32_t(align_up<uint64_t>(end, block_bytes) - from);
    p.io.result = 0;
    return true;
}

void FileReader::Run::piece_done(size_t i, larder_status status) {
    FileRead& r = reads[i];
    if (status < 0 && r.status >= 0) r.status = status;
    if (--r.n_left == 0) sink.done(i);
}

// Check what arrived and hand it on.
bool FileReader::Run::complete(Piece& p) {
    FileRead& r = reads[p.read];
    const std::byte* at = static_cast<const std::byte*>(p.io.buffer) + (p.begin - p.io.offset);
    if (p.header) {
        if (!header_holds(r, reader.file_, at)) return false;
        at += payload_at(r);
    }
    for (uint32_t i = 0; i < p.n_extents; ++i)
        if (!take_extent(r, p.first_extent + i, at + uint64_t(i) * extent_bytes)) return false;
    return true;
}

void FileReader::Run::finish(Piece& p) {
    Stats& stats = reader.context_.stats;
    larder_status status = LARDER_OK;
    if (p.io.result < 0) {
        status = fail_os(file_status(int(-p.io.result)), int(-p.io.result), "store.larder",
                         "a read of the data file failed");
    } else if (uint64_t(p.io.result) < p.io.n_bytes) {
        // Short: once more, this time to the end.
        status = reader.context_.os.read_all(reader.file_.handle(), p.io.buffer, p.io.n_bytes, p.io.offset);
    }
    if (status < 0) {
        stats.add(Stat::io_errors);
    } else {
        stats.add(Stat::io_read_bytes, p.io.n_bytes);
        if (!complete(p)) status = LARDER_E_CORRUPT;
    }
    lane.free.push_back(&p);
    piece_done(p.read, status);
}

void FileReader::Run::fill() {
    IoOp* ops[max_depth];
    size_t n = 0;
    while (!lane.free.empty() && next_piece(*lane.free.back())) {
        ops[n++] = &lane.free.back()->io;
        lane.free.pop_back();
    }
    reader.context_.stats.add(Stat::io_reads, n);
    n_in_flight += uint32_t(n);
    for (size_t at = 0; at < n;) {
        const auto taken = lane.ring->submit({ops + at, n - at});
        if (taken.ok() && *taken > 0) {
            at += *taken;
            continue;
        }
        if (taken.ok() && at + (n_in_flight - n) > 0) {
            reap();
            if (!lane.ring) return;  // all that was begun is finished, what was not yet submitted included
            continue;
        }
        // Nothing in flight and nothing accepted: this one is read the plain way.
        Piece& p = lane.pieces[ops[at]->tag];
        const larder_status status = reader.context_.os.read_all(p.io.file, p.io.buffer, p.io.n_bytes, p.io.offset);
        p.io.result = status < 0 ? -EIO : int64_t(p.io.n_bytes);
        --n_in_flight;
        ++at;
        finish(p);
    }
}

void FileReader::Run::reap() {
    IoOp* done[max_depth];
    const auto n = lane.ring->reap(done, 1);
    if (!n.ok()) return lose_ring();
    for (size_t i = 0; i < *n; ++i) {
        --n_in_flight;
        finish(lane.pieces[done[i]->tag]);
    }
}

// The ring cannot say what became of its requests. Its destruction waits for them; then each is read again the plain
// way.
void FileReader::Run::lose_ring() {
    lane.ring.reset();
    for (Piece& p : lane.pieces) {
        if (std::find(lane.free.begin(), lane.free.end(), &p) != lane.free.end()) continue;
        const larder_status status = reader.context_.os.read_all(p.io.file, p.io.buffer, p.io.n_bytes, p.io.offset);
        p.io.result = status < 0 ? -EIO : int64_t(p.io.n_bytes);
        --n_in_flight;
        finish(p);
    }
}

larder_status FileReader::run(std::span<FileRead> reads, Sink& sink) {
    bool disk = false;
    for (size_t i = 0; i < reads.size(); ++i) {
        FileRead& r = reads[i];
        if (r.buffer) continue;
        r.n_left = count_pieces(r);
        disk = true;
    }
    Lane* lane = nullptr;
    if (disk) {
        LARDER_ASSIGN(lane, take());
        lane->free.clear();
        for (Piece& p : lane->pieces) lane->free.push_back(&p);
    }
    // What is in memory still is served while the disk works.
    if (disk) {
        Run run{*this, reads, sink, *lane};
        run.fill();
        for (size_t i = 0; i < reads.size(); ++i)
            if (reads[i].buffer) {
                reads[i].status = take_from_memory(reads[i], file_) ? LARDER_OK : LARDER_E_CORRUPT;
                sink.done(i);
            }
        for (; lane->ring && (run.n_in_flight || run.next.read < reads.size());) {
            run.reap();
            if (lane->ring) run.fill();
        }
        // Without a ring the rest is read one by one.
        while (!lane->ring && !lane->free.empty() && run.next_piece(*lane->free.back())) {
            Piece& p = *lane->free.back();
            lane->free.pop_back();
            p.io.result = context_.os.read_all(p.io.file, p.io.buffer, p.io.n_bytes, p.io.offset) < 0
                              ? -EIO
                              : int64_t(p.io.n_bytes);
            run.finish(p);
        }
        give_back(lane);
        return LARDER_OK;
    }
    for (size_t i = 0; i < reads.size(); ++i) {
        reads[i].status = take_from_memory(reads[i], file_) ? LARDER_OK : LARDER_E_CORRUPT;
        sink.done(i);
    }
    return LARDER_OK;
}

}  // namespace larder
