// The index behind the C ABI: one interface over the skiplists of all key and value widths.
#pragma once

#include "base/alloc.h"
#include "index/node.h"
#include "index/skiplist.h"
#include "larder/index.h"

namespace larder {

// Keys and values are the caller's bytes: arrays of fixed-size elements without alignment.
class OrderedMap {
  public:
    static larder_status create(larder_context& c, const larder_index_options* options, Owned<OrderedMap>& out);
    virtual ~OrderedMap() = default;

    virtual larder_status get(const void* key, void* out_value) const noexcept = 0;
    virtual larder_status put(const void* key, const void* value) noexcept = 0;
    virtual larder_status insert(const void* key, const void* value, void* out_present) noexcept = 0;
    virtual larder_status swap(const void* key, void* expected, const void* value) noexcept = 0;
    virtual larder_status remove(const void* key, void* out_value) noexcept = 0;
    virtual uint64_t get_many(const void* keys, uint64_t n, void* out_values,
                              larder_status* out_status) const noexcept = 0;
    virtual larder_status put_many(const void* keys, const void* values, uint64_t n,
                                   larder_status* out_status) noexcept = 0;
    virtual uint64_t remove_many(const void* keys, uint64_t n, larder_status* out_status) noexcept = 0;
    virtual uint64_t scan(larder_index_from from, const void* key, void* out_keys, void* out_values,
                          uint64_t n) const noexcept = 0;
    virtual larder_status build(const void* keys, const void* values, uint64_t n) noexcept = 0;
    virtual larder_status load_pairs(const larder_index_source& source) = 0;
    virtual uint64_t count() const noexcept = 0;
    virtual bskip::Totals totals() const noexcept = 0;
    virtual uint64_t memory_bytes() const noexcept = 0;
    virtual larder_status clear() noexcept = 0;
    virtual larder_status verify() const = 0;

    // Snapshots: docs/formats/index-snapshot.md.
    larder_status save(const larder_index_sink& sink) const;
    larder_status load(const larder_index_source& source);

  protected:
    OrderedMap(larder_context& c, const larder_index_options& o) : context_(c), options_(o) {}
    larder_context& context_;
    const larder_index_options options_;
};

// Gives the pairs of a snapshot chunk by chunk, checked.
class SnapshotReader {
  public:
    static constexpr uint32_t pairs_per_chunk = 1024;

    SnapshotReader(const larder_index_source& source, uint32_t pair_bytes, const Allocator& a);
    // The next chunk's pairs, keys first; n 0: the end, and the number of pairs was right.
    larder_status next(uint32_t& n);
    const std::byte* payload() const noexcept { return payload_.data(); }

  private:
    const larder_index_source& source_;
    const uint32_t pair_bytes_;
    Vec<std::byte> payload_;
    uint64_t n_pairs_ = 0;
};

}  // namespace larder

struct larder_index final : larder::Handle {
    explicit larder_index(larder_context& c) : Handle(larder::HandleType::index, c) {}
    larder::Owned<larder::OrderedMap> map;
};
