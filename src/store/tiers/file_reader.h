// Reads of records, many at once through a ring, verified piece by piece on their way to the caller.
#pragma once

#include <mutex>
#include <span>

#include "core/context.h"
#include "store/tiers/store_file.h"

namespace larder {

// One payload, or a part of it, to be read. What the index knows of the record is what the bytes are held against.
struct FileRead {
    uint32_t segment = no_segment;
    uint64_t sequence = 0;
    uint32_t offset = 0;  // of the record, in the segment
    larder_key key{};
    uint32_t n_bytes = 0;  // of the whole payload
    ExtentSums sums;
    uint64_t want_offset = 0, want_bytes = 0;
    std::byte* out = nullptr;           // receives want_bytes
    const std::byte* buffer = nullptr;  // the segment's bytes while they are in memory
    // OK; E_CORRUPT: the bytes are not those that were put under the key; otherwise the system's answer.
    larder_status status = LARDER_OK;
    uint32_t n_left = 0;  // pieces still to come
};

class FileReader {
  public:
    FileReader(larder_context& c, StoreFile& file) noexcept : context_(c), file_(file), idle_(c.alloc) {}
    ~FileReader();
    FileReader(const FileReader&) = delete;

    // Reads all of them; each is reported once, when its last piece is done.
    struct Sink {
        virtual void done(size_t i) = 0;
    };
    // Fails only where nothing was read at all.
    larder_status run(std::span<FileRead> reads, Sink& sink);

  private:
    struct Lane;
    struct Run;
    Result<Lane*> take();
    void give_back(Lane* lane) noexcept;

    larder_context& context_;
    StoreFile& file_;
    std::mutex mutex_;
    Vec<Lane*> idle_;
};

}  // namespace larder
