// `larder inspect FILE`: what a stream file says about itself, and whether every byte of it holds.
#include <fstream>
#include <iostream>
#include <iterator>
#include <vector>

#include "cli.h"
#include "larder/stream.h"

namespace cli {
namespace {

const char* dtype_name(larder_dtype t) {
    static constexpr const char* names[] = {"none", "f16", "bf16", "f32", "f8e4m3", "f8e5m2", "i8", "u8"};
    return t >= 0 && t <= LARDER_DTYPE_U8 ? names[t] : "?";
}

const char* rope_name(larder_rope r) {
    return r == LARDER_ROPE_PRE ? "before rotation" : r == LARDER_ROPE_NONE ? "none" : "after rotation";
}

uint64_t n_values(const larder_stream_shape& s) {
    return uint64_t(s.n_layers) * s.n_tokens * s.n_kv_heads * (uint64_t(s.k_dim) + s.v_dim);
}

void print(const larder_stream_info& i, const std::string& verdict) {
    const auto& s = i.shape;
    std::cout << "chain          " << i.chain << " (" << (i.quality == LARDER_QUALITY_EXACT ? "exact" : "approximate")
              << ")\n"
              << "shape          " << s.n_layers << " layers, " << s.n_tokens << " tokens, " << s.n_kv_heads
              << " kv heads, K " << s.k_dim << " " << dtype_name(s.k_dtype) << ", V " << s.v_dim << " "
              << dtype_name(s.v_dtype) << "\n"
              << "tokens         " << i.identity.first_token << " .. " << i.identity.first_token + s.n_tokens << ", in "
              << i.n_chunks << " chunks of " << i.chunk_tokens << "\n"
              << "keys           " << rope_name(i.identity.rope) << "\n"
              << "layout         " << hex(i.identity.layout.bytes, 32) << "\n"
              << "content key    " << hex(i.identity.content.bytes, 32) << "\n"
              << "size           " << human_bytes(i.n_bytes) << ", payload " << human_bytes(i.payload_bytes) << ", "
              << 8.0 * double(i.n_bytes) / double(n_values(s)) << " bits per value\n"
              << "profile        "
              << (i.has_profile == 0   ? "none"
                  : i.has_profile == 1 ? "embedded "
                                       : "named ")
              << (i.has_profile ? hex(i.profile_hash.bytes, 32) : "") << "\n"
              << "verified       " << verdict << "\n";
}

nlohmann::json to_json(const larder_stream_info& i, larder_status verdict) {
    const auto& s = i.shape;
    return {{"chain", i.chain},
            {"exact", i.quality == LARDER_QUALITY_EXACT},
            {"n_layers", s.n_layers},
            {"n_tokens", s.n_tokens},
            {"n_kv_heads", s.n_kv_heads},
            {"k_dim", s.k_dim},
            {"v_dim", s.v_dim},
            {"k_dtype", dtype_name(s.k_dtype)},
            {"v_dtype", dtype_name(s.v_dtype)},
            {"first_token", i.identity.first_token},
            {"chunk_tokens", i.chunk_tokens},
            {"n_chunks", i.n_chunks},
            {"layout", hex(i.identity.layout.bytes, 32)},
            {"content_key", hex(i.identity.content.bytes, 32)},
            {"n_bytes", i.n_bytes},
            {"payload_bytes", i.payload_bytes},
            {"bits_per_value", 8.0 * double(i.n_bytes) / double(n_values(s))},
            {"verified", larder_status_name(verdict)}};
}

}  // namespace

int inspect_stream(const Options& o, const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    std::vector<char> bytes(4096);
    in.read(bytes.data(), std::streamsize(bytes.size()));
    bytes.resize(size_t(in.gcount()));
    larder_stream_info info = LARDER_STREAM_INFO_INIT;
    // What does not even begin as a stream is not read to its end: it may have none.
    larder_status opened = larder_stream_inspect({bytes.data(), bytes.size()}, &info);
    if (opened == LARDER_E_FORMAT) return report(o, opened, path);
    bytes.insert(bytes.end(), std::istreambuf_iterator<char>(in), {});
    if (!in.is_open() || in.bad()) return report(o, exit_input, path + ": cannot be read");
    const larder_span span{bytes.data(), bytes.size()};
    opened = larder_stream_inspect(span, &info);
    if (opened < 0) return report(o, opened, path);
    const larder_status verified = larder_stream_verify(span, nullptr, nullptr);
    larder_error_info e = LARDER_ERROR_INFO_INIT;
    if (verified < 0) larder_last_error(&e);
    if (o.json)
        std::cout << to_text(to_json(info, verified)) << "\n";
    else
        print(info, verified == LARDER_OK ? "every checksum holds"
                                          : std::string(larder_status_name(verified)) + ": " + e.message);
    return verified == LARDER_OK ? exit_ok : exit_found;
}

}  // namespace cli
