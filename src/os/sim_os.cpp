#include "os/sim_os.h"

#include <algorithm>
#include <cerrno>

namespace larder {

// Requests wait inside until they are reaped; each reap carries out and returns a random choice of them.
class SimRing final : public IoRing {
  public:
    SimRing(SimOs& os, const Allocator& a, uint32_t depth, bool as_io_uring)
        : os_(os), depth_(depth), as_io_uring_(as_io_uring), waiting_(a) {
        waiting_.reserve(depth);
    }
    ~SimRing() override {
        for (IoOp* op : waiting_) op->result = os_.transfer(*op);
    }
    Result<size_t> submit(std::span<IoOp* const> ops) override {
        const size_t n = std::min(ops.size(), depth_ - waiting_.size());
        waiting_.insert(waiting_.end(), ops.begin(), ops.begin() + ptrdiff_t(n));
        return n;
    }
    Result<size_t> reap(std::span<IoOp*> out, size_t min_done) override {
        const size_t can = std::min(waiting_.size(), out.size()), must = std::min(min_done, can);
        const size_t n = must + size_t(draw(can - must + 1));
        for (size_t i = 0; i < n; ++i) {
            std::swap(waiting_[size_t(draw(waiting_.size()))], waiting_.back());
            out[i] = waiting_.back();
            waiting_.pop_back();
            out[i]->result = os_.transfer(*out[i]);
        }
        return n;
    }
    uint32_t depth() const noexcept override { return depth_; }
    bool is_io_uring() const noexcept override { return as_io_uring_; }

  private:
    uint64_t draw(uint64_t n) {
        std::lock_guard lock(os_.mutex_);
        return os_.rng_.below(n);
    }
    SimOs& os_;
    const uint32_t depth_;
    const bool as_io_uring_;
    Vec<IoOp*> waiting_;
};

SimOs::SimOs(uint64_t seed, SimFs fs) : real_(posix_os()), fs_(std::move(fs)), rng_(seed), topology_(real_.topology()) {
    topology_.n_cpus = 2;
    topology_.n_numa_nodes = 1;
}

SimFs SimOs::fs() const {
    std::lock_guard lock(mutex_);
    return fs_;
}

void SimOs::on_change(std::function<void(const SimFs&)> hook) {
    std::lock_guard lock(mutex_);
    hook_ = std::move(hook);
}

void SimOs::changing() {
    ++n_changes_;
    if (hook_) hook_(fs_);
}

void SimOs::advance_ns(uint64_t ns) noexcept {
    std::lock_guard lock(mutex_);
    now_ns_ += ns;
}

void SimOs::set_short_every(uint32_t n) noexcept {
    std::lock_guard lock(mutex_);
    short_every_ = n;
}

void SimOs::set_direct(bool on) noexcept {
    std::lock_guard lock(mutex_);
    direct_ = on;
}

void SimOs::set_alive(const ProcessRef& p, bool alive) {
    std::lock_guard lock(mutex_);
    std::erase_if(alive_, [&](const ProcessRef& q) { return q.pid == p.pid; });
    if (alive) alive_.push_back(p);
}

uint64_t SimOs::n_changes() const noexcept {
    std::lock_guard lock(mutex_);
    return n_changes_;
}

size_t SimOs::n_open() const noexcept {
    std::lock_guard lock(mutex_);
    return size_t(std::count_if(open_.begin(), open_.end(), [](const Open& o) { return o.live; }));
}

// --- handles --------------------------------------------------------------------------------------------

SimOs::Open* SimOs::find(OsHandle h) noexcept {
    const int64_t i = int64_t(h.value) - first_handle;
    return i >= 0 && size_t(i) < open_.size() && open_[size_t(i)].live ? &open_[size_t(i)] : nullptr;
}

OsHandle SimOs::add(const Open& o) {
    size_t i = 0;
    while (i < open_.size() && open_[i].live) ++i;
    if (i == open_.size()) open_.emplace_back();
    open_[i] = o;
    open_[i].live = true;
    return OsHandle{int32_t(first_handle + int64_t(i))};
}

Result<SimOs::Open*> SimOs::find_file(OsHandle h, bool write) noexcept {
    Open* o = find(h);
    if (!o || o->is_event || (write && !o->writable))
        return fail_os(LARDER_E_IO, EBADF, "", "not a handle that allows this");
    return o;
}

larder_status SimOs::check_direct(const Open& o, const void* buffer, size_t n_bytes, uint64_t offset) const noexcept {
    if (!o.direct_align || (reinterpret_cast<uintptr_t>(buffer) | n_bytes | offset) % o.direct_align == 0)
        return LARDER_OK;
    return fail_os(LARDER_E_INVALID, EINVAL, "", "a direct transfer is not aligned to %u bytes", o.direct_align);
}

Result<OpenFile> SimOs::open(const char* path, uint32_t flags) {
    std::lock_guard lock(mutex_);
    const bool writable = flags & open_flag::write;
    Result<SimFs::Node> node = fs_.lookup(path);
    if (flags & open_flag::create && (!node.ok() || flags & open_flag::exclusive)) {
        changing();
        node = fs_.create(path, flags & open_flag::exclusive);
    }
    if (!node.ok()) return node.status();
    if (fs_.is_dir(*node)) return fail_os(LARDER_E_INVALID, EISDIR, "path", "%s is a directory", path);
    if (writable && fs_.is_read_only(path)) return fail_os(LARDER_E_READ_ONLY, EROFS, "path", "%s is read-only", path);
    if (flags & open_flag::truncate && writable && fs_.size(*node)) {
        changing();
        LARDER_TRY(fs_.resize(*node, 0));
    }
    OpenFile out;
    out.direct_align = flags & open_flag::direct && direct_ ? 4096 : 0;
    out.n_bytes = fs_.size(*node);
    out.handle = add({.writable = writable,
                      .readable = !writable || flags & open_flag::read,
                      .direct_align = out.direct_align,
                      .node = *node});
    fs_.pin(*node);
    return out;
}

void SimOs::close(OsHandle h) noexcept {
    std::unique_lock lock(mutex_);
    if (Open* o = find(h)) {
        o->live = false;
        if (!o->is_event) fs_.unpin(o->node);
        return;
    }
    lock.unlock();
    if (h.valid() && h.value < first_handle) real_.close(h);  // a memfd
}

// --- files ----------------------------------------------------------------------------------------------

Result<uint64_t> SimOs::size(OsHandle h) {
    std::lock_guard lock(mutex_);
    LARDER_ASSIGN(Open * o, find_file(h, false));
    return fs_.size(o->node);
}

larder_status SimOs::truncate(OsHandle h, uint64_t n_bytes) {
    std::lock_guard lock(mutex_);
    LARDER_ASSIGN(Open * o, find_file(h, true));
    changing();
    return fs_.resize(o->node, n_bytes);
}

larder_status SimOs::allocate(OsHandle h, uint64_t offset, uint64_t n_bytes) {
    std::lock_guard lock(mutex_);
    LARDER_ASSIGN(Open * o, find_file(h, true));
    changing();
    return fs_.allocate(o->node, offset, n_bytes);
}

larder_status SimOs::read_all(OsHandle h, void* buffer, size_t n_bytes, uint64_t offset) {
    std::lock_guard lock(mutex_);
    LARDER_ASSIGN(Open * o, find_file(h, false));
    LARDER_TRY(check_direct(*o, buffer, n_bytes, offset));
    const size_t n = fs_.read(o->node, buffer, n_bytes, offset);
    return n == n_bytes
               ? LARDER_OK
               : fail(LARDER_E_TRUNCATED, "", "the file ends %zu bytes before the end of the range", n_bytes - n);
}

larder_status SimOs::write_all(OsHandle h, const void* buffer, size_t n_bytes, uint64_t offset) {
    std::lock_guard lock(mutex_);
    LARDER_ASSIGN(Open * o, find_file(h, true));
    LARDER_TRY(check_direct(*o, buffer, n_bytes, offset));
    if (!n_bytes) return LARDER_OK;
    changing();
    return fs_.write(o->node, buffer, n_bytes, offset);
}

larder_status SimOs::sync(OsHandle h) {
    std::lock_guard lock(mutex_);
    LARDER_ASSIGN(Open * o, find_file(h, false));
    changing();
    fs_.sync(o->node);
    return LARDER_OK;
}

larder_status SimOs::sync_dir(const char* path) {
    std::lock_guard lock(mutex_);
    changing();
    return fs_.sync_dir(path);
}

larder_status SimOs::make_dir(const char* path) {
    std::lock_guard lock(mutex_);
    changing();
    return fs_.make_dir(path);
}

Result<Vec<DirEntry>> SimOs::list_dir(const Allocator& a, const char* path) {
    std::lock_guard lock(mutex_);
    return fs_.list(a, path);
}

larder_status SimOs::unlink(const char* path) {
    std::lock_guard lock(mutex_);
    changing();
    return fs_.unlink(path);
}

larder_status SimOs::rename(const char* from, const char* to) {
    std::lock_guard lock(mutex_);
    changing();
    return fs_.rename(from, to);
}

larder_status SimOs::lock(OsHandle h) {
    std::lock_guard lock(mutex_);
    LARDER_ASSIGN(Open * o, find_file(h, false));
    for (const Open& other : open_)
        if (&other != o && other.live && other.locked && !other.is_event && other.node == o->node)
            return fail_os(LARDER_E_IN_USE, EWOULDBLOCK, "", "another process or handle holds the lock");
    o->locked = true;
    return LARDER_OK;
}

Result<uint64_t> SimOs::free_bytes(const char* path) {
    std::lock_guard lock(mutex_);
    LARDER_TRY(fs_.lookup(path).status());
    return fs_.free_bytes();
}

int64_t SimOs::transfer(const IoOp& op) {
    std::lock_guard lock(mutex_);
    Open* o = find(op.file);
    const bool write = op.kind == IoOp::Kind::write;
    if (!o || o->is_event || (write && !o->writable) || (op.kind == IoOp::Kind::read && !o->readable)) return -EBADF;
    if (op.kind == IoOp::Kind::sync_data) {
        changing();
        fs_.sync(o->node);
        return 0;
    }
    if (check_direct(*o, op.buffer, op.n_bytes, op.offset) < 0) return -EINVAL;
    size_t n = op.n_bytes;
    if (short_every_ && n >= 2 * SimFs::sector_bytes && ++n_transfers_ % short_every_ == 0) {
        const size_t unit = std::max<size_t>(o->direct_align, SimFs::sector_bytes);
        n = std::max(n / 2 / unit * unit, std::min(n, unit));
    }
    if (!write) return int64_t(fs_.read(o->node, op.buffer, n, op.offset));
    changing();
    return fs_.write(o->node, op.buffer, n, op.offset) < 0 ? -ENOSPC : int64_t(n);
}

Result<Owned<IoRing>> SimOs::io_ring(const Allocator& a, uint32_t depth, bool want_io_uring) {
    if (depth < 1 || depth > 4096)
        return fail(LARDER_E_RANGE, "depth", "the depth of a ring is 1 to 4096, not %u", depth);
    return Owned<IoRing>(make_owned<SimRing>(a, *this, a, depth, want_io_uring));
}

// --- the rest -------------------------------------------------------------------------------------------

uint64_t SimOs::now_ns() noexcept {
    std::lock_guard lock(mutex_);
    return now_ns_;
}

uint64_t SimOs::wall_ns() noexcept {
    return now_ns() + 1700000000ull * 1000000000ull;
}

larder_status SimOs::random(void* out, size_t n_bytes) {
    std::lock_guard lock(mutex_);
    auto* p = static_cast<unsigned char*>(out);
    for (size_t i = 0; i < n_bytes; ++i) p[i] = static_cast<unsigned char>(rng_.next() >> 56);
    return LARDER_OK;
}

Result<OsHandle> SimOs::event_fd() {
    std::lock_guard lock(mutex_);
    return add({.is_event = true});
}

void SimOs::event_set(OsHandle h) noexcept {
    std::lock_guard lock(mutex_);
    if (Open* o = find(h)) o->event = true;
}

void SimOs::event_clear(OsHandle h) noexcept {
    std::lock_guard lock(mutex_);
    if (Open* o = find(h)) o->event = false;
}

bool SimOs::event_is_set(OsHandle h) const noexcept {
    std::lock_guard lock(mutex_);
    const Open* o = const_cast<SimOs*>(this)->find(h);
    return o && o->event;
}

ProcessRef SimOs::process(int32_t pid) noexcept {
    std::lock_guard lock(mutex_);
    if (pid == 1) return {1, 1};
    for (const ProcessRef& p : alive_)
        if (p.pid == pid) return p;
    return {pid, 0};
}

bool SimOs::alive(const ProcessRef& p) noexcept {
    std::lock_guard lock(mutex_);
    if (p.pid == 1) return p.start_time <= 1;
    return std::any_of(alive_.begin(), alive_.end(), [&](const ProcessRef& q) {
        return q.pid == p.pid && (!p.start_time || q.start_time == p.start_time);
    });
}

namespace {
larder_status no_sockets() noexcept {
    return fail(LARDER_E_UNSUPPORTED, "", "the simulated system has no sockets");
}
}  // namespace

Result<OsHandle> SimOs::socket_listen(const char*) {
    return no_sockets();
}
Result<OsHandle> SimOs::socket_accept(OsHandle, uint64_t) {
    return no_sockets();
}
Result<OsHandle> SimOs::socket_connect(const char*) {
    return no_sockets();
}
larder_status SimOs::socket_send(OsHandle, const void*, size_t, std::span<const OsHandle>) {
    return no_sockets();
}
Result<size_t> SimOs::socket_receive(OsHandle, void*, size_t, std::span<OsHandle>, size_t*, uint64_t) {
    return no_sockets();
}
Result<ProcessRef> SimOs::socket_peer(OsHandle) {
    return no_sockets();
}

}  // namespace larder
