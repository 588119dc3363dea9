// Production traffic as a file (docs/formats/record.md): what was asked of a store, and every word with the policy of
// its host tier, so that its decisions can be had again bit for bit.
#pragma once

#include "base/alloc.h"
#include "base/bytes.h"
#include "os/os.h"
#include "store/policy/hinted_policy.h"

namespace larder {

namespace record {

inline constexpr char magic[9] = "LRDRREC1";
inline constexpr uint32_t version = 1;
inline constexpr size_t header_bytes = 64, block_head_bytes = 8, block_bytes = 256 << 10;
inline constexpr uint64_t max_slots = uint64_t(1) << 28;

enum class Op : uint8_t {
    request = 1,  // time
    get,          // id, bytes, tier
    put,          // id, bytes
    admit,        // slot, reference
    touch,
    foresee,
    extended,  // slot
    remove,    // slot
    evict,     // slot that was chosen
    reserve,   // slots
    hints      // are to be expected
};
inline constexpr size_t reference_bytes = 35, max_op_bytes = 1 + 4 + reference_bytes;

struct Header {
    uint32_t policy = 0;
    uint64_t capacity_bytes = 0;
    uint64_t wall_ns = 0;
};

}  // namespace record

// Buffers and writes. Not synchronised. What cannot be written ends the recording, never the traffic.
class Recorder {
  public:
    Recorder(Os& os, const Allocator& a) : os_(os), buffer_(a) {}
    ~Recorder() { close(); }
    Recorder(const Recorder&) = delete;

    larder_status open(const char* path, const record::Header& h);
    void close() noexcept;
    larder_status status() const noexcept { return status_; }

    void request() noexcept;
    void get(uint64_t id, uint64_t n_bytes, uint32_t tier) noexcept;
    void put(uint64_t id, uint64_t n_bytes) noexcept;
    void refer(record::Op op, uint32_t slot, const Reference& r) noexcept;
    void slot(record::Op op, uint32_t slot) noexcept;
    void number(record::Op op, uint64_t n) noexcept;

  private:
    std::byte* begin(record::Op op, size_t n_bytes) noexcept;
    void write_out() noexcept;

    Os& os_;
    OsHandle file_;
    Vec<std::byte> buffer_;  // a block: its head, then operations
    size_t used_ = 0;
    uint64_t offset_ = 0;
    uint64_t start_ns_ = 0;
    larder_status status_ = LARDER_OK;
};

// The store's way to the policy of its host tier, with a recorder listening or not.
class RecordedPolicy {
  public:
    RecordedPolicy(const Allocator& a, const PolicyRow& row) : policy_(a, row) {}
    void listen(Recorder* r) noexcept { recorder_ = r; }

    void expect_hints() {
        policy_.expect_hints();
        if (recorder_) recorder_->number(record::Op::hints, 0);
    }
    void reserve(size_t n) {
        policy_.reserve(n);
        if (recorder_ && n != reserved_) recorder_->number(record::Op::reserve, n);
        reserved_ = n;
    }
    void admit(uint32_t slot, const Reference& r) {
        if (recorder_) recorder_->refer(record::Op::admit, slot, r);
        policy_.admit(slot, r);
    }
    void touch(uint32_t slot, const Reference& r) {
        if (recorder_) recorder_->refer(record::Op::touch, slot, r);
        policy_.touch(slot, r);
    }
    void foresee(uint32_t slot, const Reference& r) {
        if (recorder_) recorder_->refer(record::Op::foresee, slot, r);
        policy_.foresee(slot, r);
    }
    void extended(uint32_t slot) {
        if (recorder_) recorder_->slot(record::Op::extended, slot);
        policy_.extended(slot);
    }
    void remove(uint32_t slot) noexcept {
        if (recorder_) recorder_->slot(record::Op::remove, slot);
        policy_.remove(slot);
    }
    uint32_t evict() {
        const uint32_t slot = policy_.evict();
        if (recorder_) recorder_->slot(record::Op::evict, slot);
        return slot;
    }

  private:
    HintedPolicy policy_;
    Recorder* recorder_ = nullptr;
    size_t reserved_ = 0;
};

}  // namespace larder
