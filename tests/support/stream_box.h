// Streams of a few layers in plain memory, for tests of the container.
#pragma once

#include "support/cmocka.h"

#include <string>
#include <vector>

#include "larder/larder.h"
#include "support/kv_tensors.h"

namespace stream_test {

using Bytes = std::vector<std::byte>;
using Planes = std::vector<Bytes>;

inline larder_stream_shape small_shape(uint32_t tokens, larder_dtype dtype = LARDER_DTYPE_F16) {
    larder_stream_shape s = LARDER_STREAM_SHAPE_INIT;
    s.n_layers = 2, s.n_tokens = tokens, s.n_kv_heads = 2, s.k_dim = s.v_dim = 32;
    s.k_dtype = s.v_dtype = dtype;
    return s;
}

inline std::vector<larder_stream_plane> views(Planes& p) {
    std::vector<larder_stream_plane> v;
    for (auto& plane : p) {
        larder_stream_plane one = LARDER_STREAM_PLANE_INIT;
        one.base = plane.data();
        v.push_back(one);
    }
    return v;
}

inline uint64_t row_bytes(const larder_stream_shape& s, size_t plane) {
    return uint64_t(s.n_kv_heads) * (plane % 2 ? s.v_dim : s.k_dim) *
           larder::dtype_bytes(plane % 2 ? s.v_dtype : s.k_dtype);
}

// Tensors, and what makes and reads streams of them.
struct Box {
    larder_context* context = nullptr;
    larder_profile* profile = nullptr;
    larder_stream_shape shape{};
    Planes truth;

    Box(larder::Rng& r, const larder_stream_shape& s) : shape(s) {
        larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
        o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        assert_int_equal(larder_context_create(&o, &context), LARDER_OK);
        for (uint32_t i = 0; i < 2 * s.n_layers; ++i)
            truth.push_back(kv_test::make_plane(r, s, i % 2, kv_test::Data::normal));
        larder_profile_options po = LARDER_PROFILE_OPTIONS_INIT;
        po.shape = s;
        po.basis_heads = LARDER_PROFILE_NO_BASIS;  // what has one is not refined
        assert_int_equal(larder_profile_create(context, &po, &profile), LARDER_OK);
        const auto v = views(truth);
        const larder_stream_source src = source(v, 0, s.n_tokens);
        assert_int_equal(larder_profile_add(profile, &src), LARDER_OK);
        assert_int_equal(larder_profile_finish(profile), LARDER_OK);
    }
    ~Box() {
        larder_profile_destroy(profile);
        larder_context_destroy(context);
    }
    Box(const Box&) = delete;

    larder_stream_source source(const std::vector<larder_stream_plane>& v, uint32_t first, uint32_t n) const {
        larder_stream_source s = LARDER_STREAM_SOURCE_INIT;
        s.shape = shape;
        s.shape.n_tokens = n;
        s.identity.layout.bytes[0] = 7;
        s.identity.content.bytes[0] = uint8_t(first + n);
        s.identity.first_token = 40 + first;
        s.planes = v.data();
        return s;
    }
    // Tokens first .. first + n - 1 as a stream, or as the next generation of `before`.
    Bytes encode(const std::string& chain, uint32_t chunk, uint32_t first, uint32_t n, const Bytes* before = nullptr,
                 bool embed = false) {
        larder_codec_options o = LARDER_CODEC_OPTIONS_INIT;
        o.chain = chain.c_str();
        o.chunk_tokens = chunk;
        o.profile = profile;
        o.embed_profile = embed;
        larder_codec* codec = nullptr;
        assert_int_equal(larder_codec_open(context, &o, &codec), LARDER_OK);
        auto v = views(truth);
        for (size_t i = 0; i < v.size(); ++i) v[i].base = truth[i].data() + first * row_bytes(shape, i);
        const larder_stream_source s = source(v, first, n);
        uint64_t bound = 0, workspace = 0, written = 0;
        assert_int_equal(larder_codec_sizes(codec, &s.shape, &bound, &workspace), LARDER_OK);
        Bytes out(bound + 16, std::byte{0xee}), scratch(workspace);
        const larder_status st =
            before ? larder_stream_append(codec, {before->data(), before->size()}, &s, out.data(), bound,
                                          scratch.data(), workspace, &written)
                   : larder_stream_encode(codec, &s, out.data(), bound, scratch.data(), workspace, &written);
        assert_int_equal(st, LARDER_OK);
        for (size_t i = bound; i < out.size(); ++i) assert_int_equal(uint8_t(out[i]), 0xee);
        out.resize(written);
        larder_codec_close(codec);
        return out;
    }
    struct Decoded {
        larder_status status;
        Planes planes;
        uint32_t n_levels = 0;
    };
    Decoded decode(const Bytes& stream, uint32_t first = 0, uint32_t n = 0, uint32_t n_levels = 0, uint32_t flags = 0) {
        Decoded d{LARDER_OK, Planes(truth.size()), 0};
        for (size_t i = 0; i < truth.size(); ++i)
            d.planes[i].assign(row_bytes(shape, i) * (n ? n : shape.n_tokens), std::byte{0xa5});
        const auto v = views(d.planes);
        larder_stream_target t = LARDER_STREAM_TARGET_INIT;
        t.planes = v.data();
        t.first_token = first, t.n_tokens = n, t.n_levels = n_levels, t.flags = flags;
        t.out_n_levels = &d.n_levels;
        const larder_profile* known[] = {profile};
        t.profiles = known, t.n_profiles = 1;
        d.status = larder_stream_decode(context, {stream.data(), stream.size()}, &t);
        return d;
    }
    double rms(const Planes& p) const {
        double sum = 0, n = 0;
        for (size_t i = 0; i < p.size(); ++i) {
            const larder_dtype t = i % 2 ? shape.v_dtype : shape.k_dtype;
            for (size_t j = 0; j < p[i].size(); j += larder::dtype_bytes(t), ++n) {
                const double d = kv_test::element(p[i].data() + j, t) - kv_test::element(truth[i].data() + j, t);
                sum += d * d;
            }
        }
        return std::sqrt(sum / n);
    }
};

inline Bytes joined(const Bytes& a, const Bytes& b) {
    Bytes out(a);
    out.insert(out.end(), b.begin(), b.end());
    return out;
}

}  // namespace stream_test
