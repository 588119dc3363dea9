#include "larder/context.h"

#include "api/guard.h"
#include "core/context.h"
#include "core/stats_text.h"
#include "larder/stats.h"

using namespace larder;

namespace larder {
larder_status param_bounds(larder_param p, uint64_t* out_min, uint64_t* out_max, uint64_t* out_default) noexcept;
}

larder_status larder_context_create(const larder_context_options* options, larder_context** out_context) noexcept {
    LARDER_API_BEGIN
    LARDER_API_NONNULL(out_context);
    *out_context = nullptr;
    return larder_context::create(options, posix_os(), out_context);
    LARDER_API_END
}

larder_status larder_context_destroy(larder_context* context) noexcept {
    if (!context) return LARDER_OK;
    LARDER_API_HANDLE(context, context);
    LARDER_TRY(context->check_no_handles());
    Allocator a = context->alloc;
    a.destroy(context);
    return LARDER_OK;
}

larder_status larder_context_progress(larder_context* context, uint32_t max_tasks) noexcept {
    LARDER_API_HANDLE(context, context);
    return context->scheduler.progress(max_tasks) ? LARDER_PENDING : LARDER_OK;
}

larder_status larder_context_set_u64(larder_context* context, larder_param param, uint64_t value) noexcept {
    LARDER_API_HANDLE(context, context);
    return context->set_param(param, value);
}

larder_status larder_context_get_u64(larder_context* context, larder_param param, uint64_t* out_value) noexcept {
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(out_value);
    LARDER_TRY(larder_param_bounds(param, nullptr, nullptr, nullptr));
    *out_value = context->param(param);
    return LARDER_OK;
}

larder_status larder_param_bounds(larder_param param, uint64_t* out_min, uint64_t* out_max,
                                  uint64_t* out_default) noexcept {
    return param_bounds(param, out_min, out_max, out_default);
}

larder_status larder_context_capabilities(larder_context* context, larder_capabilities* out) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    larder_capabilities c;
    context->capabilities(c);
    return write_struct(out, c, "larder_capabilities");
    LARDER_API_END
}

larder_status larder_context_stats(larder_context* context, larder_stats* out) noexcept {
    LARDER_API_HANDLE(context, context);
    return write_struct(out, stats_snapshot(context->stats), "larder_stats");
}

larder_status larder_context_stats_text(larder_context* context, larder_stats_format format, char* buffer,
                                        uint64_t capacity, uint64_t* out_n_bytes) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    if (capacity) LARDER_API_NONNULL(buffer);
    LARDER_ASSIGN(String text, stats_text(context->alloc, context->stats, format));
    if (out_n_bytes) *out_n_bytes = text.size();
    if (text.size() >= capacity)
        return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "the text needs %zu bytes and a NUL", text.size());
    std::memcpy(buffer, text.c_str(), text.size() + 1);
    return LARDER_OK;
    LARDER_API_END
}
