// Stages that a program registers, and stages that nobody knows.
#include "support/stream_box.h"

#include <string>

#include "base/bytes.h"
#include "support/reseal.h"
#include "support/seed.h"

using namespace stream_test;
using larder::Rng;

namespace {

// Runs of zeros as a zero and their length, everything else with its bits turned over; grows or shrinks.
struct Zeros {
    int drops = 0;
    bool refuse = false;
};
uint64_t zeros_bound(void*, uint64_t n) {
    return 2 * n + 8;
}
larder_status zeros_encode(void* ctx, const void* in, uint64_t n, void* out, uint64_t capacity, uint64_t* out_n) {
    if (static_cast<Zeros*>(ctx)->refuse) return LARDER_E_UNSUPPORTED;
    const auto* from = static_cast<const uint8_t*>(in);
    auto* to = static_cast<uint8_t*>(out);
    uint64_t at = 0;
    for (uint64_t i = 0; i < n;) {
        uint64_t run = 0;
        while (i + run < n && run < 255 && !from[i + run]) ++run;
        if (at + 2 > capacity) return LARDER_E_BUFFER_TOO_SMALL;
        if (run)
            to[at++] = 0xff, to[at++] = uint8_t(run), i += run;
        else
            to[at++] = uint8_t(~from[i++]);
    }
    *out_n = at;
    return LARDER_OK;
}
larder_status zeros_decode(void*, const void* in, uint64_t n, void* out, uint64_t capacity, uint64_t* out_n) {
    const auto* from = static_cast<const uint8_t*>(in);
    auto* to = static_cast<uint8_t*>(out);
    uint64_t at = 0;
    for (uint64_t i = 0; i < n; ++i) {
        const bool is_run = from[i] == 0xff;
        if (is_run && (++i == n || !from[i])) return LARDER_E_CORRUPT;
        const uint64_t length = is_run ? from[i] : 1;
        if (length > capacity - at) return LARDER_E_CORRUPT;
        for (uint64_t k = 0; k < length; ++k) to[at++] = is_run ? uint8_t(0) : uint8_t(~from[i]);
    }
    *out_n = at;
    return LARDER_OK;
}
void zeros_drop(void* ctx) {
    ++static_cast<Zeros*>(ctx)->drops;
}

larder_codec_stage zeros(Zeros& z) {
    larder_codec_stage s = LARDER_CODEC_STAGE_INIT;
    s.id = 0x8123, s.version = 2, s.name = "zeros";
    s.bound = zeros_bound, s.encode = zeros_encode, s.decode = zeros_decode;
    s.ctx = &z, s.drop = zeros_drop;
    return s;
}

larder_span span(const Bytes& b) {
    return {b.data(), b.size()};
}

void a_registered_stage_changes_bytes_only(void**) {
    Rng r(test_seed());
    Zeros z;
    {
        Box with(r, small_shape(70));
        const larder_codec_stage s = zeros(z);
        assert_int_equal(larder_codec_stage_register(with.context, &s), LARDER_OK);
        for (const char* chain : {"lossless", "zstd", "int4 refine=2", "kivi2", "larder-small check=1 refine=1",
                                  "bfp12", "mustafar70", "cachegen-2"}) {
            const Bytes plain = with.encode(chain, 32, 0, 70),
                        staged = with.encode(std::string(chain) + " stage=zeros", 32, 0, 70);
            assert_true(plain != staged);
            const auto a = with.decode(plain), b = with.decode(staged);
            assert_int_equal(b.status, LARDER_OK);
            assert_true(a.planes == b.planes);
            larder_stream_info info = LARDER_STREAM_INFO_INIT;
            assert_int_equal(larder_stream_inspect(span(staged), &info), LARDER_OK);
            assert_non_null(std::strstr(info.chain, "stage=0x8123"));
            // Hostile bytes in the stage's body are an error of the stream.
            std::vector<uint8_t> bytes(reinterpret_cast<const uint8_t*>(staged.data()),
                                       reinterpret_cast<const uint8_t*>(staged.data()) + staged.size());
            larder_stream_extent e[64];
            uint32_t n = 0;
            assert_int_equal(larder_stream_plan_read(span(staged), 0, 0, 0, 0, e, 64, &n), LARDER_OK);
            assert_int_equal(bytes[e[0].offset], 2);
            bytes[e[0].offset + 4] ^= 0x40;
            assert_true(reseal(bytes));
            const Bytes hostile(reinterpret_cast<const std::byte*>(bytes.data()),
                                reinterpret_cast<const std::byte*>(bytes.data()) + bytes.size());
            assert_int_equal(with.decode(hostile).status, LARDER_E_CORRUPT);
        }
        // What the stage will not take is stored as it is.
        z.refuse = true;
        const auto raw = with.decode(with.encode("int8 stage=zeros", 32, 0, 70));
        assert_int_equal(raw.status, LARDER_OK);
        assert_true(raw.planes == with.truth);
        assert_int_equal(z.drops, 0);
    }
    assert_int_equal(z.drops, 1);
}

void without_the_stage_nothing_but_decoding_is_lost(void**) {
    Rng r(test_seed() + 1);
    Zeros z, newer;
    Box with(r, small_shape(40)), without(r, small_shape(40)), other(r, small_shape(40));
    larder_codec_stage s = zeros(z);
    assert_int_equal(larder_codec_stage_register(with.context, &s), LARDER_OK);
    s = zeros(newer), s.version = 3;
    assert_int_equal(larder_codec_stage_register(other.context, &s), LARDER_OK);
    const Bytes stream = with.encode("int4 refine=2 stage=zeros", 16, 0, 40);
    assert_int_equal(larder_stream_verify(span(stream), nullptr, nullptr), LARDER_OK);
    Bytes base(stream.size());
    uint64_t n = 0;
    assert_int_equal(larder_stream_truncate(span(stream), 1, base.data(), base.size(), &n), LARDER_OK);
    base.resize(n);
    assert_true(base == with.encode("int4 stage=zeros", 16, 0, 40));
    assert_int_equal(without.decode(stream).status, LARDER_E_FORMAT);
    larder_error_info e = LARDER_ERROR_INFO_INIT;
    larder_last_error(&e);
    assert_non_null(std::strstr(e.message, "0x8123 version 2"));
    assert_int_equal(other.decode(stream).status, LARDER_E_FORMAT);
    larder_codec_options o = LARDER_CODEC_OPTIONS_INIT;
    o.chain = "int4 stage=zeros";
    larder_codec* codec = nullptr;
    assert_int_equal(larder_codec_open(without.context, &o, &codec), LARDER_E_NOT_FOUND);
    o.chain = "raw stage=zeros";
    assert_int_equal(larder_codec_open(with.context, &o, &codec), LARDER_E_INVALID);
}

void what_cannot_be_registered(void**) {
    larder_context* context = nullptr;
    assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK);
    Zeros z;
    auto status = [&](auto change) {
        larder_codec_stage s = zeros(z);
        change(s);
        return larder_codec_stage_register(context, &s);
    };
    assert_int_equal(status([](larder_codec_stage& s) { s.id = 0x7fff; }), LARDER_E_RANGE);
    assert_int_equal(status([](larder_codec_stage& s) { s.version = 256; }), LARDER_E_RANGE);
    assert_int_equal(status([](larder_codec_stage& s) { s.name = "Zeros"; }), LARDER_E_INVALID);
    assert_int_equal(status([](larder_codec_stage& s) { s.name = "a-name-that-is-longer-than-allowed"; }),
                     LARDER_E_INVALID);
    assert_int_equal(status([](larder_codec_stage& s) { s.bound = nullptr; }), LARDER_E_INVALID);
    assert_int_equal(status([](larder_codec_stage& s) { s.decode = nullptr; }), LARDER_E_INVALID);
    assert_int_equal(status([](larder_codec_stage&) {}), LARDER_OK);
    assert_int_equal(status([](larder_codec_stage& s) { s.name = "other"; }), LARDER_E_EXISTS);
    assert_int_equal(status([](larder_codec_stage& s) { s.id = 0x9000; }), LARDER_E_EXISTS);
    for (uint32_t i = 1; i < 16; ++i) {
        const std::string name = "s" + std::to_string(i);
        assert_int_equal(status([&](larder_codec_stage& s) { s.id = 0x9000 + i, s.name = name.c_str(); }), LARDER_OK);
    }
    assert_int_equal(status([](larder_codec_stage& s) { s.id = 0xffff, s.name = "last"; }), LARDER_E_NOSPACE);
    larder_context_destroy(context);
    assert_int_equal(z.drops, 16);
}

void unknown_records_are_skipped_or_refused(void**) {
    Rng r(test_seed() + 2);
    Box box(r, small_shape(40));
    const Bytes stream = box.encode("int8", 16, 0, 40);
    assert_int_equal(larder::load_le<uint32_t>(stream.data() + 48), 48);  // 16 bytes of padding take one more record
    for (const uint16_t type : {0x0777, 0x8777})
        for (const uint8_t critical : {0, 1}) {
            std::vector<uint8_t> b(reinterpret_cast<const uint8_t*>(stream.data()),
                                   reinterpret_cast<const uint8_t*>(stream.data()) + stream.size());
            larder::store_le<uint32_t>(b.data() + 48, 64);
            uint8_t* record = b.data() + 128 + 48;
            larder::store_le<uint16_t>(record, type);
            record[2] = 9, record[3] = critical;
            larder::store_le<uint32_t>(record + 4, 8);
            record[8] = 77;
            assert_true(reseal(b));
            const Bytes changed(reinterpret_cast<const std::byte*>(b.data()),
                                reinterpret_cast<const std::byte*>(b.data()) + b.size());
            const auto d = box.decode(changed);
            if (d.status != (critical ? LARDER_E_FORMAT : LARDER_OK)) {
                larder_error_info e = LARDER_ERROR_INFO_INIT;
                larder_last_error(&e);
                print_error("%#x critical %u: %s: %s\n", type, critical, e.field, e.message);
            }
            assert_int_equal(d.status, critical ? LARDER_E_FORMAT : LARDER_OK);
            if (!critical) assert_true(d.planes == box.decode(stream).planes);
        }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_registered_stage_changes_bytes_only),
        cmocka_unit_test(without_the_stage_nothing_but_decoding_is_lost),
        cmocka_unit_test(what_cannot_be_registered),
        cmocka_unit_test(unknown_records_are_skipped_or_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
