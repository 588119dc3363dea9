// Exports of a prefix index: what comes back, what a damaged or hostile stream does, the exact bytes, and exports while
// others publish and remove.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "index/prefix_index.h"
#include "support/cmocka.h"
#include "support/seed.h"

using namespace larder;

namespace {

constexpr uint32_t bt = 4;
constexpr uint32_t all = 15;
larder_context* context;

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

Owned<PrefixIndex> make(uint32_t flags = 0, uint64_t max_entries = 0, uint32_t block_tokens = bt) {
    larder_prefix_options o = LARDER_PREFIX_OPTIONS_INIT;
    o.block_tokens = block_tokens;
    o.flags = flags;
    o.max_entries = max_entries;
    Owned<PrefixIndex> p;
    assert_int_equal(PrefixIndex::create(*context, &o, p), LARDER_OK);
    return p;
}

Bytes save(PrefixIndex& p, uint32_t places = all) {
    Stream s;
    const larder_index_sink sink{Stream::write, &s};
    assert_int_equal(p.save(places, sink), LARDER_OK);
    return s.bytes;
}

larder_status load(PrefixIndex& p, const Bytes& bytes, larder_prefix_import_info& info) {
    Stream s{bytes};
    const larder_index_source source{Stream::read, &s};
    info = LARDER_PREFIX_IMPORT_INFO_INIT;
    const larder_status status = p.load(source, info);
    assert_int_equal(p.verify(), LARDER_OK);
    if (status == LARDER_OK) assert_int_equal(s.at, bytes.size());
    return status;
}

larder_key root_of(uint8_t which) {
    larder_prefix_scope s = LARDER_PREFIX_SCOPE_INIT;
    s.salt = {&which, 1};
    larder_key k;
    assert_int_equal(prefix_root(s, k), LARDER_OK);
    return k;
}

// A few chains that share much, some with tails, some without tokens, in changing places.
void fill(PrefixIndex& p, Rng& r, size_t n_chains) {
    for (size_t c = 0; c < n_chains; ++c) {
        std::vector<int32_t> tokens(1 + r.below(6 * bt));
        for (auto& t : tokens) t = int32_t(r.below(2));
        larder_key at = root_of(uint8_t(r.below(3)));
        const larder_key root = at;
        std::vector<PrefixItem> items;
        for (size_t i = 0; i < tokens.size(); i += bt) {
            const auto n = uint32_t(std::min<size_t>(bt, tokens.size() - i));
            at = prefix_block_key(at, tokens.data() + i, n, i);
            items.push_back({at, r.below(5) ? tokens.data() + i : nullptr, n,
                             r.below(7) ? 0 : LARDER_PREFIX_ITEM_NO_PARTIAL, 1u << r.below(4), uint32_t(r.below(9)),
                             r.next()});
        }
        std::vector<PrefixPublished> out(items.size());
        uint64_t n_out = 0;
        assert_int_equal(p.publish(root, 0, items, false, out, n_out), LARDER_OK);
        for (uint64_t i = 0; i < n_out; ++i)
            if (r.below(3) == 0) p.add(out[i].block.entry, 1u << r.below(4), r.next());
    }
}

// All that can be told of a block, entry ids apart.
struct Told {
    larder_key parent;
    std::vector<int32_t> tokens;
    uint32_t residency, n_tokens, depth, tag;
    uint64_t location[4];
    bool operator==(const Told& o) const {
        return parent == o.parent && tokens == o.tokens && residency == o.residency && n_tokens == o.n_tokens &&
               depth == o.depth && tag == o.tag && !std::memcmp(location, o.location, sizeof location);
    }
};
using Picture = std::map<std::string, Told>;

std::string text(const larder_key& k) {
    return {reinterpret_cast<const char*>(k.bytes), sizeof k.bytes};
}

// Of what lies in some of `places`, with its chain.
Picture picture_of(PrefixIndex& p, uint32_t places = all, bool tokens = true) {
    Picture all_of_it, out;
    std::vector<larder_event> e(100);
    uint64_t position = 0, cursor = 0, n = 0;
    std::vector<std::pair<uint32_t, std::string>> by_depth;
    for (larder_status s = LARDER_PARTIAL; s == LARDER_PARTIAL;) {
        s = p.snapshot(position, cursor, e.data(), sizeof e[0], e.size(), n);
        for (uint64_t i = 0; i < n; ++i) {
            PrefixBlock b;
            assert_int_equal(p.lookup(e[i].key, b), LARDER_OK);
            Told t{e[i].parent, std::vector<int32_t>(bt), b.residency & places, b.n_tokens, b.depth, b.tag, {}};
            uint64_t n_tokens = 0;
            assert_int_equal(p.describe(b.entry, nullptr, nullptr, t.tokens, &n_tokens), LARDER_OK);
            t.tokens.resize(tokens ? n_tokens : 0);
            for (int place = 0; place < 4; ++place)
                t.location[place] = t.residency >> place & 1 ? b.location[place] : 0;
            all_of_it[text(e[i].key)] = t;
            by_depth.emplace_back(b.depth, text(e[i].key));
        }
    }
    std::sort(by_depth.begin(), by_depth.end());
    for (auto& [depth, key] : by_depth) {
        const Told& t = all_of_it[key];
        if (t.residency && (!depth || out.count(text(t.parent)))) out[key] = t;
    }
    return out;
}

// The keys of what would be evicted, in order, leaves again and again.
std::vector<std::string> order_of(PrefixIndex& p, uint32_t bit) {
    std::vector<PrefixBlock> out(10'000);
    uint64_t n = 0;
    assert_int_equal(p.candidates(bit, out, n), LARDER_OK);
    std::vector<std::string> keys;
    for (uint64_t i = 0; i < n; ++i) {
        larder_key k;
        assert_int_equal(p.describe(out[i].entry, &k, nullptr, {}, nullptr), LARDER_OK);
        keys.push_back(text(k));
    }
    return keys;
}

void comes_back_as_it_was(void**) {
    Rng r(test_seed());
    for (uint64_t round = 0; round < test_rounds(40); ++round) {
        auto a = make(), b = make(), bare = make(LARDER_PREFIX_NO_TOKENS);
        fill(*a, r, r.below(300));
        larder_prefix_import_info info;
        const Bytes whole = save(*a);
        assert_int_equal(load(*b, whole, info), LARDER_OK);
        const Picture before = picture_of(*a);
        assert_true(picture_of(*b) == before);
        assert_int_equal(info.n_blocks, before.size());
        assert_int_equal(info.n_new, before.size());
        for (uint32_t place = 0; place < 4; ++place)
            assert_true(order_of(*a, 1u << place) == order_of(*b, 1u << place));
        assert_int_equal(load(*bare, whole, info), LARDER_OK);
        assert_true(picture_of(*bare) == picture_of(*a, all, false));
        // Once more changes nothing.
        assert_int_equal(load(*b, whole, info), LARDER_OK);
        assert_int_equal(info.n_known, before.size());
        assert_int_equal(info.n_new + info.n_left_out, 0);
        assert_true(picture_of(*b) == before);
        // Of some places only.
        const uint32_t places = 1 + uint32_t(r.below(15));
        auto c = make();
        const Picture some = picture_of(*a, places);
        assert_int_equal(load(*c, save(*a, places), info), LARDER_OK);
        assert_true(picture_of(*c) == some);
        // Beside what is there already: both together.
        auto d = make();
        fill(*d, r, 50);
        const Picture there = picture_of(*d);
        assert_int_equal(load(*d, whole, info), LARDER_OK);
        assert_int_equal(info.n_new + info.n_known, before.size());
        const Picture both = picture_of(*d);
        assert_int_equal(both.size(), there.size() + info.n_new);
        for (auto& [key, t] : before) assert_int_equal(both.at(key).residency & t.residency, t.residency);
        for (auto& [key, t] : there) assert_int_equal(both.at(key).residency & t.residency, t.residency);
    }
}

void reseal(Bytes& b, size_t chunk, size_t payload) {
    uint32_t crc = crc32c(0, b.data() + chunk, 4);
    crc = crc32c(crc, b.data() + chunk + 8, 8);
    store_le(b.data() + chunk + 4, crc32c(crc, b.data() + chunk + 16, payload));
}

void damage_is_told(void**) {
    Rng r(test_seed());
    auto a = make();
    fill(*a, r, 400);
    const Bytes whole = save(*a);
    const size_t n_chunks = (whole.size() - 64) >> 16;
    assert_true(n_chunks >= 1);
    larder_prefix_import_info info;
    for (uint64_t round = 0; round < test_rounds(300); ++round) {
        auto b = make();
        Bytes bad = whole;
        bad[r.below(bad.size())] ^= uint8_t(1 << r.below(8));
        const larder_status s = load(*b, bad, info);
        assert_true(s == LARDER_E_CORRUPT || s == LARDER_E_FORMAT || s == LARDER_E_TRUNCATED);
        bad = whole;
        bad.resize(r.below(bad.size()));
        assert_int_equal(load(*b, bad, info), LARDER_E_TRUNCATED);
    }
    // With checksums that hold again, anything may stand in a chunk: the index stays whole.
    uint64_t n_taken = 0;
    for (uint64_t round = 0; round < test_rounds(1500); ++round) {
        auto b = make();
        Bytes bad = whole;
        const size_t chunk = 64 + (size_t(r.below(n_chunks)) << 16);
        for (uint64_t i = 0; i <= r.below(3); ++i)
            bad[chunk + r.below(round % 2 ? 65536 : 600)] ^= uint8_t(1 << r.below(8));
        reseal(bad, chunk, 65520);
        const larder_status s = load(*b, bad, info);
        assert_true(s == LARDER_OK || s == LARDER_E_CORRUPT || s == LARDER_E_TRUNCATED);
        n_taken += s == LARDER_OK;
    }
    print_message("%llu hostile exports were taken\n", (unsigned long long)n_taken);
    Bytes bad = whole;
    store_le<uint32_t>(bad.data() + 8, 2);
    store_le(bad.data() + 60, crc32c(0, bad.data(), 60));
    auto b = make(), wide = make(0, 0, 8), small = make(0, 20);
    assert_int_equal(load(*b, bad, info), LARDER_E_VERSION);
    assert_int_equal(load(*wide, whole, info), LARDER_E_IDENTITY);
    assert_int_equal(load(*small, whole, info), LARDER_E_NOSPACE);
    assert_true(info.n_new > 0 && info.n_new < 20);
    Stream s;
    assert_int_equal(b->save(0, {Stream::write, &s}), LARDER_E_INVALID);
    assert_int_equal(b->save(16, {Stream::write, &s}), LARDER_E_INVALID);
}

// docs/formats/prefix-snapshot.md shows these bytes.
void the_bytes(void**) {
    auto a = make();
    const larder_key root{{0xaa}};
    const int32_t tokens[] = {1, 2, 3, 4, 5, 6};
    PrefixItem items[2]{};
    items[0] = {{{0x01}}, tokens, 4, 0, LARDER_PREFIX_IN_ARENA, 7, 0x1122334455667788};
    items[1] = {{{0x02}}, tokens + 4, 2, LARDER_PREFIX_ITEM_NO_PARTIAL, LARDER_PREFIX_IN_FILE, 0, 9};
    PrefixPublished made[2];
    uint64_t n = 0;
    assert_int_equal(a->publish(root, 0, items, false, made, n), LARDER_OK);
    assert_int_equal(a->add(made[0].block.entry, LARDER_PREFIX_IN_HOST, 0x0a), LARDER_OK);
    const Bytes got = save(*a);
    Bytes want(64 + 65536 + 16);
    const auto put = [&](size_t at, std::initializer_list<int> bytes) {
        for (const int b : bytes) want[at++] = uint8_t(b);
    };
    put(0, {'L', 'A', 'R', 'D', 'P', 'F', 'X', '\n', 1, 0, 0, 0, 64, 0, 0, 0, 4, 0, 0, 0, 15, 0, 0, 0, 2});
    put(60, {0x11, 0x34, 0xcc, 0x64});
    put(64, {3, 0, 0, 0, 0x46, 0xa9, 0x46, 0x3a});
    put(80, {1, 0, 0, 0, 0, 0, 0, 0, 0xaa});
    put(120, {4, 0, 4, 0, 0, 0, 0, 0, 0x01});
    put(160, {1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 3, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x0a});
    put(192, {1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4});
    put(208, {6, 0, 2, 0, 1, 0, 0, 0, 0x02});
    put(248, {2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 9});
    put(272, {5, 0, 0, 0, 6});
    put(65600, {0, 0, 0, 0, 0x34, 0x32, 0x24, 0xf0, 3});
    for (size_t i = 0; i < want.size() && i < got.size(); ++i)
        if (want[i] != got[i]) print_error("byte %zu is %02x, not %02x\n", i, got[i], want[i]);
    assert_true(got == want);
}

// While others publish and remove: every export can be imported, is a tree, and has what nobody touched.
void beside_writers(void**) {
    auto a = make();
    Rng r(test_seed());
    fill(*a, r, 100);
    const Picture fixed = picture_of(*a);
    std::vector<uint64_t> held;
    for (auto& [key, t] : fixed) {
        larder_key k;
        std::memcpy(k.bytes, key.data(), sizeof k.bytes);
        PrefixBlock b;
        assert_int_equal(a->lookup(k, b), LARDER_OK);
        held.push_back(b.entry);
    }
    assert_int_equal(a->pin(held), LARDER_OK);
    std::atomic<bool> stop{false};
    const uint64_t seed = r.next();
    std::thread writer([&] {
        Rng mine(seed);
        while (!stop) {
            fill(*a, mine, 3);
            PrefixBlock out[40];
            uint64_t n = 0;
            if (a->candidates(1u << mine.below(4), out, n) != LARDER_OK) return;
            for (uint64_t i = 0; i < n; ++i) a->drop(out[i].entry, out[i].residency & -out[i].residency, nullptr);
        }
    });
    for (uint64_t round = 0; round < test_rounds(60); ++round) {
        auto b = make();
        larder_prefix_import_info info;
        assert_int_equal(load(*b, save(*a), info), LARDER_OK);
        // A block that was removed and published again meanwhile may be in it twice.
        assert_int_equal(info.n_new + info.n_known, info.n_blocks);
        const Picture got = picture_of(*b);
        for (auto& [key, t] : fixed) assert_true(got.count(key) == 1);
    }
    stop = true;
    writer.join();
    assert_int_equal(a->unpin(held), LARDER_OK);
    assert_int_equal(a->verify(), LARDER_OK);
}

int set_up(void**) {
    larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
    o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
    return larder_context::create(&o, posix_os(), &context);
}
int tear_down(void**) {
    return larder_context_destroy(context);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(comes_back_as_it_was), cmocka_unit_test(damage_is_told),
                                cmocka_unit_test(the_bytes), cmocka_unit_test(beside_writers)};
    return cmocka_run_group_tests_name("prefix_export", tests, set_up, tear_down);
}
