// The directory of a file tier: its lock, its data file, its superblocks.
#pragma once

#include "store/tiers/format.h"
#include "store/tiers/page_buffer.h"

namespace larder {

class StoreFile {
  public:
    enum class Mode { open_or_create, inspect, repair };

    StoreFile(Os& os, const Allocator& a) noexcept : os_(os), path_(a) {}
    ~StoreFile();
    StoreFile(const StoreFile&) = delete;

    // Takes the lock and reads the superblocks. What is there is not touched, whatever the outcome; open_or_create
    // makes a new store where there is none.
    larder_status open(const char* directory, Mode mode, uint64_t segment_bytes_if_new);
    // From now on this process writes: a later epoch than any that was seen becomes durable.
    larder_status begin_epoch(uint64_t latest_seen);
    // Write every superblock anew.
    larder_status renew_superblocks();

    const format::Superblock& super() const noexcept { return super_; }
    uint32_t bad_superblocks() const noexcept { return n_bad_; }
    OsHandle handle() const noexcept { return data_.handle; }
    bool direct() const noexcept { return data_.direct_align != 0; }
    uint64_t segment_bytes() const noexcept { return super_.segment_bytes; }
    uint64_t segment_offset(uint32_t segment) const noexcept {
        return format::data_offset + segment * super_.segment_bytes;
    }
    // Segments that the file reaches into.
    uint32_t n_segments() const noexcept;
    format::Place place(uint32_t segment, uint64_t sequence) const noexcept { return {super_.id, segment, sequence}; }

    // Reserve the disk space of one more segment at the end.
    larder_status grow_to(uint32_t n_segments);
    larder_status shrink_to(uint32_t n_segments);
    // As Os::read_all, but what lies behind the end of the file reads as zeros. Offset, length and buffer are multiples
    // of format::block_bytes.
    larder_status read(std::byte* buffer, size_t n_bytes, uint64_t offset);
    larder_status write(const std::byte* buffer, size_t n_bytes, uint64_t offset) {
        return rename_field(os_.write_all(data_.handle, buffer, n_bytes, offset), "", "store.larder");
    }
    larder_status sync();
    // The file ends inside a segment: somebody cut it.
    bool ends_inside_a_segment() const noexcept {
        return n_bytes_ > format::data_offset && (n_bytes_ - format::data_offset) % super_.segment_bytes;
    }

  private:
    larder_status open_in(const char* directory, Mode mode, uint64_t segment_bytes_if_new);
    larder_status take_lock(const char* directory, Mode mode);
    larder_status create(const char* directory, uint64_t segment_bytes);
    larder_status open_data(Mode mode);
    larder_status read_superblocks();
    larder_status refuse_short_file();
    String name(const char* directory, const char* file) const;

    Os& os_;
    String path_;
    OsHandle lock_;
    OpenFile data_;
    uint64_t n_bytes_ = 0;
    format::Superblock super_;
    uint32_t n_bad_ = 0;
};

}  // namespace larder
