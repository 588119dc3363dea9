// The index behind the C ABI: one interface over the skiplists of all key and value widths.
#pragma once

#include "base/alloc.h"
#include "base/bytes.h"
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
    virtual larder_status get_many(const void* keys, uint64_t n, void* out_values, larder_status* out_status,
                                   uint64_t& out_n_found) const noexcept = 0;
    virtual larder_status put_many(const void* keys, const void* values, uint64_t n,
                                   larder_status* out_status) noexcept = 0;
    virtual larder_status remove_many(const void* keys, uint64_t n, larder_status* out_status,
                                      uint64_t& out_n_removed) noexcept = 0;
    virtual larder_status scan(larder_index_from from, const void* key, void* out_keys, void* out_values, uint64_t n,
                               uint64_t& out_n) const noexcept = 0;
    // PARTIAL: the buffer is full.
    virtual larder_status scan_keys(larder_index_from from, const void* key, MutByteSpan buffer,
                                    larder_index_key* out_keys, void* out_values, uint64_t n,
                                    uint64_t& out_n) const noexcept = 0;
    virtual larder_status share_below(const void* key, double& out) const noexcept = 0;
    virtual larder_status build(const void* keys, const void* values, uint64_t n) noexcept = 0;
    virtual larder_status load_pairs(const larder_index_source& source) = 0;
    virtual uint64_t count() const noexcept = 0;
    virtual bskip::Totals totals() const noexcept = 0;
    virtual uint64_t memory_bytes() const noexcept = 0;
    virtual uint64_t record_bytes() const noexcept = 0;
    virtual larder_status clear() noexcept = 0;
    virtual larder_status verify() const = 0;

    // Snapshots: docs/formats/index-snapshot.md.
    larder_status save(const larder_index_sink& sink) const;
    larder_status load(const larder_index_source& source);

    static bool ascends(larder_index_from f) noexcept { return f == LARDER_INDEX_AT_LEAST || f == LARDER_INDEX_ABOVE; }
    static bool is_strict(larder_index_from f) noexcept { return f == LARDER_INDEX_ABOVE || f == LARDER_INDEX_BELOW; }

  protected:
    OrderedMap(larder_context& c, const larder_index_options& o) : context_(c), options_(o) {}
    // The data chunks of a snapshot and then the last one, which is empty.
    virtual larder_status save_pairs(const larder_index_sink& sink) const = 0;
    larder_context& context_;
    const larder_index_options options_;
};

// Keys of any length: ordered_map_bytes.cpp.
larder_status create_bytes_map(larder_context& c, const larder_index_options& o, Owned<OrderedMap>& out);

}  // namespace larder

struct larder_index final : larder::Handle {
    explicit larder_index(larder_context& c) : Handle(larder::HandleType::index, c) {}
    larder::Owned<larder::OrderedMap> map;
};
