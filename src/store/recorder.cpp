#include "store/recorder.h"

#include "base/crc32c.h"

namespace larder {

using namespace record;

larder_status Recorder::open(const char* path, const Header& h) {
    buffer_.resize(block_head_bytes + block_bytes);
    LARDER_ASSIGN(const OpenFile file, os_.open(path, open_flag::write | open_flag::create | open_flag::truncate));
    file_ = file.handle;
    start_ns_ = os_.now_ns();
    std::byte head[header_bytes]{};
    std::memcpy(head, magic, 8);
    store_le<uint32_t>(head + 8, version);
    store_le<uint32_t>(head + 12, h.policy);
    store_le<uint64_t>(head + 16, h.capacity_bytes);
    store_le<uint64_t>(head + 24, h.wall_ns);
    store_le<uint32_t>(head + header_bytes - 4, crc32c(0, head, header_bytes - 4));
    offset_ = header_bytes;
    return status_ = os_.write_all(file_, head, sizeof head, 0);
}

void Recorder::close() noexcept {
    if (!file_.valid()) return;
    write_out();
    os_.close(file_);
    file_ = {};
}

void Recorder::write_out() noexcept {
    if (!used_ || status_ < 0) return;
    std::byte* const head = buffer_.data();
    store_le<uint32_t>(head, uint32_t(used_));
    store_le<uint32_t>(head + 4, crc32c(0, head + block_head_bytes, used_));
    status_ = os_.write_all(file_, head, block_head_bytes + used_, offset_);
    offset_ += block_head_bytes + used_;
    used_ = 0;
}

// Room for an operation's fields. After a failure it is room that nobody reads.
std::byte* Recorder::begin(Op op, size_t n_bytes) noexcept {
    if (used_ + 1 + n_bytes > block_bytes) {
        write_out();
        used_ = 0;
    }
    std::byte* const at = buffer_.data() + block_head_bytes + used_;
    used_ += 1 + n_bytes;
    *at = std::byte(op);
    return at + 1;
}

void Recorder::request() noexcept {
    store_le<uint64_t>(begin(Op::request, 8), os_.now_ns() - start_ns_);
}

void Recorder::get(uint64_t id, uint64_t n_bytes, uint32_t tier) noexcept {
    std::byte* const p = begin(Op::get, 17);
    store_le<uint64_t>(p, id);
    store_le<uint64_t>(p + 8, n_bytes);
    store_le<uint8_t>(p + 16, uint8_t(tier));
}

void Recorder::put(uint64_t id, uint64_t n_bytes) noexcept {
    std::byte* const p = begin(Op::put, 16);
    store_le<uint64_t>(p, id);
    store_le<uint64_t>(p + 8, n_bytes);
}

void Recorder::refer(Op op, uint32_t slot, const Reference& r) noexcept {
    std::byte* const p = begin(op, 4 + reference_bytes);
    store_le<uint32_t>(p, slot);
    store_le<uint64_t>(p + 4, r.id);
    store_le<uint64_t>(p + 12, r.now);
    store_le<uint64_t>(p + 20, r.next_use);
    store_le<uint64_t>(p + 28, r.n_bytes);
    store_le<uint8_t>(p + 36, r.score);
    store_le<uint8_t>(p + 37, r.priority);
    store_le<uint8_t>(p + 38, r.last);
}

void Recorder::slot(Op op, uint32_t slot) noexcept {
    store_le<uint32_t>(begin(op, 4), slot);
}

void Recorder::number(Op op, uint64_t n) noexcept {
    store_le<uint64_t>(begin(op, 8), n);
}

}  // namespace larder
