// The stream decoder on hostile bytes: as they are, and again with all checksums made to hold.
#include <cstdlib>
#include <vector>

#include "core/layout.h"
#include "larder/larder.h"
#include "support/reseal.h"

namespace {

larder_context* context() {
    static larder_context* c = [] {
        larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
        o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        larder_context* made = nullptr;
        if (larder_context_create(&o, &made) < 0) std::abort();
        return made;
    }();
    return c;
}

// One code path per instruction set, chosen by the input.
void decode(const std::vector<uint8_t>& bytes, uint64_t isa) {
    const larder_span span{bytes.data(), bytes.size()};
    larder_stream_info info = LARDER_STREAM_INFO_INIT;
    (void)larder_stream_verify(span, nullptr, nullptr);
    if (larder_stream_inspect(span, &info) < 0 || info.decode_workspace > (64u << 20)) return;
    larder_stream_extent extents[16];
    uint32_t n = 0;
    (void)larder_stream_plan_read(span, 0, 0, 0, 0, extents, 16, &n);
    larder_stream_range ranges[16];
    (void)larder_stream_plan_ranges(span, nullptr, ranges, 16, &n);
    larder_stream_level level = LARDER_STREAM_LEVEL_INIT;
    (void)larder_stream_describe_level(span, 1, &level);
    std::vector<uint8_t> base(bytes.size());
    uint64_t n_base = 0;
    if (larder_stream_truncate(span, 1, base.data(), base.size(), &n_base) == LARDER_OK &&
        larder_stream_verify({base.data(), n_base}, nullptr, nullptr) < 0)
        std::abort();
    const larder_stream_shape& s = info.shape;
    const uint64_t row[2] = {uint64_t(s.n_kv_heads) * s.k_dim * larder::dtype_bytes(s.k_dtype),
                             uint64_t(s.n_kv_heads) * s.v_dim * larder::dtype_bytes(s.v_dtype)};
    if ((row[0] + row[1]) * s.n_tokens * s.n_layers > (16u << 20)) return;
    std::vector<std::vector<uint8_t>> memory;
    std::vector<larder_stream_plane> planes;
    for (uint32_t i = 0; i < 2 * s.n_layers; ++i) {
        memory.emplace_back(row[i % 2] * s.n_tokens);
        larder_stream_plane p = LARDER_STREAM_PLANE_INIT;
        p.base = memory.back().data();
        planes.push_back(p);
    }
    larder_context_set_u64(context(), LARDER_PARAM_ISA_LEVEL, isa);
    larder_stream_target t = LARDER_STREAM_TARGET_INIT;
    t.planes = planes.data();
    const larder_status whole = larder_stream_decode(context(), span, &t);
    t.flags = LARDER_STREAM_ALLOW_PARTIAL;
    if (larder_stream_decode(context(), span, &t) < 0 && whole == LARDER_OK) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (!size) return 0;
    std::vector<uint8_t> bytes(data, data + size);
    const uint64_t isa = data[size - 1] % 3;
    decode(bytes, isa);
    if (stream_test::reseal(bytes)) decode(bytes, isa);
    return 0;
}
