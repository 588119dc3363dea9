// A snapshot read where it lies, in the caller's memory.
#pragma once

#include "core/context.h"
#include "index/snapshot.h"

namespace larder {

class SnapshotView {
  public:
    SnapshotView(larder_context& c, ByteSpan data) noexcept : data_(data), checked_(c.alloc) {}
    larder_status open() noexcept;
    void describe(larder_index_view_info& out) const noexcept;

    larder_status get(const void* key, void* out_value) noexcept;
    larder_status scan(larder_index_from from, const void* key, void* out_keys, void* out_values, uint64_t n,
                       uint64_t& out_n) noexcept;
    larder_status verify() noexcept;

  private:
    struct Chunk {
        const std::byte* payload = nullptr;
        uint32_t n = 0;
        uint64_t first_pair = 0;
    };
    struct Position {
        uint64_t chunk = 0;
        uint32_t i = 0;
    };
    bool any_length() const noexcept { return header_.key_bytes == 0; }
    uint64_t stride() const noexcept;
    // Checks it when it is met for the first time.
    larder_status chunk(uint64_t c, Chunk& out) noexcept;
    larder_status check(uint64_t c, const Chunk& k) const noexcept;
    ByteSpan key_at(const Chunk& k, uint32_t i) const noexcept;
    const std::byte* value_at(const Chunk& k, uint32_t i) const noexcept;
    int compare(ByteSpan a, ByteSpan b) const noexcept;
    larder_status read_key(const void* key, ByteSpan& out) const noexcept;
    // The first pair with a key >= k (strict: > k), in chunk `in`.
    larder_status find(ByteSpan k, bool strict, Position& out, Chunk& in) noexcept;
    void give(const Chunk& k, uint32_t i, void* out_keys, void* out_values, uint64_t at) const noexcept;

    const ByteSpan data_;
    snapshot::Header header_{};
    uint64_t n_keys_ = 0, n_chunks_ = 0;
    Vec<uint8_t> checked_;  // a bit per chunk
};

}  // namespace larder

struct larder_index_view final : larder::Handle {
    larder_index_view(larder_context& c, larder::ByteSpan data)
        : Handle(larder::HandleType::index_view, c), view(c, data) {}
    larder::SnapshotView view;
};
