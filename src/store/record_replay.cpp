#include "store/record_replay.h"

#include "base/crc32c.h"
#include "store/recorder.h"

namespace larder {
namespace {

using namespace record;

larder_status damaged(const char* what) noexcept {
    return fail(LARDER_E_CORRUPT, "record", "the record is damaged: %s", what);
}

// Reads blocks that hold; the first that does not ends the record, as after a crash.
class Reader {
  public:
    Reader(Os& os, const Allocator& a) : os_(os), block_(a) {}
    ~Reader() {
        if (file_.valid()) os_.close(file_);
    }
    larder_status open(const char* path, Header& h) {
        LARDER_ASSIGN(const OpenFile file, os_.open(path, open_flag::read));
        file_ = file.handle;
        n_bytes_ = file.n_bytes;
        std::byte head[header_bytes];
        if (n_bytes_ < header_bytes) return fail(LARDER_E_FORMAT, path, "the file is no record");
        LARDER_TRY(os_.read_all(file_, head, sizeof head, 0));
        if (std::memcmp(head, magic, 8) != 0) return fail(LARDER_E_FORMAT, path, "the file is no record");
        if (load_le<uint32_t>(head + header_bytes - 4) != crc32c(0, head, header_bytes - 4))
            return damaged("its header does not hold");
        if (load_le<uint32_t>(head + 8) > version) return fail(LARDER_E_VERSION, path, "made by a newer version");
        h = {load_le<uint32_t>(head + 12), load_le<uint64_t>(head + 16), load_le<uint64_t>(head + 24)};
        at_ = header_bytes;
        return LARDER_OK;
    }
    // MISS at the end.
    larder_status next(ByteSpan& out) {
        std::byte head[block_head_bytes];
        torn_ = at_ != n_bytes_;
        if (n_bytes_ - at_ < sizeof head) return LARDER_MISS;
        LARDER_TRY(os_.read_all(file_, head, sizeof head, at_));
        const uint32_t n = load_le<uint32_t>(head);
        if (!n || n > block_bytes || n > n_bytes_ - at_ - sizeof head) return LARDER_MISS;
        block_.resize(n);
        LARDER_TRY(os_.read_all(file_, block_.data(), n, at_ + sizeof head));
        if (crc32c(0, block_.data(), n) != load_le<uint32_t>(head + 4)) return LARDER_MISS;
        torn_ = false;
        at_ += sizeof head + n;
        out = block_;
        return LARDER_OK;
    }
    bool torn() const noexcept { return torn_; }

  private:
    Os& os_;
    OsHandle file_;
    uint64_t n_bytes_ = 0, at_ = 0;
    bool torn_ = false;
    Vec<std::byte> block_;
};

// Does again what the policy did, and tells the caller what was asked for.
class Again {
  public:
    Again(larder_context& c, const PolicyRow& row, larder_recorded_fn fn, void* ctx, larder_record_report& out)
        : policy_(c.alloc, row), held_(c.alloc), missed_(c.alloc), blocks_(c.alloc), fn_(fn), ctx_(ctx), out_(out) {}

    larder_status block(ByteSpan bytes) {
        ByteReader in(bytes);
        while (in.remaining() && !stopped_) LARDER_TRY(operation(in));
        return LARDER_OK;
    }
    void end_request() {
        if (!blocks_.empty() && fn_ && !stopped_) {
            request_.blocks = blocks_.data();
            request_.n_blocks = blocks_.size();
            stopped_ = fn_(ctx_, &request_) != 0;
        }
        if (!blocks_.empty()) ++out_.n_requests;
        blocks_.clear();
        request_ = LARDER_RECORDED_REQUEST_INIT;
    }
    bool stopped() const noexcept { return stopped_; }

  private:
    larder_status operation(ByteReader& in) {
        const Op op = Op(in.get<uint8_t>());
        ++out_.n_operations;
        switch (op) {
        case Op::request:
            end_request();
            request_.time_ns = in.get<uint64_t>();
            break;
        case Op::get:
            got(in);
            break;
        case Op::put:
            put(in.get<uint64_t>());
            in.get<uint64_t>();
            break;
        default:
            LARDER_TRY(policy_operation(op, in));
        }
        return in.ok() ? LARDER_OK : damaged("an operation reaches over the end of its block");
    }
    void got(ByteReader& in) {
        const uint64_t id = in.get<uint64_t>();
        in.get<uint64_t>();
        const uint8_t tier = in.get<uint8_t>();
        request_.n_hits += tier != 0;
        out_.n_hits += tier != 0;
        if (!tier) missed_.insert({id, true});
        refer(id);
    }
    // What a get missed and somebody computed is one reference, not two.
    void put(uint64_t id) {
        if (missed_.erase(id)) return;
        refer(id);
    }
    void refer(uint64_t id) {
        blocks_.push_back(id);
        ++out_.n_references;
    }
    larder_status policy_operation(Op op, ByteReader& in) {
        if (op == Op::hints) {
            in.get<uint64_t>();
            policy_.expect_hints();
            return LARDER_OK;
        }
        if (op == Op::reserve) {
            const uint64_t n = in.get<uint64_t>();
            if (!in.ok() || n > max_slots || n < held_.size()) return damaged("an impossible number of slots");
            policy_.reserve(n);
            held_.resize(n);
            return LARDER_OK;
        }
        const uint32_t slot = in.get<uint32_t>();
        if (op == Op::evict) return evict(slot);
        if (slot >= held_.size()) return damaged("a slot that was not reserved");
        if (held_[slot] == (op == Op::admit)) return damaged("an operation that was not possible");
        switch (op) {
        case Op::admit:
            held_[slot] = true;
            policy_.admit(slot, reference(in));
            return LARDER_OK;
        case Op::touch:
            policy_.touch(slot, reference(in));
            return LARDER_OK;
        case Op::foresee:
            policy_.foresee(slot, reference(in));
            return LARDER_OK;
        case Op::extended:
            policy_.extended(slot);
            return LARDER_OK;
        case Op::remove:
            held_[slot] = false;
            policy_.remove(slot);
            return LARDER_OK;
        default:
            return damaged("an unknown operation");
        }
    }
    larder_status evict(uint32_t recorded) {
        const uint32_t slot = policy_.evict();
        if (slot != Policy::no_victim) held_[slot] = false;
        ++out_.n_evictions;
        if (slot == recorded) return LARDER_OK;
        if (!out_.n_differences++) out_.first_difference = out_.n_operations;
        stopped_ = true;  // from here on it is another cache
        return LARDER_OK;
    }
    static Reference reference(ByteReader& in) {
        Reference r;
        r.id = in.get<uint64_t>();
        r.now = in.get<uint64_t>();
        r.next_use = in.get<uint64_t>();
        r.n_bytes = in.get<uint64_t>();
        r.score = in.get<uint8_t>();
        r.priority = in.get<uint8_t>();
        r.last = in.get<uint8_t>() != 0;
        return r;
    }

    HintedPolicy policy_;
    Vec<bool> held_;
    HashMap<uint64_t, bool> missed_;
    Vec<uint64_t> blocks_;
    larder_recorded_request request_ = LARDER_RECORDED_REQUEST_INIT;
    const larder_recorded_fn fn_;
    void* const ctx_;
    larder_record_report& out_;
    bool stopped_ = false;
};

}  // namespace

larder_status replay_record(larder_context& c, const char* path, larder_recorded_fn fn, void* ctx,
                            larder_record_report& out) {
    Reader reader(c.os, c.alloc);
    Header h;
    LARDER_TRY(reader.open(path, h));
    const PolicyRow* row = find_policy(h.policy);
    if (!row || !row->online) return damaged("its policy is not one that works on line");
    out = LARDER_RECORD_REPORT_INIT;
    out.policy = h.policy;
    out.capacity_bytes = h.capacity_bytes;
    out.wall_ns = h.wall_ns;
    Again again(c, *row, fn, ctx, out);
    ByteSpan block;
    larder_status status;
    while ((status = reader.next(block)) == LARDER_OK && !again.stopped()) LARDER_TRY(again.block(block));
    if (status < 0) return status;
    if (!again.stopped()) again.end_request();
    out.torn = reader.torn();
    return again.stopped() || out.torn ? LARDER_PARTIAL : LARDER_OK;
}

}  // namespace larder
