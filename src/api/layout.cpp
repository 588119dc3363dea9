#include "larder/layout.h"

#include "api/guard.h"
#include "core/layout.h"

using namespace larder;

larder_status larder_layout_create(larder_context* context, const larder_layout_options* options,
                                   larder_layout** out_layout) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(out_layout);
    *out_layout = nullptr;
    return larder_layout::create(*context, options, out_layout);
    LARDER_API_END
}

void larder_layout_destroy(larder_layout* layout) noexcept {
    if (layout && check_handle(layout, HandleType::layout, "layout") >= 0) layout->unref();
}

larder_status larder_layout_group_info(const larder_layout* layout, uint32_t group, uint32_t n_tp,
                                       larder_group_info* out) noexcept {
    LARDER_API_HANDLE(layout, layout);
    larder_group_info info;
    LARDER_TRY(layout->group_info(group, n_tp, info));
    return write_struct(out, info, "larder_group_info");
}

larder_status larder_layout_identity(const larder_layout* layout, larder_key* out_identity) noexcept {
    LARDER_API_HANDLE(layout, layout);
    LARDER_API_NONNULL(out_identity);
    *out_identity = layout->identity;
    return LARDER_OK;
}
