#include "memory/translation.h"

#include "api/guard.h"

using namespace larder;

larder_status larder_translation_create(larder_context* context, const larder_translation_options* options,
                                        larder_translation** out_translation) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(out_translation);
    *out_translation = nullptr;
    return larder_translation::create(*context, options, out_translation);
    LARDER_API_END
}

void larder_translation_destroy(larder_translation* translation) noexcept {
    if (translation && check_handle(translation, HandleType::translation, "translation") >= 0)
        translation->context->drop_handle(translation);
}

larder_status larder_translation_lookup(larder_translation* translation, const uint64_t* keys, uint64_t n,
                                        int64_t* out_values) noexcept {
    LARDER_API_HANDLE(translation, translation);
    if (n) LARDER_API_NONNULL(keys);
    if (n) LARDER_API_NONNULL(out_values);
    return translation->lookup(keys, n, out_values);
}

larder_status larder_translation_drop(larder_translation* translation, uint64_t first, uint64_t n) noexcept {
    LARDER_API_HANDLE(translation, translation);
    translation->drop(first, n);
    return LARDER_OK;
}

larder_status larder_translation_query(larder_translation* translation, larder_translation_state* out) noexcept {
    LARDER_API_HANDLE(translation, translation);
    larder_translation_state state;
    translation->query(state);
    return write_struct(out, state, "larder_translation_state");
}
