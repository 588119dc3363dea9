// Snapshots of an index: docs/formats/index-snapshot.md. A header, chunks with a checksum each, an empty chunk.
#pragma once

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/result.h"
#include "larder/index.h"

namespace larder {

namespace snapshot {
inline constexpr uint32_t header_bytes = 64, chunk_header_bytes = 16;
inline constexpr uint32_t pairs_per_chunk = 1024;      // keys of a fixed size: all chunks but the last hold as many
inline constexpr uint32_t bytes_per_chunk = 64 << 10;  // keys of any length: all chunks are as long
inline constexpr uint32_t any_payload_bytes = bytes_per_chunk - chunk_header_bytes;
inline constexpr uint32_t end_bytes = sizeof(uint32_t);  // of each key in such a chunk

struct Header {
    uint32_t key_bytes, value_bytes, order;  // key_bytes 0: any length
};
void write_header(const Header& h, std::byte (&out)[header_bytes]) noexcept;
// E_FORMAT, E_VERSION, E_CORRUPT.
larder_status read_header(const std::byte* in, Header& out) noexcept;

struct ChunkHeader {
    uint32_t n_pairs;
    uint64_t first_pair;
};
// E_CORRUPT when the checksum over the header and the payload is another.
larder_status read_chunk(const std::byte* header, const std::byte* payload, size_t n_bytes, ChunkHeader& out) noexcept;

// A chunk of pairs with keys of any length: values, where each key ends, keys.
class AnyChunk {
  public:
    AnyChunk(const std::byte* payload, uint32_t n, uint32_t value_bytes) noexcept
        : values_(payload), ends_(payload + size_t(n) * value_bytes), keys_(ends_ + size_t(n) * end_bytes), n_(n),
          value_bytes_(value_bytes) {}
    // Lengths within bounds, keys ascending; also proof against a writer that meant harm.
    bool sound() const noexcept;
    larder_index_key key(uint32_t i) const noexcept {
        const uint32_t begin = i ? end(i - 1) : 0;
        return {keys_ + begin, end(i) - begin};
    }
    const std::byte* value(uint32_t i) const noexcept { return values_ + size_t(i) * value_bytes_; }

  private:
    uint32_t end(uint32_t i) const noexcept { return load_le<uint32_t>(ends_ + size_t(i) * end_bytes); }
    const std::byte *values_, *ends_, *keys_;
    const uint32_t n_, value_bytes_;
};
}  // namespace snapshot

// Gives the pairs of a snapshot chunk by chunk, checked.
class ChunkReader {
  public:
    // pair_bytes 0: keys of any length.
    ChunkReader(const larder_index_source& source, uint32_t pair_bytes, const Allocator& a);
    // The next chunk's pairs; n 0: the end, and the number of pairs was right.
    larder_status next(uint32_t& n);
    const std::byte* payload() const noexcept { return payload_.data(); }

  private:
    const larder_index_source& source_;
    const uint32_t pair_bytes_;
    Vec<std::byte> payload_;
    uint64_t n_pairs_ = 0;
};

class ChunkWriter {
  public:
    ChunkWriter(const larder_index_sink& sink, size_t payload_bytes, const Allocator& a);
    std::byte* payload() noexcept { return chunk_.data() + snapshot::chunk_header_bytes; }
    larder_status write(uint32_t n, size_t n_bytes);

  private:
    const larder_index_sink& sink_;
    Vec<std::byte> chunk_;
    uint64_t n_pairs_ = 0;
};

// E_RANGE or E_INVALID for a key of any length that is none; i: which key of the call.
larder_status check_index_key(const larder_index_key& k, uint64_t i) noexcept;
// A builder's refusal, while the pairs come from a snapshot.
larder_status not_ascending_is_corrupt(larder_status s) noexcept;

}  // namespace larder
