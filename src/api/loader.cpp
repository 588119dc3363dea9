#include "larder/loader.h"

#include "api/guard.h"
#include "codec/loader.h"

using namespace larder;

larder_status larder_loader_create(larder_context* context, const larder_loader_options* options,
                                   larder_loader** out_loader) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(options);
    LARDER_API_NONNULL(out_loader);
    return larder_loader::create(*context, options, out_loader);
    LARDER_API_END
}

void larder_loader_destroy(larder_loader* loader) noexcept {
    if (loader && check_handle(loader, HandleType::loader, "loader") >= 0) loader->context->drop_handle(loader);
}

larder_status larder_loader_next(larder_loader* loader, uint64_t now_ns, larder_loader_step* out_step) noexcept {
    LARDER_API_HANDLE(loader, loader);
    LARDER_TRY(check_output(out_step, "larder_loader_step"));
    larder_loader_step step;
    const larder_status st = loader->next(now_ns, step);
    if (st != LARDER_OK) return st;
    return write_struct(out_step, step, "larder_loader_step");
}

larder_status larder_loader_report(larder_loader* loader, uint64_t now_ns, uint32_t succeeded) noexcept {
    LARDER_API_HANDLE(loader, loader);
    return loader->report(now_ns, succeeded != 0);
}

larder_status larder_loader_inspect(const larder_loader* loader, larder_loader_info* out) noexcept {
    LARDER_API_HANDLE(loader, loader);
    larder_loader_info info;
    loader->inspect(info);
    return write_struct(out, info, "larder_loader_info");
}
