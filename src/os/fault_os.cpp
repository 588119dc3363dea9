#include "os/fault_os.h"

#include <cerrno>
#include <cstring>

namespace larder {
namespace {

struct ClassInfo {
    const char* name;
    int error;
    larder_status status;
};

constexpr ClassInfo classes[n_fault_classes] = {
    {"memory", ENOMEM, LARDER_E_NOMEM},
    {"open", EMFILE, LARDER_E_SYSTEM},
    {"read", EIO, LARDER_E_IO},
    {"write", ENOSPC, LARDER_E_DISK_FULL},
    {"sync", EIO, LARDER_E_IO},
    {"list", EIO, LARDER_E_IO},
    {"name", EIO, LARDER_E_IO},
    {"space", ENOSPC, LARDER_E_DISK_FULL},
    {"lock", EIO, LARDER_E_IO},
    {"ring_create", ENOMEM, LARDER_E_NOMEM},
    {"ring_submit", EIO, LARDER_E_IO},
    {"ring_complete", EIO, LARDER_E_IO},
    {"ring_short", 0, LARDER_OK},
    {"thread", EAGAIN, LARDER_E_SYSTEM},
    {"random", ENOSYS, LARDER_E_SYSTEM},
    {"event", EMFILE, LARDER_E_SYSTEM},
    {"socket", ECONNRESET, LARDER_E_PEER_DEAD},
};

}  // namespace

const char* fault_class_name(FaultClass c) noexcept {
    return c < FaultClass::count ? classes[size_t(c)].name : "?";
}
larder_status fault_class_status(FaultClass c) noexcept {
    return classes[size_t(c)].status;
}

class FaultRing final : public IoRing {
  public:
    FaultRing(FaultOs& os, Owned<IoRing> below) noexcept : os_(os), below_(std::move(below)) {}
    ~FaultRing() override { os_.live_.fetch_sub(1, relaxed); }

    Result<size_t> submit(std::span<IoOp* const> ops) override {
        LARDER_TRY(os_.check(FaultClass::ring_submit));
        return below_->submit(ops);
    }
    Result<size_t> reap(std::span<IoOp*> out, size_t min_done) override {
        auto n = below_->reap(out, min_done);
        for (size_t i = 0; n.ok() && i < *n; ++i) spoil(*out[i]);
        return n;
    }
    uint32_t depth() const noexcept override { return below_->depth(); }
    bool is_io_uring() const noexcept override { return below_->is_io_uring(); }

  private:
    void spoil(IoOp& op) noexcept {
        if (const int error = os_.strike(FaultClass::ring_complete)) {
            if (op.kind == IoOp::Kind::read) std::memset(op.buffer, 0xdb, op.n_bytes);
            op.result = -error;
            return;
        }
        if (op.kind == IoOp::Kind::sync_data || op.result < 1024) return;
        if (!os_.strike(FaultClass::ring_short)) return;
        // In units that a direct file could return as well.
        const int64_t unit = op.result >= 8192 ? 4096 : 512, kept = op.result / 2 / unit * unit;
        if (op.kind == IoOp::Kind::read)
            std::memset(static_cast<std::byte*>(op.buffer) + kept, 0xdb, size_t(op.result - kept));
        op.result = kept;
    }
    FaultOs& os_;
    Owned<IoRing> below_;
};

void FaultOs::arm(const FaultPlan& plan) noexcept {
    std::lock_guard lock(mutex_);
    plan_ = plan;
    n_counted_ = 0;
    fired_ = false;
}

bool FaultOs::fired() const noexcept {
    std::lock_guard lock(mutex_);
    return fired_;
}

int FaultOs::strike(FaultClass c) noexcept {
    calls_[size_t(c)].fetch_add(1, relaxed);
    std::lock_guard lock(mutex_);
    if (!plan_.nth || !(plan_.classes & FaultPlan::bit(c))) return 0;
    ++n_counted_;
    if (n_counted_ != plan_.nth && !(plan_.sticky && n_counted_ > plan_.nth)) return 0;
    fired_ = true;
    if (trap_) trap_();
    return plan_.error ? plan_.error : classes[size_t(c)].error ? classes[size_t(c)].error : EIO;
}

larder_status FaultOs::check(FaultClass c) noexcept {
    const int error = strike(c);
    return error ? fail_os(classes[size_t(c)].status, error, "", "injected fault: %s", fault_class_name(c)) : LARDER_OK;
}

// --- memory ---------------------------------------------------------------------------------------------

Result<std::byte*> FaultOs::reserve(size_t n_bytes, size_t align) {
    LARDER_TRY(check(FaultClass::memory));
    return made(below_.reserve(n_bytes, align));
}

larder_status FaultOs::commit(std::byte* p, size_t n_bytes, uint32_t map_flags) {
    LARDER_TRY(check(FaultClass::memory));
    return below_.commit(p, n_bytes, map_flags);
}

void FaultOs::release(std::byte* p, size_t n_bytes) noexcept {
    if (p) live_.fetch_sub(1, relaxed);
    below_.release(p, n_bytes);
}

Result<OsHandle> FaultOs::memfd(const char* name, size_t n_bytes) {
    LARDER_TRY(check(FaultClass::memory));
    return made(below_.memfd(name, n_bytes));
}

Result<std::byte*> FaultOs::map_handle(std::byte* p, size_t n_bytes, OsHandle h, uint64_t offset, bool writable) {
    LARDER_TRY(check(FaultClass::memory));
    auto r = below_.map_handle(p, n_bytes, h, offset, writable);
    return p ? r : made(std::move(r));
}

// --- files ----------------------------------------------------------------------------------------------

Result<OpenFile> FaultOs::open(const char* path, uint32_t open_flags) {
    LARDER_TRY(check(FaultClass::open));
    return made(below_.open(path, open_flags));
}

void FaultOs::close(OsHandle h) noexcept {
    if (h.valid()) live_.fetch_sub(1, relaxed);
    below_.close(h);
}

Result<uint64_t> FaultOs::size(OsHandle h) {
    LARDER_TRY(check(FaultClass::space));
    return below_.size(h);
}

larder_status FaultOs::truncate(OsHandle h, uint64_t n_bytes) {
    LARDER_TRY(check(FaultClass::space));
    return below_.truncate(h, n_bytes);
}

larder_status FaultOs::allocate(OsHandle h, uint64_t offset, uint64_t n_bytes) {
    LARDER_TRY(check(FaultClass::space));
    return below_.allocate(h, offset, n_bytes);
}

larder_status FaultOs::read_all(OsHandle h, void* buffer, size_t n_bytes, uint64_t offset) {
    LARDER_TRY(check(FaultClass::read));
    return below_.read_all(h, buffer, n_bytes, offset);
}

larder_status FaultOs::write_all(OsHandle h, const void* buffer, size_t n_bytes, uint64_t offset) {
    const larder_status status = check(FaultClass::write);
    if (status == LARDER_OK) return below_.write_all(h, buffer, n_bytes, offset);
    const larder_error_info injected = last_error();
    if (const size_t half = n_bytes / 2 / 512 * 512) below_.write_all(h, buffer, half, offset);
    set_last_error(injected);
    return status;
}

larder_status FaultOs::sync(OsHandle h) {
    LARDER_TRY(check(FaultClass::sync));
    return below_.sync(h);
}

larder_status FaultOs::sync_dir(const char* path) {
    LARDER_TRY(check(FaultClass::sync));
    return below_.sync_dir(path);
}

larder_status FaultOs::make_dir(const char* path) {
    LARDER_TRY(check(FaultClass::name));
    return below_.make_dir(path);
}

Result<Vec<DirEntry>> FaultOs::list_dir(const Allocator& a, const char* path) {
    LARDER_TRY(check(FaultClass::list));
    return below_.list_dir(a, path);
}

larder_status FaultOs::unlink(const char* path) {
    LARDER_TRY(check(FaultClass::name));
    return below_.unlink(path);
}

larder_status FaultOs::rename(const char* from, const char* to) {
    LARDER_TRY(check(FaultClass::name));
    return below_.rename(from, to);
}

larder_status FaultOs::lock(OsHandle h) {
    LARDER_TRY(check(FaultClass::lock));
    return below_.lock(h);
}

Result<uint64_t> FaultOs::free_bytes(const char* path) {
    LARDER_TRY(check(FaultClass::space));
    return below_.free_bytes(path);
}

Result<Owned<IoRing>> FaultOs::io_ring(const Allocator& a, uint32_t depth, bool want_io_uring) {
    LARDER_TRY(check(FaultClass::ring_create));
    LARDER_ASSIGN(Owned<IoRing> below, below_.io_ring(a, depth, want_io_uring));
    Owned<IoRing> ring = make_owned<FaultRing>(a, *this, std::move(below));
    live_.fetch_add(1, relaxed);
    return ring;
}

// --- memory nodes ---------------------------------------------------------------------------------------

Result<Vec<MemoryNode>> FaultOs::memory_nodes(const Allocator& a) {
    LARDER_TRY(check(FaultClass::list));
    return below_.memory_nodes(a);
}

larder_status FaultOs::bind_memory(std::byte* p, size_t n_bytes, std::span<const uint32_t> nodes, bool interleave) {
    LARDER_TRY(check(FaultClass::memory));
    return below_.bind_memory(p, n_bytes, nodes, interleave);
}

// --- the rest -------------------------------------------------------------------------------------------

larder_status FaultOs::random(void* out, size_t n_bytes) {
    LARDER_TRY(check(FaultClass::random));
    return below_.random(out, n_bytes);
}

Result<uint64_t> FaultOs::thread_start(ThreadFn fn, void* arg, const char* name) {
    LARDER_TRY(check(FaultClass::thread));
    return made(below_.thread_start(fn, arg, name));
}

void FaultOs::thread_join(uint64_t thread) noexcept {
    live_.fetch_sub(1, relaxed);
    below_.thread_join(thread);
}

Result<OsHandle> FaultOs::event_fd() {
    LARDER_TRY(check(FaultClass::event));
    return made(below_.event_fd());
}

Result<OsHandle> FaultOs::socket_listen(const char* path) {
    LARDER_TRY(check(FaultClass::socket));
    return made(below_.socket_listen(path));
}

Result<OsHandle> FaultOs::socket_accept(OsHandle listener, uint64_t timeout_ns) {
    LARDER_TRY(check(FaultClass::socket));
    return made(below_.socket_accept(listener, timeout_ns));
}

Result<OsHandle> FaultOs::socket_connect(const char* path) {
    LARDER_TRY(check(FaultClass::socket));
    return made(below_.socket_connect(path));
}

larder_status FaultOs::socket_send(OsHandle s, const void* data, size_t n_bytes, std::span<const OsHandle> pass) {
    LARDER_TRY(check(FaultClass::socket));
    return below_.socket_send(s, data, n_bytes, pass);
}

Result<size_t> FaultOs::socket_receive(OsHandle s, void* data, size_t capacity, std::span<OsHandle> got, size_t* n_got,
                                       uint64_t timeout_ns) {
    LARDER_TRY(check(FaultClass::socket));
    size_t n = 0;
    auto r = below_.socket_receive(s, data, capacity, got, &n, timeout_ns);
    live_.fetch_add(int64_t(n), relaxed);
    if (n_got) *n_got = n;
    return r;
}

Result<ProcessRef> FaultOs::socket_peer(OsHandle s) {
    LARDER_TRY(check(FaultClass::socket));
    return below_.socket_peer(s);
}

}  // namespace larder
