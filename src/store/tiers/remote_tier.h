// Objects in a remote: each value is a record's header and its payload (docs/formats/remote.md). Nothing that comes
// back is believed before it was verified.
#pragma once

#include <span>

#include "base/atomic.h"
#include "larder/remote.h"
#include "store/tiers/format.h"
#include "store/tiers/remote_plugin.h"

namespace larder {

struct RemoteRead {
    larder_key key{};
    std::byte* out = nullptr;
    uint64_t capacity = 0;  // 0: only the header is wanted
    // OK; MISS; E_BUFFER_TOO_SMALL (record is right); E_CORRUPT; what the plug-in said.
    larder_status status = LARDER_MISS;
    format::Record record;
    ExtentSums sums;  // of the payload; with status OK and a capacity
};

// A batch of writes on its way. Its pieces are borrowed until it is over.
class RemoteWrite {
  public:
    explicit RemoteWrite(const Allocator& a) : items_(a), pieces_(a), headers_(a), first_piece_(a) {}
    void add(format::Record record, const ExtentSums& sums, std::span<const ByteSpan> payload);
    size_t size() const noexcept { return items_.size(); }
    larder_status status(size_t i) const noexcept { return items_[i].status; }

  private:
    friend class RemoteTier;
    using Header = std::array<std::byte, format::record_header_bytes>;
    Vec<larder_remote_item_v1> items_;
    Vec<larder_remote_piece_v1> pieces_;
    Deque<Header> headers_;  // addresses stay put
    Vec<size_t> first_piece_;
    void* request_ = nullptr;
};

// Internally synchronised.
class RemoteTier {
  public:
    static Result<Owned<RemoteTier>> open(larder_context& c, const larder_remote_options& o);
    RemoteTier(larder_context& c, Owned<Remote> remote, const larder_remote_options& o) noexcept
        : context_(c), remote_(std::move(remote)), options_(o) {}

    void read(std::span<RemoteRead> reads, uint64_t timeout_ns);
    larder_status remove(const larder_key& key, uint64_t timeout_ns);
    // Begin, advance until it is not PENDING any more, and end, which may also come early.
    larder_status begin(RemoteWrite& w);
    larder_status advance(RemoteWrite& w, uint64_t wait_ns) noexcept;
    void end(RemoteWrite& w) noexcept;

    uint64_t max_payload_bytes() const noexcept { return max_payload_; }
    const larder_remote_options& options() const noexcept { return options_; }
    larder_remote_info info() const noexcept;

  private:
    void read_some(std::span<RemoteRead> reads, uint64_t timeout_ns);
    larder_status judge(RemoteRead& r, const larder_remote_item_v1& item, const std::byte* header);

    larder_context& context_;
    const Owned<Remote> remote_;
    const larder_remote_options options_;  // its pointers are gone
    uint64_t max_payload_ = 0;
    atomic<uint64_t> n_put_{0}, put_bytes_{0}, n_put_failed_{0}, n_asked_{0}, n_hits_{0}, hit_bytes_{0}, n_corrupt_{0},
        n_unanswered_{0};
};

}  // namespace larder
