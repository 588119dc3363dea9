#include "store/tiers/store_file.h"

#include <algorithm>

namespace larder {

using namespace format;

StoreFile::~StoreFile() {
    os_.close(data_.handle);
    os_.close(lock_);
}

String StoreFile::name(const char* directory, const char* file) const {
    String s(directory, path_.get_allocator());
    return s.append("/").append(file);
}

uint32_t StoreFile::n_segments() const noexcept {
    if (n_bytes_ <= data_offset) return 0;
    return uint32_t(
        std::min<uint64_t>((n_bytes_ - data_offset + super_.segment_bytes - 1) / super_.segment_bytes, no_segment - 1));
}

larder_status StoreFile::open(const char* directory, Mode mode, uint64_t segment_bytes_if_new) {
    return rename_field(open_in(directory, mode, segment_bytes_if_new), "path", "directory");
}

larder_status StoreFile::open_in(const char* directory, Mode mode, uint64_t segment_bytes_if_new) {
    if (mode == Mode::open_or_create) LARDER_TRY(os_.make_dir(directory));
    LARDER_TRY(take_lock(directory, mode));
    path_ = name(directory, "store.larder");
    larder_status status = open_data(mode);
    if (status == LARDER_E_NOT_FOUND && mode == Mode::open_or_create) {
        LARDER_TRY(create(directory, segment_bytes_if_new));
        status = open_data(mode);
    }
    LARDER_TRY(status);
    return read_superblocks();
}

larder_status StoreFile::take_lock(const char* directory, Mode mode) {
    const String path = name(directory, "lock");
    const bool look_only = mode == Mode::inspect;
    auto file =
        os_.open(path.c_str(), look_only ? open_flag::read : open_flag::read | open_flag::write | open_flag::create);
    if (!file.ok()) {
        // A store that was copied without its lock may be looked at.
        if (look_only && file.status() == LARDER_E_NOT_FOUND) return LARDER_OK;
        return file.status();
    }
    lock_ = file->handle;
    const larder_status status = os_.lock(lock_);
    if (status == LARDER_E_IN_USE)
        return fail(status, "directory", "another process, or another store of this process, has the directory open");
    return status;
}

larder_status StoreFile::open_data(Mode mode) {
    const uint32_t writable = mode == Mode::inspect ? 0 : open_flag::write;
    LARDER_ASSIGN(data_, os_.open(path_.c_str(), open_flag::read | writable | open_flag::direct));
    if (data_.direct_align > block_bytes) {
        // A device with larger units than our blocks goes through the page cache.
        os_.close(data_.handle);
        data_ = {};
        LARDER_ASSIGN(data_, os_.open(path_.c_str(), open_flag::read | writable));
    }
    n_bytes_ = data_.n_bytes;
    return LARDER_OK;
}

larder_status StoreFile::create(const char* directory, uint64_t segment_bytes) {
    Superblock s;
    LARDER_TRY(os_.random(s.id.data(), s.id.size()));
    s.segment_bytes = segment_bytes;
    LARDER_ASSIGN(PageBuffer blocks, PageBuffer::make(os_, data_offset));
    for (uint32_t i = 0; i < n_superblocks; ++i) encode_superblock(s, blocks.data() + i * block_bytes);
    // Under another name until it is whole: a crash on the way leaves no half-made store.
    const String fresh = name(directory, "store.larder.new");
    LARDER_ASSIGN(OpenFile f, os_.open(fresh.c_str(),
                                       open_flag::read | open_flag::write | open_flag::create | open_flag::truncate));
    larder_status status = os_.write_all(f.handle, blocks.data(), data_offset, 0);
    if (status >= 0) status = os_.sync(f.handle);
    os_.close(f.handle);
    if (status >= 0) status = os_.rename(fresh.c_str(), path_.c_str());
    if (status < 0) {
        const larder_error_info why = last_error();
        os_.unlink(fresh.c_str());
        return fail_os(status, why.os_errno, "store.larder", "the data file cannot be made: %s", why.message);
    }
    LARDER_TRY(os_.sync_dir(directory));
    // The directory may be new as well.
    String parent(directory, path_.get_allocator());
    while (parent.size() > 1 && parent.back() == '/') parent.pop_back();
    const size_t slash = parent.rfind('/');
    if (slash == String::npos)
        parent.assign(1, '.');
    else
        parent.resize(slash ? slash : 1);
    const larder_status parent_status = os_.sync_dir(parent.c_str());
    // A parent that may be passed through but not read is its owner's to make durable.
    return parent_status == LARDER_E_PERMISSION ? LARDER_OK : parent_status;
}

// Shorter than a block, so that nothing can be read directly: a store that was cut, or a stranger.
larder_status StoreFile::refuse_short_file() {
    std::byte head[superblock_magic_bytes];
    bool ours = false;
    if (n_bytes_ >= sizeof head) {
        LARDER_ASSIGN(const OpenFile f, os_.open(path_.c_str(), open_flag::read));
        const larder_status status = os_.read_all(f.handle, head, sizeof head, 0);
        os_.close(f.handle);
        LARDER_TRY(status);
        ours = has_superblock_magic(head);
    }
    if (!ours) return fail(LARDER_E_FORMAT, "store.larder", "store.larder is not a store file");
    return fail(LARDER_E_TRUNCATED, "store.larder", "the file has %llu bytes; a store begins with %llu",
                (unsigned long long)n_bytes_, (unsigned long long)data_offset);
}

larder_status StoreFile::read_superblocks() {
    if (n_bytes_ < block_bytes) return refuse_short_file();
    LARDER_ASSIGN(PageBuffer blocks, PageBuffer::make(os_, data_offset));
    LARDER_TRY(read(blocks.data(), data_offset, 0));
    bool any = false, magic = false;
    for (uint32_t i = 0; i < n_superblocks; ++i) {
        Superblock s;
        const larder_status status = decode_superblock(blocks.data() + i * block_bytes, s);
        if (status == LARDER_E_VERSION)
            return fail(status, "store.larder", "the store was written by a newer, incompatible version");
        magic |= status != LARDER_E_FORMAT;
        n_bad_ += status != LARDER_OK;
        if (status != LARDER_OK || (any && s.epoch < super_.epoch)) continue;
        super_ = s;
        any = true;
    }
    if (any) return LARDER_OK;
    if (magic) return fail(LARDER_E_CORRUPT, "store.larder", "every copy of the superblock is damaged");
    return fail(LARDER_E_FORMAT, "store.larder", "store.larder is not a store file");
}

larder_status StoreFile::begin_epoch(uint64_t latest_seen) {
    super_.epoch = std::max(super_.epoch, latest_seen) + 1;
    if (super_.epoch >= UINT32_MAX) return fail(LARDER_E_RANGE, "store.larder", "the store was opened too often");
    LARDER_ASSIGN(PageBuffer block, PageBuffer::make(os_, block_bytes));
    encode_superblock(super_, block.data());
    LARDER_TRY(write(block.data(), block_bytes, super_.epoch % n_superblocks * block_bytes));
    return sync();
}

larder_status StoreFile::renew_superblocks() {
    LARDER_ASSIGN(PageBuffer block, PageBuffer::make(os_, block_bytes));
    encode_superblock(super_, block.data());
    for (uint32_t i = 0; i < n_superblocks; ++i) {
        // One at a time: at any moment of a crash all but one are whole.
        LARDER_TRY(write(block.data(), block_bytes, i * block_bytes));
        LARDER_TRY(sync());
    }
    return LARDER_OK;
}

larder_status StoreFile::grow_to(uint32_t n) {
    const uint64_t end = segment_offset(n);
    if (end <= n_bytes_) return LARDER_OK;
    larder_status status = os_.allocate(data_.handle, n_bytes_, end - n_bytes_);
    // Where space cannot be reserved the file grows sparsely, and a full disk shows at the write.
    if (status == LARDER_E_UNSUPPORTED) status = os_.truncate(data_.handle, end);
    LARDER_TRY(status);
    n_bytes_ = end;
    return LARDER_OK;
}

larder_status StoreFile::shrink_to(uint32_t n) {
    const uint64_t end = segment_offset(n);
    if (end >= n_bytes_) return LARDER_OK;
    LARDER_TRY(os_.truncate(data_.handle, end));
    n_bytes_ = end;
    return LARDER_OK;
}

larder_status StoreFile::sync() {
    LARDER_TRY(os_.sync(data_.handle));
    LARDER_ASSIGN(const uint64_t n_bytes, os_.size(data_.handle));
    if (n_bytes >= n_bytes_) return LARDER_OK;
    return fail(LARDER_E_IO, "store.larder", "the file has %llu bytes; it had %llu, and somebody else has cut it",
                (unsigned long long)n_bytes, (unsigned long long)n_bytes_);
}

larder_status StoreFile::read(std::byte* buffer, size_t n, uint64_t offset) {
    // Only whole blocks are read, as direct I/O wants it; a ragged end of a damaged file counts as absent.
    const uint64_t end = align_down<uint64_t>(n_bytes_, block_bytes);
    const size_t there = offset >= end ? 0 : size_t(std::min<uint64_t>(n, end - offset));
    if (there) LARDER_TRY(os_.read_all(data_.handle, buffer, there, offset));
    std::memset(buffer + there, 0, n - there);
    return LARDER_OK;
}

}  // namespace larder
