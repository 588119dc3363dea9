// Snapshots of an index byte by byte (docs/formats/index-snapshot.md), and streams whose checksums hold and whose
// contents do not.
#include <cstring>
#include <functional>
#include <vector>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "core/context.h"
#include "larder/index.h"
#include "support/cmocka.h"
#include "support/seed.h"

using namespace larder;

namespace {

larder_context* context;

int set_up(void**) {
    larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
    o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
    return larder_context_create(&o, &context);
}
int tear_down(void**) {
    return larder_context_destroy(context);
}

using Bytes = std::vector<unsigned char>;

struct Stream {
    Bytes bytes;
    size_t at = 0;
    static larder_status write(void* ctx, const void* data, uint64_t n) {
        auto& s = *static_cast<Stream*>(ctx);
        const auto* p = static_cast<const unsigned char*>(data);
        s.bytes.insert(s.bytes.end(), p, p + n);
        return LARDER_OK;
    }
    static larder_status read(void* ctx, void* data, uint64_t n) {
        auto& s = *static_cast<Stream*>(ctx);
        if (s.bytes.size() - s.at < n) return LARDER_E_TRUNCATED;
        std::memcpy(data, s.bytes.data() + s.at, n);
        s.at += n;
        return LARDER_OK;
    }
};

larder_index* make(uint32_t key_bytes, uint32_t value_bytes = 8,
                   larder_index_order order = LARDER_INDEX_ORDER_INTEGER) {
    larder_index_options o = LARDER_INDEX_OPTIONS_INIT;
    o.key_bytes = key_bytes;
    o.value_bytes = value_bytes;
    o.order = key_bytes == LARDER_INDEX_ANY_LENGTH ? LARDER_INDEX_ORDER_BYTES : order;
    larder_index* index = nullptr;
    assert_int_equal(larder_index_create(context, &o, &index), LARDER_OK);
    return index;
}

Bytes save(larder_index* index) {
    Stream s;
    const larder_index_sink sink{Stream::write, &s};
    assert_int_equal(larder_index_save(index, &sink), LARDER_OK);
    return s.bytes;
}

// Loading leaves the index empty or whole; reading in place says no later than when all chunks were met.
larder_status load(larder_index* index, const Bytes& bytes) {
    Stream s{bytes};
    const larder_index_source source{Stream::read, &s};
    const larder_status status = larder_index_load(index, &source);
    uint64_t n = 0;
    assert_int_equal(larder_index_verify(index), LARDER_OK);
    assert_int_equal(larder_index_count(index, &n), LARDER_OK);
    if (status < 0) assert_int_equal(n, 0);
    assert_int_equal(larder_index_clear(index), LARDER_OK);
    return status;
}
larder_status look(const Bytes& bytes) {
    larder_index_view* view = nullptr;
    larder_status s = larder_index_view_open(context, bytes.data(), bytes.size(), &view);
    if (s >= 0) s = larder_index_view_verify(view);
    larder_index_view_close(view);
    return s;
}

void seal_header(Bytes& b) {
    store_le(b.data() + 60, crc32c(0, b.data(), 60));
}
void seal_chunk(Bytes& b, size_t at, size_t payload) {
    uint32_t crc = crc32c(0, b.data() + at, 4);
    crc = crc32c(crc, b.data() + at + 8, 8);
    store_le(b.data() + at + 4, crc32c(crc, b.data() + at + 16, payload));
}

void put(Bytes& b, size_t at, std::initializer_list<int> bytes) {
    for (const int x : bytes) b[at++] = uint8_t(x);
}
void same(const Bytes& got, const Bytes& want) {
    for (size_t i = 0; i < want.size() && i < got.size(); ++i)
        if (want[i] != got[i]) print_error("byte %zu is %02x, not %02x\n", i, got[i], want[i]);
    assert_true(got == want);
}

void the_bytes(void**) {
    larder_index* fixed = make(8);
    const uint64_t keys[] = {1, 0x0203}, values[] = {0x1122334455667788, 9};
    for (int i = 1; i >= 0; --i) assert_int_equal(larder_index_put(fixed, keys + i, values + i), LARDER_OK);
    Bytes want(64 + 16 + 32 + 16);
    put(want, 0, {'L', 'A', 'R', 'D', 'I', 'D', 'X', '\n', 1, 0, 0, 0, 64, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0, 2});
    put(want, 60, {0x88, 0x68, 0xc5, 0xf3});
    put(want, 64, {2, 0, 0, 0, 0xe9, 0xf8, 0x32, 0x90});
    put(want, 80, {1, 0, 0, 0, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 0, 0});
    put(want, 96, {0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 9});
    put(want, 112, {0, 0, 0, 0, 0x13, 0x4f, 0x18, 0xb9, 2});
    same(save(fixed), want);
    larder_index_destroy(fixed);

    larder_index* any = make(LARDER_INDEX_ANY_LENGTH);
    const larder_index_key texts[] = {{"ab", 2}, {"a", 1}};
    for (int i = 0; i < 2; ++i) assert_int_equal(larder_index_put(any, texts + i, values + i), LARDER_OK);
    want.assign(64 + 65536 + 16, 0);
    put(want, 0, {'L', 'A', 'R', 'D', 'I', 'D', 'X', '\n', 2, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1});
    put(want, 60, {0xa8, 0x75, 0x72, 0x42});
    put(want, 64, {2, 0, 0, 0, 0x75, 0x50, 0x6d, 0x6e});
    put(want, 80, {9, 0, 0, 0, 0, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11});
    put(want, 96, {1, 0, 0, 0, 3, 0, 0, 0, 'a', 'a', 'b'});
    put(want, 65600, {0, 0, 0, 0, 0x13, 0x4f, 0x18, 0xb9, 2});
    same(save(any), want);
    larder_index_destroy(any);
}

// One change after which all checksums hold.
struct Lie {
    const char* name;
    std::function<void(Bytes&)> tell;
    larder_status loaded, looked;
};

void lies(uint32_t key_bytes, size_t payload, const std::vector<Lie>& all) {
    larder_index* index = make(key_bytes);
    const char* texts[] = {"aa", "bb", "cc"};
    for (uint64_t i = 0; i < 3; ++i) {
        const larder_index_key text{texts[i], 2};
        const void* const key = key_bytes == 8 ? static_cast<const void*>(&i) : &text;
        assert_int_equal(larder_index_put(index, key, &i), LARDER_OK);
    }
    const Bytes whole = save(index);
    assert_int_equal(larder_index_clear(index), LARDER_OK);
    assert_int_equal(load(index, whole), LARDER_OK);
    assert_int_equal(look(whole), LARDER_OK);
    int n_bad = 0;
    for (const Lie& l : all) {
        Bytes b = whole;
        l.tell(b);
        seal_header(b);
        seal_chunk(b, 64, payload);
        if (b.size() == whole.size()) seal_chunk(b, 80 + payload, 0);
        const larder_status loaded = load(index, b), looked = look(b);
        if (loaded == l.loaded && looked == l.looked) continue;
        print_error("%s: loaded %d, looked at %d\n", l.name, loaded, looked);
        ++n_bad;
    }
    assert_int_equal(n_bad, 0);
    larder_index_destroy(index);
}

void fixed_lies(void**) {
    constexpr larder_status bad = LARDER_E_CORRUPT;
    constexpr size_t n = 3 * 16, end = 64 + 16 + n;
    lies(8, n,
         {{"a newer version", [](Bytes& b) { b[8] = 3; }, LARDER_E_VERSION, LARDER_E_VERSION},
          {"a longer header", [](Bytes& b) { b[12] = 65; }, bad, bad},
          {"other keys", [](Bytes& b) { b[16] = 16; }, LARDER_E_IDENTITY, LARDER_E_TRUNCATED},
          {"keys of no width", [](Bytes& b) { b[16] = 9; }, LARDER_E_IDENTITY, bad},
          {"another order", [](Bytes& b) { b[24] = 1; }, LARDER_E_IDENTITY, LARDER_OK},
          {"no order", [](Bytes& b) { b[24] = 3; }, LARDER_E_IDENTITY, bad},
          {"keys that do not ascend", [](Bytes& b) { b[80] = 1; }, bad, bad},
          {"a key twice", [](Bytes& b) { b[88] = 0; }, bad, bad},
          {"a chunk too early", [](Bytes& b) { b[72] = 1; }, bad, bad},
          {"a wrong sum of pairs", [](Bytes& b) { b[end + 8] = 4; }, bad, LARDER_E_TRUNCATED},
          {"more pairs than a chunk has", [](Bytes& b) { b[66] = 1; }, bad, bad}});
}

void any_length_lies(void**) {
    constexpr larder_status bad = LARDER_E_CORRUPT;
    constexpr size_t n = 65520, ends = 80 + 3 * 8, end = 64 + 16 + n;
    lies(LARDER_INDEX_ANY_LENGTH, n,
         {{"no pairs", [](Bytes& b) { b[64] = 0; }, bad, bad},
          {"more pairs than fit", [](Bytes& b) { b[65] = 0xff; }, bad, bad},
          {"an empty key", [](Bytes& b) { b[ends + 4] = 2; }, bad, bad},
          {"a key that ends before it begins", [](Bytes& b) { b[ends + 4] = 1; }, bad, bad},
          {"a key that is too long", [](Bytes& b) { b[ends + 9] = 5; }, bad, bad},
          {"a key beyond the chunk", [](Bytes& b) { b[ends + 10] = 1; }, bad, bad},
          {"keys that do not ascend", [](Bytes& b) { b[ends + 12] = 'z'; }, bad, bad},
          {"a wrong sum of pairs", [](Bytes& b) { b[end + 8] = 2; }, bad, bad}});
}

// Chunks that are each right, in the wrong company.
void chunks_out_of_place(void**) {
    larder_index* index = make(8);
    constexpr size_t chunk = 16 + 1024 * 16;
    for (uint64_t i = 0; i < 3000; ++i) assert_int_equal(larder_index_put(index, &i, &i), LARDER_OK);
    const Bytes whole = save(index);
    assert_int_equal(larder_index_clear(index), LARDER_OK);
    Bytes b = whole;
    std::swap_ranges(b.begin() + 64, b.begin() + 64 + chunk, b.begin() + 64 + chunk);
    assert_int_equal(load(index, b), LARDER_E_CORRUPT);
    assert_int_equal(look(b), LARDER_E_CORRUPT);
    b = whole;
    std::copy_n(b.begin() + 64, chunk, b.begin() + 64 + chunk);
    assert_int_equal(load(index, b), LARDER_E_CORRUPT);
    assert_int_equal(look(b), LARDER_E_CORRUPT);
    b = whole;
    b.erase(b.begin() + 64, b.begin() + 64 + chunk);
    assert_int_equal(load(index, b), LARDER_E_CORRUPT);
    assert_true(look(b) < 0);
    b = whole;
    b.erase(b.end() - 16, b.end());
    assert_int_equal(load(index, b), LARDER_E_TRUNCATED);
    assert_true(look(b) < 0);
    larder_index_destroy(index);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(the_bytes), cmocka_unit_test(fixed_lies),
                                cmocka_unit_test(any_length_lies), cmocka_unit_test(chunks_out_of_place)};
    return cmocka_run_group_tests_name("snapshots", tests, set_up, tear_down);
}
