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

larder_status larder_codec_stage_register(larder_context* context, const larder_codec_stage* stage) noexcept {
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(stage);
    return context->stages.add(stage);
}

larder_status larder_codec_open(larder_context* context, const larder_codec_options* options,
                                larder_codec** out_codec) noexcept {
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

larder_status larder_codec_sizes(const larder_codec* codec, const larder_stream_shape* shape, uint64_t* out_bound,
                                 uint64_t* out_workspace) noexcept {
    LARDER_API_HANDLE(codec, codec);
    LARDER_API_NONNULL(shape);
    uint64_t bound = 0, workspace = 0;
    LARDER_TRY(codec->sizes(*shape, bound, workspace));
    if (out_bound) *out_bound = bound;
    if (out_workspace) *out_workspace = workspace;
    return LARDER_OK;
}

larder_status larder_profile_create(larder_context* context, const larder_profile_options* options,
                                    larder_profile** out_profile) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(options);
    LARDER_API_NONNULL(out_profile);
    *out_profile = nullptr;
    return larder_profile::create(*context, options, out_profile);
    LARDER_API_END
}

void larder_profile_destroy(larder_profile* profile) noexcept {
    if (profile && check_handle(profile, HandleType::profile, "profile") >= 0) profile->unref();
}

larder_status larder_profile_set_reader(larder_profile* profile, uint32_t layer, uint32_t kv, const float* weights,
                                        uint32_t n) noexcept {
    LARDER_API_HANDLE(profile, profile);
    LARDER_API_NONNULL(weights);
    return profile->set_reader(layer, kv, weights, n);
}

larder_status larder_profile_add(larder_profile* profile, const larder_stream_source* sample) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(profile, profile);
    LARDER_API_NONNULL(sample);
    return profile->add(*sample);
    LARDER_API_END
}

larder_status larder_profile_finish(larder_profile* profile) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(profile, profile);
    return profile->finish();
    LARDER_API_END
}

larder_status larder_profile_hash(const larder_profile* profile, larder_key* out_hash) noexcept {
    LARDER_API_HANDLE(profile, profile);
    LARDER_API_NONNULL(out_hash);
    if (!profile->finished()) return fail(LARDER_E_STATE, "profile", "the profile's calibration is not finished");
    *out_hash = profile->hash;
    return LARDER_OK;
}

larder_status larder_profile_save(const larder_profile* profile, void* buffer, uint64_t capacity,
                                  uint64_t* out_n_bytes) noexcept {
    LARDER_API_HANDLE(profile, profile);
    LARDER_API_NONNULL(out_n_bytes);
    if (capacity) LARDER_API_NONNULL(buffer);
    if (!profile->finished()) return fail(LARDER_E_STATE, "profile", "the profile's calibration is not finished");
    *out_n_bytes = profile->saved.size();
    if (capacity < profile->saved.size())
        return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "the profile has %zu bytes", profile->saved.size());
    std::memcpy(buffer, profile->saved.data(), profile->saved.size());
    return LARDER_OK;
}

larder_status larder_profile_load(larder_context* context, larder_span bytes, larder_profile** out_profile) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    if (bytes.n_bytes) LARDER_API_NONNULL(bytes.data);
    LARDER_API_NONNULL(out_profile);
    *out_profile = nullptr;
    return larder_profile::load(*context, {static_cast<const std::byte*>(bytes.data), bytes.n_bytes}, out_profile);
    LARDER_API_END
}
