#include "core/context.h"

#include <sodium.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "base/cpu.h"
#include "base/crc32c.h"
#include "base/options.h"
#include "device/device.h"

namespace {

struct ParamInfo {
    const char* environment;
    uint64_t min, max, initial;
};

constexpr ParamInfo params[] = {
    {nullptr, 0, 0, 0},
    {"LARDER_IO_DEPTH", 1, 1024, 32},
    {"LARDER_IO_URING", 0, 1, 1},
    {"LARDER_HUGE_PAGES", 0, 1, 1},
    {"LARDER_ISA_LEVEL", 0, 2, 2},
    {"LARDER_VERIFY_LOADS", 0, 1, 0},
};
constexpr size_t n_known = sizeof params / sizeof params[0];

const ParamInfo* find_param(larder_param p) {
    return p >= 1 && size_t(p) < n_known ? &params[p] : nullptr;
}

}  // namespace

namespace larder {

const char* handle_type_name(HandleType t) noexcept {
    static constexpr const char* names[] = {"",
                                            "context",
                                            "queue",
                                            "layout",
                                            "device",
                                            "arena",
                                            "index",
                                            "prefix index",
                                            "codec",
                                            "loader",
                                            "store",
                                            "kv",
                                            "planner",
                                            "worker",
                                            "expert cache",
                                            "profile",
                                            "plan",
                                            "virtual tensor",
                                            "cell pool",
                                            "state pool",
                                            "topology",
                                            "translation cache",
                                            "index view",
                                            "adapter cache"};
    static_assert(std::size(names) == type_slot(HandleType::n_types));
    return type_slot(t) < std::size(names) ? names[type_slot(t)] : "";
}

Handle::Handle(HandleType t, larder_context& c) noexcept : type(t), fork_epoch(posix_os().fork_epoch()), context(&c) {}

larder_status check_handle_closely(const Handle* h, HandleType type, const char* name) noexcept {
    if (!h) return fail(LARDER_E_INVALID, name, "%s is NULL", name);
    if (h->type != type) [[unlikely]] {
        if (uint32_t(h->type) == dead_handle) return fail(LARDER_E_CLOSED, name, "%s was destroyed", name);
        return fail(LARDER_E_CLOSED, name, "%s is not a %s handle", name, handle_type_name(type));
    }
    if (h->context->in_forked_child()) [[unlikely]]
        return fail(LARDER_E_FORKED, name, "%s was made before fork and cannot be used in the child", name);
    return LARDER_OK;
}

larder_status check_handle_of(const larder_context* context, const Handle* h, HandleType type,
                              const char* name) noexcept {
    LARDER_TRY(check_handle(h, type, name));
    if (h->context != context) return fail(LARDER_E_INVALID, name, "%s belongs to another context", name);
    return LARDER_OK;
}

size_t Stats::stripe() noexcept {
    static atomic<uint32_t> next{0};
    thread_local const uint32_t mine = next.fetch_add(1, relaxed);
    return mine % n_stripes;
}

larder_status param_bounds(larder_param p, uint64_t* out_min, uint64_t* out_max, uint64_t* out_default) noexcept {
    const ParamInfo* info = find_param(p);
    if (!info) return fail(LARDER_E_NOT_FOUND, "param", "there is no parameter %d", p);
    if (out_min) *out_min = info->min;
    if (out_max) *out_max = info->max;
    if (out_default) *out_default = info->initial;
    return LARDER_OK;
}

}  // namespace larder

using namespace larder;

larder_context::larder_context(const larder_context_options& o, const Allocator& a, Os& system)
    : Handle(HandleType::context, *this), alloc(a), os(system), scheduler(a, system), fork_epoch_(system.fork_epoch()),
      log_(o.log), log_level_(o.log_level ? larder_log_level(o.log_level) : LARDER_LOG_WARNING), rng_(o.seed)
#if defined(LARDER_DEBUG)
      ,
      quarantine_(a)
#endif
{
    static_assert(n_known == n_params);
    for (size_t i = 1; i < n_known; ++i) params_[i].store(params[i].initial, relaxed);
}

larder_context::~larder_context() {
    scheduler.stop();
    if (log_.drop) log_.drop(log_.ctx);
#if defined(LARDER_DEBUG)
    for (auto& q : quarantine_) alloc.free(q.p, q.n_bytes, q.align);
#endif
}

larder_status larder_context::create(const larder_context_options* user, Os& os, larder_context** out) {
    larder_context_options o;
    LARDER_TRY(read_options(user, o, "larder_context_options"));
    const bool set_workers = o.set_mask & LARDER_CONTEXT_SET_N_WORKERS;
    if (o.set_mask & ~LARDER_CONTEXT_SET_N_WORKERS)
        return fail(LARDER_E_TOO_NEW, "set_mask", "set_mask 0x%x has a bit that this library does not know",
                    o.set_mask);
    if (!o.n_workers && !set_workers) o.n_workers = 2;
    LARDER_TRY(check_range(o.n_workers, 0, 64, "n_workers"));
    LARDER_TRY(check_range(o.log_level, 0, LARDER_LOG_DEBUG, "log_level"));
    Allocator a;
    if (o.allocator) {
        larder_allocator raw;
        LARDER_TRY(read_options(o.allocator, raw, "larder_allocator"));
        LARDER_TRY(check_reserved(raw.reserved0, "allocator.reserved0"));
        if (!raw.alloc || !raw.free)
            return fail(LARDER_E_INVALID, "allocator", "an allocator needs both alloc and free");
        a = Allocator(raw);
    }
    if (sodium_init() < 0) return fail(LARDER_E_SYSTEM, "", "libsodium could not be initialised");
    if (!o.seed) LARDER_TRY(os.random(&o.seed, sizeof o.seed));
    Owned<larder_context> c = make_owned<larder_context>(a, o, a, os);
    c->log_.drop = nullptr;  // the caller keeps its sink when creation fails
    c->read_environment();
    LARDER_TRY(c->scheduler.start(o.n_workers));
    c->log_.drop = o.log.drop;
    *out = c.release();
    return LARDER_OK;
}

void larder_context::read_environment() noexcept {
    for (size_t i = 1; i < n_known; ++i) {
        const char* text = std::getenv(params[i].environment);
        if (!text || !*text) continue;
        char* end = nullptr;
        const unsigned long long v = std::strtoull(text, &end, 10);
        if (*end || v < params[i].min || v > params[i].max)
            log(LARDER_LOG_WARNING, "%s is not a number from %llu to %llu; ignored", params[i].environment,
                (unsigned long long)params[i].min, (unsigned long long)params[i].max);
        else
            params_[i].store(v, relaxed);
    }
}

larder_status larder_context::set_param(larder_param p, uint64_t v) noexcept {
    const ParamInfo* info = find_param(p);
    if (!info) return fail(LARDER_E_NOT_FOUND, "param", "there is no parameter %d", p);
    LARDER_TRY(check_range(v, info->min, info->max, info->environment));
    params_[size_t(p)].store(v, relaxed);
    return LARDER_OK;
}

bool larder_context::probe_io_uring() noexcept {
    std::lock_guard lock(probe_mutex_);
    if (io_uring_works_ < 0) {
        auto ring = os.io_ring(alloc, 2, true);
        io_uring_works_ = ring.ok() && (*ring)->is_io_uring();
    }
    return io_uring_works_ == 1;
}

void larder_context::capabilities(larder_capabilities& out) noexcept {
    const Topology& t = os.topology();
    out = LARDER_CAPABILITIES_INIT;
    out.n_cpus = t.n_cpus;
    out.n_numa_nodes = t.n_numa_nodes;
    out.isa_level = uint32_t(std::min<uint64_t>(uint64_t(cpu_isa_level()), param(LARDER_PARAM_ISA_LEVEL)));
    out.io_uring = param(LARDER_PARAM_IO_URING) && probe_io_uring();
    out.huge_pages = t.huge_pages;
    out.memfd = t.memfd;
    out.crc32c_hardware = crc32c_is_hardware();
    out.cuda_plugin = n_cuda_devices() > 0;
#if defined(LARDER_DEBUG)
    out.debug_handles = 1;
#endif
    out.page_bytes = t.page_bytes;
    out.memory_bytes = t.memory_bytes;
    out.memlock_bytes = t.memlock_bytes;
}

void larder_context::log(larder_log_level level, const char* format, ...) noexcept {
    if (!log_.fn || level > log_level_) return;
    char line[512];
    va_list args;
    va_start(args, format);
    std::vsnprintf(line, sizeof line, format, args);
    va_end(args);
    log_.fn(log_.ctx, level, line);
}

larder_status larder_context::check_no_handles() const noexcept {
    for (size_t i = 0; i < n_handle_types; ++i)
        if (uint32_t n = live_handles_[i].load(relaxed))
            return fail(LARDER_E_BUSY, "context", "%u %s handle(s) made from this context still live", n,
                        handle_type_name(HandleType(i)));
    return LARDER_OK;
}

uint64_t larder_context::random_u64() noexcept {
    std::lock_guard lock(rng_mutex_);
    return rng_.next();
}

void larder_context::drop_memory([[maybe_unused]] Handle* handle, void* p, size_t n_bytes, size_t align) noexcept {
#if defined(LARDER_DEBUG)
    // Kept so that use after destroy reads a dead handle instead of somebody else's memory.
    const uint32_t mark = dead_handle;
    std::memcpy(&handle->type, &mark, sizeof mark);
    std::lock_guard lock(quarantine_mutex_);
    try {
        quarantine_.push_back({p, n_bytes, align});
        return;
    } catch (const std::bad_alloc&) {
    }
#endif
    alloc.free(p, n_bytes, align);
}
