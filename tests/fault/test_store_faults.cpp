// Every allocation and every I/O of opening, putting, getting, flushing and closing fails once and for ever: a
// documented status, nothing lost that was durable, nothing wrong, nothing leaked.
#include "support/fault_loop.h"
#include "support/store_fixture.h"

using namespace larder;

namespace {

constexpr uint64_t n_durable = 6;
size_t size_of(uint64_t key) {
    return size_t(100 + 2500 * (key % 9));
}

StoreSetup setup_of(uint64_t host_bytes) {
    return {.host_bytes = host_bytes, .file_bytes = 5 * 65536 + 16384, .segment_bytes = 65536, .n_workers = 0};
}

larder_status open_in(larder_context* c, const std::string& dir, const StoreSetup& setup, larder_store** s) {
    const std::string path = dir + "/store";
    const larder_store_options o = setup.options(path.c_str());
    return larder_store_open(c, &o, s);
}

// Two segments' worth of durable objects.
void prepare(FaultEnv& env, uint64_t host_bytes) {
    FaultEnv::Context c;
    assert_int_equal(env.make_context(c), LARDER_OK);
    larder_store* s = nullptr;
    assert_int_equal(open_in(c.get(), env.dir, setup_of(host_bytes), &s), LARDER_OK);
    for (uint64_t k = 0; k < n_durable; ++k)
        assert_int_equal(put_one(s, make_key(k), make_meta(), make_payload(k, size_of(k))), LARDER_OK);
    assert_int_equal(larder_store_flush(s, nullptr, 0, nullptr), LARDER_OK);
    larder_store_close(s);
}

larder_status use(FaultEnv& env, uint64_t host_bytes) {
    FaultEnv::Context c;
    const larder_status made = env.make_context(c);
    if (made < 0) return made;
    larder_store* s = nullptr;
    larder_status worst = open_in(c.get(), env.dir, setup_of(host_bytes), &s);
    if (worst < 0) return worst;
    std::vector<unsigned char> bytes;
    for (uint64_t k = 0; k < n_durable; ++k) {
        const larder_status got = get_one(s, make_key(k), make_want(), bytes, 60000);
        if (got == LARDER_OK) assert_true(bytes == make_payload(k, size_of(k)));
        if (got < 0 && worst >= 0) worst = got;
    }
    for (uint64_t k = 100; k < 106; ++k) {
        const larder_status put = put_one(s, make_key(k), make_meta(), make_payload(k, size_of(k)));
        if (put < 0 && worst >= 0) worst = put;
    }
    if (host_bytes) {
        for (uint64_t k = 0; k < 3; ++k) {
            const larder_status got = read_one(s, make_key(k), make_want(), bytes);
            if (got == LARDER_OK) assert_true(bytes == make_payload(k, size_of(k)));
            const larder_status put =
                write_one(s, make_key(k + 90), make_meta(), make_payload(k + 90, size_of(k + 90)));
            for (const larder_status status : {got, put})
                if (status < 0 && status != LARDER_E_EXISTS && worst >= 0) worst = status;
        }
        assert_int_equal(larder_store_expire(s, nullptr), LARDER_OK);
    }
    const larder_status flushed = larder_store_flush(s, nullptr, 0, nullptr);
    if (flushed < 0 && worst >= 0) worst = flushed;
    const larder_status verified = larder_store_verify(s);
    assert_true(verified == LARDER_OK || verified == LARDER_E_NOMEM);
    larder_store_close(s);
    return worst;
}

// The durable objects are all there, and every other object is right or missing.
void look(FaultEnv& env, uint64_t host_bytes) {
    FaultEnv::Context c;
    assert_int_equal(env.make_context(c), LARDER_OK);
    larder_store* s = nullptr;
    assert_int_equal(open_in(c.get(), env.dir, setup_of(host_bytes), &s), LARDER_OK);
    std::vector<unsigned char> bytes;
    for (uint64_t k = 0; k < 106; ++k) {
        const larder_status got = get_one(s, make_key(k), make_want(), bytes, 60000);
        if (got == LARDER_OK)
            assert_true(bytes == make_payload(k, size_of(k)));
        else
            assert_int_equal(got, LARDER_MISS);
        if (k < n_durable) assert_int_equal(got, LARDER_OK);
    }
    assert_int_equal(larder_store_verify(s), LARDER_OK);
    larder_store_close(s);
}

void loop(const char* name, uint64_t host_bytes) {
    FaultCase f;
    f.name = name;
    f.also_allowed = {LARDER_E_NOMEM,  LARDER_E_IO,        LARDER_E_NOSPACE,   LARDER_E_DISK_FULL,
                      LARDER_E_SYSTEM, LARDER_E_READ_ONLY, LARDER_E_PERMISSION};
    f.prep = [=](FaultEnv& env) { prepare(env, host_bytes); };
    f.body = [=](FaultEnv& env) { return use(env, host_bytes); };
    f.verdict = [=](FaultEnv& env, larder_status) { look(env, host_bytes); };
    run_fault_loop(f);
}

void file_only(void**) {
    loop("store, file tier", 0);
}
void both_tiers(void**) {
    loop("store, both tiers", 128 << 10);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(file_only), cmocka_unit_test(both_tiers)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
