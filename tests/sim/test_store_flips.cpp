// Every byte of a small store, flipped in turn: an error or a miss, never a wrong answer. And files that are no stores,
// or of the future.
#include "support/sim_store.h"

#include "base/crc32c.h"
#include "store/tiers/format.h"

using namespace larder;

namespace {

constexpr uint64_t n_objects = 10;
size_t size_of(uint64_t key) {
    return key == 0 ? 1 : 300 * key * key + 7;
}

SimFs small_store(bool closed) {
    SimOs os(11);
    SimFs fs;
    SimStore s(os);
    assert_int_equal(s.open(), LARDER_OK);
    for (uint64_t key = 0; key < n_objects; ++key)
        assert_int_equal(put_one(s.get(), make_key(key), make_meta(uint32_t(key % 2)), make_payload(key, size_of(key))),
                         LARDER_OK);
    assert_int_equal(larder_store_flush(s.get(), nullptr, 0, nullptr), LARDER_OK);
    if (closed) s.close();
    fs = os.fs();
    fs.power_cut(PowerCut::all_lost());
    return fs;
}

// What the store answers for each key: a bit for each one that is right. Anything wrong fails the test.
uint64_t answers(SimFs fs) {
    SimOs os(12, std::move(fs));
    SimStore s(os);
    const larder_status opened = s.open();
    if (opened < 0) {
        assert_true(opened == LARDER_E_CORRUPT || opened == LARDER_E_FORMAT || opened == LARDER_E_VERSION ||
                    opened == LARDER_E_TRUNCATED);
        return 0;
    }
    uint64_t right = 0;
    std::vector<unsigned char> bytes;
    for (uint64_t key = 0; key < n_objects; ++key) {
        const larder_status status = get_one(s.get(), make_key(key), make_want(uint32_t(key % 2)), bytes, 60000);
        if (status == LARDER_OK) {
            assert_true(bytes == make_payload(key, size_of(key)));
            right |= 1u << key;
        } else {
            assert_int_equal(status, LARDER_MISS);
        }
    }
    return right;
}

void every_byte(bool closed) {
    const SimFs clean = small_store(closed);
    const auto file = clean.lookup("/store/store.larder");
    assert_true(file.ok());
    const uint64_t all = (1u << n_objects) - 1;
    assert_int_equal(answers(clean), all);
    const uint64_t n = clean.size(*file);
    // Every byte of what is used; where there are only zeros, samples.
    std::vector<unsigned char> content(n);
    assert_int_equal(clean.read(*file, content.data(), n, 0), n);
    Rng rng(test_seed());
    uint64_t n_flips = 0, n_lost = 0;
    for (uint64_t at = 0; at < n; ++at) {
        const bool payload_like = content[at] != 0;
        const uint64_t one_in = test_long() ? 1 : payload_like ? 16 : 256;
        // Headers, footers and superblocks entirely; payloads and emptiness by samples unless there is time.
        const bool structure = at < format::data_offset
                                   ? at % format::block_bytes < 80 || at % format::block_bytes >= 4092
                                   : (at - format::data_offset) % 65536 >= 65536 - 1600;
        if (!(structure && payload_like) && rng.below(one_in)) continue;
        SimFs fs = clean;
        fs.flip_bits(*file, at, std::byte(1u << rng.below(8)));
        const uint64_t right = answers(std::move(fs));
        ++n_flips;
        n_lost += uint64_t(__builtin_popcountll(all & ~right));
        if (__builtin_popcountll(all & ~right) > 1)
            print_error("flip at %llu: %llx\n", (unsigned long long)at, (unsigned long long)right);
        // One flip costs one object at most: superblocks have copies, a damaged footer is replaced by a scan.
        assert_true(__builtin_popcountll(all & ~right) <= 1);
    }
    print_message("%llu flips, %llu objects lost\n", (unsigned long long)n_flips, (unsigned long long)n_lost);
}

void every_byte_sealed(void**) {
    every_byte(true);
}
void every_byte_open(void**) {
    every_byte(false);
}

// Blocks at other places than they were written to, as a confused controller does it.
void misdirected(void**) {
    const SimFs clean = small_store(true);
    const auto file = clean.lookup("/store/store.larder");
    Rng rng(test_seed());
    for (uint64_t round = 0; round < test_rounds(150); ++round) {
        SimFs fs = clean;
        const uint64_t n_blocks = fs.size(*file) / 4096;
        std::byte block[4096];
        fs.read(*file, block, sizeof block, rng.below(n_blocks) * 4096);
        fs.write(*file, block, sizeof block, rng.below(n_blocks) * 4096);
        answers(std::move(fs));
    }
}

void change_superblocks(SimFs& fs, void (*change)(std::byte* block)) {
    const auto file = fs.lookup("/store/store.larder");
    std::byte block[4096];
    for (uint64_t i = 0; i < 4; ++i) {
        fs.read(*file, block, sizeof block, i * 4096);
        change(block);
        store_le<uint32_t>(block + 4092, crc32c(0, block, 4092));
        fs.write(*file, block, sizeof block, i * 4096);
    }
    fs.sync(*file);
}

larder_status open_status(const SimFs& fs) {
    SimOs os(13, fs);
    SimStore s(os);
    const uint64_t before = os.n_changes();
    const larder_status status = s.open();
    // What cannot be opened is not touched, the lock apart, which may have to be made.
    if (status < 0) assert_true(os.n_changes() <= before + 1);
    return status;
}

void strangers(void**) {
    SimFs fs = small_store(true);
    change_superblocks(fs, [](std::byte* b) { store_le<uint32_t>(b + 8, 2); });
    assert_int_equal(open_status(fs), LARDER_E_VERSION);
    fs = small_store(true);
    change_superblocks(fs, [](std::byte* b) { store_le<uint64_t>(b + 16, 1); });
    assert_int_equal(open_status(fs), LARDER_E_VERSION);
    fs = small_store(true);
    change_superblocks(fs, [](std::byte* b) { store_le<uint64_t>(b + 24, 1); });  // compatible features are ignored
    assert_int_equal(open_status(fs), LARDER_OK);
    fs = small_store(true);
    change_superblocks(fs, [](std::byte* b) { b[0] = std::byte('X'); });
    assert_int_equal(open_status(fs), LARDER_E_FORMAT);
    fs = small_store(true);
    change_superblocks(fs, [](std::byte* b) { store_le<uint64_t>(b + 56, 12345); });
    assert_int_equal(open_status(fs), LARDER_E_CORRUPT);
    fs = small_store(true);
    const auto file = fs.lookup("/store/store.larder");
    fs.resize(*file, 0);
    assert_int_equal(open_status(fs), LARDER_E_FORMAT);
    fs = small_store(true);
    fs.resize(*file, 100);
    assert_int_equal(open_status(fs), LARDER_E_TRUNCATED);
    fs = small_store(true);
    fs.set_read_only("/store", true);
    assert_int_equal(open_status(fs), LARDER_E_READ_ONLY);
}

// Cut short anywhere: what is left is served, the rest is missed.
void truncated(void**) {
    const SimFs clean = small_store(true);
    const auto file = clean.lookup("/store/store.larder");
    Rng rng(test_seed());
    for (uint64_t round = 0; round < test_rounds(60); ++round) {
        SimFs fs = clean;
        fs.resize(*file, format::data_offset + rng.below(fs.size(*file) - format::data_offset));
        answers(std::move(fs));
    }
}

void check_and_repair(void**) {
    SimFs fs = small_store(true);
    const auto file = fs.lookup("/store/store.larder");
    fs.flip_bits(*file, 4096 + 20, std::byte(1));                  // a superblock
    fs.flip_bits(*file, format::data_offset + 256, std::byte(1));  // the first payload
    SimOs os(14, std::move(fs));
    SimStore s(os);
    larder_store_report r = LARDER_STORE_REPORT_INIT;
    uint64_t n_seen = 0;
    auto count = [](void* ctx, const larder_store_record* record) -> int32_t {
        *static_cast<uint64_t*>(ctx) += record->status == LARDER_OK;
        return 0;
    };
    assert_int_equal(larder_store_check(s.context(), "/store", 0, count, &n_seen, &r), LARDER_PARTIAL);
    assert_int_equal(r.n_bad_superblocks, 1);
    assert_int_equal(r.n_corrupt, 1);
    assert_int_equal(r.n_records, n_objects - 1);
    assert_int_equal(n_seen, n_objects - 1);
    assert_int_equal(larder_store_check(s.context(), "/store", LARDER_CHECK_REPAIR, nullptr, nullptr, &r),
                     LARDER_PARTIAL);
    assert_true(r.n_repaired >= 2);
    assert_int_equal(larder_store_check(s.context(), "/store", 0, nullptr, nullptr, &r), LARDER_OK);
    assert_int_equal(r.n_records, n_objects - 1);
    assert_int_equal(s.open(), LARDER_OK);
    // While it is open it cannot be checked.
    assert_int_equal(larder_store_check(s.context(), "/store", 0, nullptr, nullptr, &r), LARDER_E_IN_USE);
    assert_int_equal(larder_store_check(s.context(), "/nowhere", 0, nullptr, nullptr, &r), LARDER_E_NOT_FOUND);
}

// A repair brings nothing back: neither a key that was evicted nor a tenant that was dropped, whichever byte of the log
// was damaged.
void repair_keeps_removals(void**) {
    SimFs fs = small_store(true);
    {
        SimOs os(15, std::move(fs));
        SimStore s(os);
        assert_int_equal(s.open(), LARDER_OK);
        const larder_key gone = make_key(2);
        assert_int_equal(larder_store_evict(s.get(), &gone, 1, LARDER_TIER_HOST | LARDER_TIER_FILE, nullptr),
                         LARDER_OK);
        assert_int_equal(larder_store_drop_tenant(s.get(), 1, nullptr), LARDER_OK);
        assert_int_equal(larder_store_flush(s.get(), nullptr, 0, nullptr), LARDER_OK);
        s.close();
        fs = os.fs();
    }
    const uint64_t kept = answers(fs);
    assert_int_equal(kept, 1 << 0 | 1 << 4 | 1 << 6 | 1 << 8);
    const auto file = fs.lookup("/store/store.larder");
    std::vector<unsigned char> content(fs.size(*file));
    assert_int_equal(fs.read(*file, content.data(), content.size(), 0), content.size());
    Rng rng(test_seed());
    for (uint64_t at = format::data_offset; at < content.size(); ++at) {
        if (!content[at] || rng.below(test_long() ? 1 : 40)) continue;
        SimFs damaged = fs;
        damaged.flip_bits(*file, at, std::byte(1u << rng.below(8)));
        SimOs os(16, std::move(damaged));
        larder_store_report r = LARDER_STORE_REPORT_INIT;
        {
            SimStore s(os);
            larder_store_check(s.context(), "/store", LARDER_CHECK_REPAIR, nullptr, nullptr, &r);
        }
        assert_int_equal(answers(os.fs()) & ~kept, 0);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(every_byte_sealed),
                                cmocka_unit_test(every_byte_open),
                                cmocka_unit_test(misdirected),
                                cmocka_unit_test(strangers),
                                cmocka_unit_test(truncated),
                                cmocka_unit_test(check_and_repair),
                                cmocka_unit_test(repair_keeps_removals)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
