// The pool of states against copies in plain vectors; sums against long double; linear attention in pieces against the
// whole.
#include "support/cmocka.h"

#include <cmath>
#include <cstring>
#include <map>
#include <thread>
#include <vector>

#include "base/crc32c.h"
#include "base/hash.h"
#include "larder/larder.h"
#include "memory/state_sum.h"
#include "support/seed.h"

using larder::Rng;

namespace {

struct Bed {
    larder_context* context = nullptr;
    larder_states* pool = nullptr;
    explicit Bed(const larder_states_options& o) {
        assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK);
        assert_int_equal(larder_states_create(context, &o, &pool), LARDER_OK);
    }
    ~Bed() {
        assert_int_equal(larder_states_verify(pool), LARDER_OK);
        larder_states_destroy(pool);
        assert_int_equal(larder_context_destroy(context), LARDER_OK);
    }
};

larder_states_options options(uint64_t n_bytes, uint32_t n_slots, larder_dtype t, uint32_t max_states = 0) {
    larder_states_options o = LARDER_STATES_OPTIONS_INIT;
    o.state_bytes = n_bytes;
    o.n_slots = n_slots;
    o.dtype = t;
    o.max_states = max_states;
    return o;
}

struct Copy {
    std::vector<float> values;
    int content;  // copies with the same number share a slot
    bool frozen;
};

void random_operations(void**) {
    constexpr uint32_t n_slots = 12, max_states = 30, n_elements = 33;
    Bed bed(options(n_elements * 4, n_slots, LARDER_DTYPE_F32, max_states));
    Rng rng(test_seed());
    std::map<uint64_t, Copy> model;
    int next_content = 0;
    auto sharers = [&](int content) {
        uint32_t n = 0;
        for (auto& [id, c] : model) n += c.content == content;
        return n;
    };
    auto n_contents = [&] {
        std::map<int, int> seen;
        for (auto& [id, c] : model) ++seen[c.content];
        return uint32_t(seen.size());
    };
    auto pick = [&] {
        auto it = model.begin();
        std::advance(it, ptrdiff_t(rng.below(model.size())));
        return it;
    };
    for (uint64_t i = 0; i < test_rounds(20000); ++i) {
        const uint64_t what = model.empty() ? 0 : rng.below(7);
        if (what == 0) {
            uint64_t id[2];
            const uint32_t n = uint32_t(1 + rng.below(2));
            const larder_status s = larder_states_alloc(bed.pool, n, id);
            const bool room = n_contents() + n <= n_slots && model.size() + n <= max_states;
            assert_int_equal(s, room ? LARDER_OK : LARDER_E_NOSPACE);
            for (uint32_t k = 0; room && k < n; ++k)
                model[id[k]] = {std::vector<float>(n_elements, 0), next_content++, false};
        } else if (what == 1 || what == 2) {
            auto from = pick();
            uint64_t id = 0;
            const larder_status s = what == 1 ? larder_states_fork(bed.pool, from->first, 1, &id)
                                              : larder_states_snapshot(bed.pool, from->first, &id);
            assert_int_equal(s, model.size() < max_states ? LARDER_OK : LARDER_E_NOSPACE);
            if (s >= 0) model[id] = {from->second.values, from->second.content, what == 2};
        } else if (what == 3 || what == 4) {
            auto at = pick();
            Copy& c = at->second;
            const bool shared = sharers(c.content) > 1, full = n_contents() == n_slots;
            larder_status want = c.frozen ? LARDER_E_STATE : shared && full ? LARDER_E_NOSPACE : LARDER_OK;
            if (what == 3) {
                void* p = nullptr;
                assert_int_equal(larder_states_write(bed.pool, at->first, &p), want);
                const uint64_t k = rng.below(n_elements);
                if (want >= 0) c.values[k] = static_cast<float*>(p)[k] = float(rng.below(1000)) / 8;
            } else {
                uint64_t srcs[3];
                std::vector<float> sum = c.values;
                for (uint64_t& src : srcs) {
                    auto other = pick();
                    src = other->first;
                    for (uint32_t k = 0; k < n_elements; ++k) sum[k] += other->second.values[k];
                }
                assert_int_equal(larder_states_add(bed.pool, at->first, srcs, 3), want);
                if (want >= 0) {
                    for (float& v : sum)  // keep the numbers small
                        if (std::fabs(v) > 1e6f) v = 0;
                    void* p = nullptr;
                    c.values = sum;
                    if (shared) c.content = next_content++;
                    assert_int_equal(larder_states_write(bed.pool, at->first, &p), LARDER_OK);
                    for (uint32_t k = 0; k < n_elements; ++k)
                        if (sum[k] == 0) static_cast<float*>(p)[k] = 0;
                    continue;
                }
            }
            if (want >= 0 && shared) c.content = next_content++;
        } else if (what == 5) {
            auto at = pick();
            const uint64_t id = at->first;
            assert_int_equal(larder_states_free(bed.pool, &id, 1), LARDER_OK);
            assert_int_equal(larder_states_free(bed.pool, &id, 1), LARDER_E_STALE);
            const void* p = nullptr;
            assert_int_equal(larder_states_get(bed.pool, id, &p), LARDER_E_STALE);
            model.erase(at);
        } else {
            for (auto& [id, c] : model) {
                const void* p = nullptr;
                uint32_t crc = 0;
                assert_int_equal(larder_states_get(bed.pool, id, &p), LARDER_OK);
                assert_memory_equal(p, c.values.data(), n_elements * 4);
                assert_int_equal(larder_states_checksum(bed.pool, id, &crc), LARDER_OK);
                assert_int_equal(crc, larder::crc32c_portable(0, c.values.data(), n_elements * 4));
            }
            assert_int_equal(larder_states_verify(bed.pool), LARDER_OK);
        }
        larder_states_state s = LARDER_STATES_STATE_INIT;
        assert_int_equal(larder_states_query(bed.pool, &s), LARDER_OK);
        assert_int_equal(s.n_states, model.size());
        assert_int_equal(s.n_slots_used, n_contents());
        assert_int_equal(s.n_slots_free, n_slots - n_contents());
    }
}

// Every finite 16-bit value goes through unharmed, and a sum is the rounded exact one where fp32 is exact.
void sixteen_bits(void**) {
    for (larder_dtype t : {LARDER_DTYPE_F16, LARDER_DTYPE_BF16}) {
        std::vector<uint16_t> all(65536), zero(65536, 0), out;
        for (uint32_t i = 0; i < 65536; ++i) all[i] = uint16_t(i);
        out = all;
        const void* src = zero.data();
        larder::add_states(t, out.data(), {&src, 1}, out.size() * 2);
        for (uint32_t i = 0; i < 65536; ++i) {
            const uint32_t magnitude = i & 0x7fff, infinity = t == LARDER_DTYPE_F16 ? 0x7c00 : 0x7f80;
            if (magnitude > infinity)
                assert_true((out[i] & 0x7fffu) > infinity);  // still no number
            else if (i == 0x8000)
                assert_int_equal(out[i], 0);  // -0 + 0
            else
                assert_int_equal(out[i], all[i]);
        }
        // 1 + 2^-k rounds to even at the last bit: the tie goes down from 1, up from the next.
        const int bits = t == LARDER_DTYPE_F16 ? 10 : 7;
        const uint16_t one = t == LARDER_DTYPE_F16 ? 0x3c00 : 0x3f80;
        const uint16_t half_ulp =
            t == LARDER_DTYPE_F16 ? uint16_t((15 - bits - 1) << 10) : uint16_t((127 - bits - 1) << 7);
        uint16_t v[2] = {one, uint16_t(one + 1)}, h[2] = {half_ulp, half_ulp};
        src = h;
        larder::add_states(t, v, {&src, 1}, 4);
        assert_int_equal(v[0], one);
        assert_int_equal(v[1], one + 2);
        // One rounding for many summands: 64 half steps are not lost one by one.
        std::vector<const void*> many(64, h);
        v[0] = v[1] = one;
        larder::add_states(t, v, many, 4);
        assert_int_equal(v[0], one + 32);
    }
}

// Linear attention with phi = ReLU: the states of two halves add up to that of the whole.
void halves_add_up(void**) {
    constexpr uint32_t d = 16, n = 200, n_bytes = (d * d + d) * 4;
    Bed bed(options(n_bytes, 4, LARDER_DTYPE_F32));
    Rng rng(test_seed());
    std::vector<double> k(n * d), v(n * d), exact(d * d + d, 0);
    for (double& x : k) x = rng.unit() * 2 - 1;
    for (double& x : v) x = rng.unit() * 2 - 1;
    auto accumulate = [&](auto* s, uint32_t from, uint32_t to) {
        for (uint32_t t = from; t < to; ++t)
            for (uint32_t i = 0; i < d; ++i) {
                const double phi = k[t * d + i] > 0 ? k[t * d + i] : 0;
                using T = std::remove_reference_t<decltype(*s)>;
                for (uint32_t j = 0; j < d; ++j) s[i * d + j] += T(phi * v[t * d + j]);
                s[d * d + i] += T(phi);
            }
    };
    accumulate(exact.data(), 0, n);
    uint64_t half[2], whole = 0;
    void* p = nullptr;
    assert_int_equal(larder_states_alloc(bed.pool, 2, half), LARDER_OK);
    for (uint32_t h = 0; h < 2; ++h) {
        assert_int_equal(larder_states_write(bed.pool, half[h], &p), LARDER_OK);
        accumulate(static_cast<float*>(p), h * n / 2, (h + 1) * n / 2);
    }
    assert_int_equal(larder_states_fork(bed.pool, half[0], 1, &whole), LARDER_OK);
    assert_int_equal(larder_states_add(bed.pool, whole, &half[1], 1), LARDER_OK);
    const void* sum = nullptr;
    assert_int_equal(larder_states_get(bed.pool, whole, &sum), LARDER_OK);
    double scale = 0;
    for (double x : exact) scale = std::max(scale, std::fabs(x));
    for (uint32_t i = 0; i < exact.size(); ++i)
        assert_true(std::fabs(double(static_cast<const float*>(sum)[i]) - exact[i]) <= 1e-5 * scale);
    larder_states_state s = LARDER_STATES_STATE_INIT;
    assert_int_equal(larder_states_query(bed.pool, &s), LARDER_OK);
    assert_int_equal(s.n_slots_used, 3);
    assert_int_equal(s.n_copies, 1);
}

// Forks of one state in different threads never see each other's writes.
void forks_in_threads(void**) {
    Bed bed(options(4096, 16, 0));
    uint64_t root = 0, forks[4];
    assert_int_equal(larder_states_alloc(bed.pool, 1, &root), LARDER_OK);
    std::vector<int> bad(4, 0);
    for (uint64_t round = 0; round < test_rounds(200); ++round) {
        assert_int_equal(larder_states_fork(bed.pool, root, 4, forks), LARDER_OK);
        std::vector<std::thread> all;
        for (uint32_t t = 0; t < 4; ++t)
            all.emplace_back([&, t] {
                uint64_t id = forks[t], deeper = 0;
                for (int i = 0; i < 4; ++i) {
                    void* p = nullptr;
                    const void* q = nullptr;
                    if (larder_states_write(bed.pool, id, &p) < 0) return void(++bad[t]);
                    std::memset(p, int(t + 1), 4096);
                    bad[t] += larder_states_fork(bed.pool, id, 1, &deeper) < 0;
                    bad[t] += larder_states_free(bed.pool, &id, 1) < 0;
                    id = deeper;
                    if (larder_states_get(bed.pool, id, &q) < 0) return void(++bad[t]);
                    for (int k = 0; k < 4096; ++k) bad[t] += static_cast<const char*>(q)[k] != char(t + 1);
                }
                bad[t] += larder_states_free(bed.pool, &id, 1) < 0;
            });
        for (auto& t : all) t.join();
    }
    for (int b : bad) assert_int_equal(b, 0);
    const void* p = nullptr;
    assert_int_equal(larder_states_get(bed.pool, root, &p), LARDER_OK);
    for (int k = 0; k < 4096; ++k) assert_int_equal(static_cast<const char*>(p)[k], 0);
}

void bad_input(void**) {
    larder_context* c = nullptr;
    assert_int_equal(larder_context_create(nullptr, &c), LARDER_OK);
    larder_states* p = nullptr;
    auto try_with = [&](larder_states_options o) { return larder_states_create(c, &o, &p); };
    assert_int_equal(larder_states_create(c, nullptr, &p), LARDER_E_RANGE);
    assert_int_equal(try_with(options(0, 1, 0)), LARDER_E_RANGE);
    assert_int_equal(try_with(options(64, 0, 0)), LARDER_E_RANGE);
    assert_int_equal(try_with(options(64, 4, 0, 3)), LARDER_E_RANGE);
    assert_int_equal(try_with(options(6, 4, LARDER_DTYPE_F32)), LARDER_E_RANGE);
    assert_int_equal(try_with(options(64, 4, LARDER_DTYPE_I8)), LARDER_E_INVALID);
    assert_int_equal(try_with(options(uint64_t(1) << 36, 1 << 24, 0)), LARDER_E_RANGE);
    assert_null(p);
    assert_int_equal(try_with(options(64, 2, 0)), LARDER_OK);
    uint64_t id = 0;
    assert_int_equal(larder_states_alloc(p, 1, &id), LARDER_OK);
    assert_int_equal(larder_states_add(p, id, &id, 1), LARDER_E_UNSUPPORTED);
    assert_int_equal(larder_states_alloc(p, 1, nullptr), LARDER_E_INVALID);
    uint32_t crc;
    assert_int_equal(larder_states_checksum(p, id ^ uint64_t(3) << 60, &crc), LARDER_E_STALE);
    larder_states_destroy(p);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(random_operations), cmocka_unit_test(sixteen_bits), cmocka_unit_test(halves_add_up),
        cmocka_unit_test(forks_in_threads),  cmocka_unit_test(bad_input),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
