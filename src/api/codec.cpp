#include "larder/codec.h"

#include "api/guard.h"
#include "codec/codec.h"

using namespace larder;

larder_status larder_codec_list(uint32_t index, larder_codec_info* out) noexcept {
    LARDER_API_NONNULL(out);
    larder_codec_info info;
    if (!preset_at(index, info)) return fail(LARDER_E_NOT_FOUND, "index", "there is no preset %u", index);
    return write_struct(out, info, "larder_codec_info");
}

larder_status larder_codec_open(larder_context* context, const larder_codec_options* options, larder_codec** out_codec) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(out_codec);
    *out_codec = nullptr;
    return larder_codec::create(*context, options, out_codec);
    LARDER_API_END
}

void larder_codec_close(larder_codec* codec) noexcept {
    if (codec && check_handle(codec, HandleType::codec, "codec") >= 0) codec->context->drop_handle(codec);
}

larder_status larder_codec_quality(const larder_codec* codec, larder_quality* out_quality) noexcept {
    LARDER_API_HANDLE(codec, codec);
    LARDER_API_NONNULL(out_quality);
    *out_quality = codec->quality();
    return LARDER_OK;
}

larder_status larder_codec_sizes(const larder_codec* codec, const larder_stream_shape* shape, uint64_t* out_bound, uint64_t* out_workspace) noexcept {
    LARDER_API_HANDLE(codec, codec);
    LARDER_API_NONNULL(shape);
    uint64_t bound = 0, workspace = 0;
    LARDER_TRY(codec->sizes(*shape, bound, workspace));
    if (out_bound) *out_bound = bound;
    if (out_workspace) *out_workspace = workspace;
    return LARDER_OK;
}
