#include "memory/vtensor.h"

#include "api/guard.h"

using namespace larder;

larder_status larder_vtensor_create(larder_context* context, const larder_vtensor_options* options,
                                    larder_vtensor** out_vtensor) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(out_vtensor);
    *out_vtensor = nullptr;
    return larder_vtensor::create(*context, options, out_vtensor);
    LARDER_API_END
}

void larder_vtensor_destroy(larder_vtensor* vtensor) noexcept {
    if (vtensor && check_handle(vtensor, HandleType::vtensor, "vtensor") >= 0) vtensor->context->drop_handle(vtensor);
}

larder_status larder_vtensor_get_view(const larder_vtensor* vtensor, uint32_t layer, uint32_t matrix,
                                      larder_vtensor_view* out) noexcept {
    LARDER_API_HANDLE(vtensor, vtensor);
    larder_vtensor_view view;
    LARDER_TRY(vtensor->view(layer, matrix, view));
    return write_struct(out, view, "larder_vtensor_view");
}

larder_status larder_vtensor_map(larder_vtensor* vtensor, const uint32_t* n_tuned, const uint32_t* experts,
                                 larder_vtensor_adapter* out_adapter, int32_t* out_row) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(vtensor, vtensor);
    LARDER_API_NONNULL(n_tuned);
    LARDER_API_NONNULL(out_adapter);
    LARDER_API_NONNULL(out_row);
    return vtensor->map(n_tuned, experts, *out_adapter, *out_row);
    LARDER_API_END
}

larder_status larder_vtensor_unmap(larder_vtensor* vtensor, larder_vtensor_adapter adapter) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(vtensor, vtensor);
    return vtensor->unmap(adapter);
    LARDER_API_END
}

larder_status larder_vtensor_route(const larder_vtensor* vtensor, uint32_t layer, const int32_t* rows,
                                   uint32_t n_tokens, uint32_t k, int32_t* ids) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(vtensor, vtensor);
    if (n_tokens) LARDER_API_NONNULL(rows);
    if (n_tokens && k) LARDER_API_NONNULL(ids);
    return vtensor->route(layer, rows, n_tokens, k, ids);
    LARDER_API_END
}

larder_status larder_vtensor_export_routes(const larder_vtensor* vtensor, uint32_t layer, int32_t* dst,
                                           uint32_t row_stride) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(vtensor, vtensor);
    LARDER_API_NONNULL(dst);
    return vtensor->export_routes(layer, dst, row_stride);
    LARDER_API_END
}

larder_status larder_vtensor_query(const larder_vtensor* vtensor, larder_vtensor_state* out) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(vtensor, vtensor);
    larder_vtensor_state state;
    vtensor->query(state);
    return write_struct(out, state, "larder_vtensor_state");
    LARDER_API_END
}
