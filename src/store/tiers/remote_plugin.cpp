#include "store/tiers/remote_plugin.h"

#include <cstddef>
#include <cstdio>
#include <cstring>

namespace larder {
namespace {

constexpr uint64_t least_value_bytes = 64 << 10;

bool is_word(const char* s) noexcept {
    const size_t n = std::strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    return n && n < 64 && !s[n];
}

// Every function of the table is there.
bool has_holes(const larder_remote_table_v1& t) noexcept {
    const void* const all[] = {reinterpret_cast<const void*>(t.score),
                               reinterpret_cast<const void*>(t.open),
                               reinterpret_cast<const void*>(t.close),
                               reinterpret_cast<const void*>(t.caps),
                               reinterpret_cast<const void*>(t.counters),
                               reinterpret_cast<const void*>(t.register_memory),
                               reinterpret_cast<const void*>(t.unregister_memory),
                               reinterpret_cast<const void*>(t.prepare),
                               reinterpret_cast<const void*>(t.post),
                               reinterpret_cast<const void*>(t.check),
                               reinterpret_cast<const void*>(t.release),
                               t.name};
    for (const void* p : all)
        if (!p) return true;
    return false;
}

larder_context& context_of(void* ctx) noexcept {
    return *static_cast<larder_context*>(ctx);
}
void* host_alloc(void* ctx, uint64_t n, uint64_t align) {
    return context_of(ctx).alloc.try_alloc(n, align);
}
void host_free(void* ctx, void* p, uint64_t n, uint64_t align) {
    context_of(ctx).alloc.free(p, n, align);
}
void host_fail(void*, larder_status status, int32_t error, const char* message) {
    fail_os(status, error, "remote", "%s", message);
}
uint64_t host_now(void* ctx) {
    return context_of(ctx).os.now_ns();
}
void host_log(void* ctx, int32_t level, const char* message) {
    context_of(ctx).log(level, "%s", message);
}

}  // namespace

Result<const larder_remote_table_v1*> load_remote_plugin(Os& os, const char* plugin) {
    char file[96];
    const char* library = plugin;
    if (!std::strchr(plugin, '/')) {
        if (!is_word(plugin))
            return fail(LARDER_E_INVALID, "plugin", "a plug-in is named by a word such as redis, or by a path");
        std::snprintf(file, sizeof file, "liblarder-%s.so", plugin);
        library = file;
    }
    const Result<void*> symbol = os.library_symbol(library, LARDER_REMOTE_PLUGIN_V1_SYMBOL);
    if (!symbol.ok()) {
        const larder_error_info why = last_error();
        return fail(why.status, "plugin", "the plug-in %s", why.message);
    }
    const larder_remote_table_v1* t = reinterpret_cast<larder_remote_plugin_v1_fn>(*symbol)();
    if (!t) return fail(LARDER_E_UNSUPPORTED, "plugin", "the plug-in gives no table");
    if (t->version != 1)
        return fail(LARDER_E_UNSUPPORTED, "plugin",
                    "the plug-in's table is of version %u, this library knows version 1", t->version);
    if (t->struct_size < sizeof *t)
        return fail(LARDER_E_UNSUPPORTED, "plugin", "the plug-in's table has %u bytes; version 1 has %zu",
                    t->struct_size, sizeof *t);
    if (has_holes(*t)) return fail(LARDER_E_UNSUPPORTED, "plugin", "a function of the plug-in's table is missing");
    if (t->score() <= 0)
        return fail(LARDER_E_UNSUPPORTED, "plugin", "the plug-in says that it is of no use on this machine");
    return t;
}

Remote::Remote(larder_context& c, const larder_remote_table_v1& t) noexcept
    : t_(t), host_{sizeof host_, 0, &c, host_alloc, host_free, host_fail, host_now, host_log} {}

Remote::~Remote() {
    if (r_) t_.close(r_);
}

Result<Owned<Remote>> Remote::open(larder_context& c, const char* plugin,
                                   std::span<const larder_remote_setting_v1> settings) {
    LARDER_ASSIGN(const larder_remote_table_v1* const t, load_remote_plugin(c.os, plugin));
    auto remote = make_owned<Remote>(c.alloc, c, *t);
    LARDER_TRY(t->open(&remote->host_, settings.data(), uint32_t(settings.size()), &remote->r_));
    remote->caps_.struct_size = sizeof remote->caps_;
    t->caps(remote->r_, &remote->caps_);
    if (!remote->caps_.max_items || remote->caps_.max_value_bytes < least_value_bytes)
        return fail(LARDER_E_UNSUPPORTED, "plugin", "the plug-in takes too few items or too small values");
    if (remote->caps_.needs_registration)
        return fail(LARDER_E_UNSUPPORTED, "plugin", "the plug-in wants registered memory, which no tier lends yet");
    return remote;
}

larder_remote_counters_v1 Remote::counters() const noexcept {
    larder_remote_counters_v1 out{};
    out.struct_size = sizeof out;
    t_.counters(r_, &out);
    return out;
}

larder_status Remote::run(uint32_t op, std::span<larder_remote_item_v1> items, uint32_t ttl_ms, uint64_t timeout_ns) {
    void* request = nullptr;
    LARDER_TRY(begin(op, items, ttl_ms, timeout_ns, &request));
    larder_status status;
    do status = advance(request, timeout_ns);
    while (status == LARDER_PENDING);
    end(request);
    return status;
}

larder_status Remote::begin(uint32_t op, std::span<larder_remote_item_v1> items, uint32_t ttl_ms, uint64_t timeout_ns,
                            void** out_request) {
    const larder_remote_batch_v1 batch{sizeof batch, op, items.data(), uint32_t(items.size()), ttl_ms};
    LARDER_TRY(t_.prepare(r_, &batch, out_request));
    // What goes wrong with a node or an item is told by its status.
    const larder_error_info before = last_error();
    const larder_status status = t_.post(r_, *out_request, timeout_ns);
    if (status >= 0)
        set_last_error(before);
    else
        t_.release(r_, *out_request);
    return status;
}

larder_status Remote::advance(void* request, uint64_t wait_ns) noexcept {
    const larder_error_info before = last_error();
    const larder_status status = t_.check(r_, request, wait_ns);
    if (status >= 0) set_last_error(before);
    return status;
}

}  // namespace larder
