// Keys of any length, and snapshots read where they lie, against std::map through the C ABI.
#include "support/cmocka.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "base/hash.h"
#include "larder/larder.h"
#include "support/seed.h"

using larder::Rng;
using Model = std::map<std::string, uint64_t>;  // char_traits<char> compares as memcmp does

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

larder_index* make(uint32_t key_bytes = LARDER_INDEX_ANY_LENGTH) {
    larder_index_options o = LARDER_INDEX_OPTIONS_INIT;
    o.key_bytes = key_bytes;
    larder_index* index = nullptr;
    assert_int_equal(larder_index_create(context, &o, &index), LARDER_OK);
    return index;
}

larder_index_key as_key(const std::string& s) {
    return {s.data(), s.size()};
}
std::string as_string(const larder_index_key& k) {
    return {static_cast<const char*>(k.data), size_t(k.n_bytes)};
}

// Few alphabets, common beginnings, zeros at the end, all lengths: what decides the order is everywhere in the key.
std::string random_key(Rng& r) {
    static const std::string beginnings[] = {"", "a", std::string(8, '\0'), "https://www.example.org/",
                                             std::string(40, '\xff')};
    std::string s = beginnings[r.below(5)];
    const uint64_t n = r.below(16) ? r.below(12) : r.below(900);
    for (uint64_t i = 0; i < n; ++i) s.push_back(char(r.below(3) ? r.below(2) : r.below(256)));
    if (!r.below(200)) s.resize(LARDER_INDEX_MAX_KEY_BYTES, char(r.below(2) ? 0xff : 0));
    if (s.empty()) s.push_back('\0');
    return s;
}

void check(larder_index* index, const Model& model) {
    uint64_t n = 0;
    const larder_status s = larder_index_verify(index);
    if (s < 0) {
        larder_error_info e = LARDER_ERROR_INFO_INIT;
        larder_last_error(&e);
        print_error("%s\n", e.message);
    }
    assert_int_equal(s, LARDER_OK);
    assert_int_equal(larder_index_count(index, &n), LARDER_OK);
    assert_int_equal(n, model.size());
}

// Everything upwards and downwards, in pieces that the buffer or n bounds.
void compare(larder_index* index, const Model& model, Rng& r) {
    std::vector<char> buffer(LARDER_INDEX_MAX_KEY_BYTES + r.below(3000));
    std::vector<larder_index_key> keys(300);
    std::vector<uint64_t> values(300);
    for (bool up : {true, false}) {
        auto it = up ? model.begin() : model.end();
        std::string last;
        for (bool first = true;; first = false) {
            const larder_index_key from = as_key(last);
            uint64_t n = 0;
            const larder_status s =
                larder_index_scan_keys(index, up ? LARDER_INDEX_ABOVE : LARDER_INDEX_BELOW, first ? nullptr : &from,
                                       buffer.data(), buffer.size(), keys.data(), values.data(), keys.size(), &n);
            for (uint64_t i = 0; i < n; ++i) {
                assert_true(it != (up ? model.end() : model.begin()));
                if (!up) --it;
                assert_true(as_string(keys[i]) == it->first && values[i] == it->second);
                if (up) ++it;
            }
            if (n) last = as_string(keys[n - 1]);
            if (s == LARDER_PARTIAL) assert_true(n > 0);
            if (s == LARDER_MISS || (s == LARDER_OK && n < keys.size())) break;
        }
        assert_true(it == (up ? model.end() : model.begin()));
    }
}

void bound_of(larder_index* index, larder_index_view* view, const Model& model, const std::string& key, Rng& r) {
    const auto from = larder_index_from(LARDER_INDEX_AT_LEAST + r.below(4));
    const bool up = from == LARDER_INDEX_AT_LEAST || from == LARDER_INDEX_ABOVE;
    auto it =
        from == LARDER_INDEX_AT_LEAST || from == LARDER_INDEX_BELOW ? model.lower_bound(key) : model.upper_bound(key);
    const bool there = up ? it != model.end() : it != model.begin();
    if (!up && there) --it;
    char buffer[LARDER_INDEX_MAX_KEY_BYTES];
    larder_index_key k = as_key(key), got{};
    uint64_t v = 0, n = 0;
    const larder_status s = index ? larder_index_scan_keys(index, from, &k, buffer, sizeof buffer, &got, &v, 1, &n)
                                  : larder_index_view_scan(view, from, &k, &got, &v, 1, &n);
    assert_int_equal(s, there ? LARDER_OK : LARDER_MISS);
    assert_int_equal(n, there);
    if (there) assert_true(as_string(got) == it->first && v == it->second);
}

void one_operation(larder_index* index, Model& model, Rng& r, uint32_t removes) {
    // Half of the time a key that is there, where one follows.
    std::string key = random_key(r);
    if (auto near = model.lower_bound(key); r.below(2) && near != model.end()) key = near->first;
    const larder_index_key k = as_key(key);
    uint64_t v = r.below(4), got = 0;
    auto it = model.find(key);
    const bool there = it != model.end();
    switch (r.below(removes ? 10 : 5)) {
    case 0:
        assert_int_equal(larder_index_get(index, &k, &got), there ? LARDER_OK : LARDER_MISS);
        if (there) assert_int_equal(got, it->second);
        break;
    case 1:
        assert_int_equal(larder_index_put(index, &k, &v), LARDER_OK);
        model[key] = v;
        break;
    case 2:
        assert_int_equal(larder_index_insert(index, &k, &v, &got), there ? LARDER_E_EXISTS : LARDER_OK);
        if (there)
            assert_int_equal(got, it->second);
        else
            model[key] = v;
        break;
    case 3: {
        uint64_t expected = r.below(4);
        const bool same = there && it->second == expected;
        assert_int_equal(larder_index_swap(index, &k, &expected, &v), !there ? LARDER_MISS
                                                                      : same ? LARDER_OK
                                                                             : LARDER_E_STATE);
        if (same) it->second = v;
        break;
    }
    case 4:
        return bound_of(index, nullptr, model, key, r);
    default:
        if (r.below(5) >= removes) break;
        assert_int_equal(larder_index_remove(index, &k, &got), there ? LARDER_OK : LARDER_MISS);
        if (!there) break;
        assert_int_equal(got, it->second);
        model.erase(it);
    }
}

void against_map(void**) {
    Rng r(test_seed());
    larder_index* index = make();
    Model model;
    const uint64_t n_ops = test_rounds(150'000);
    for (uint64_t i = 0; i < n_ops; ++i) {
        const uint64_t phase = i * 8 / n_ops;
        one_operation(index, model, r, phase < 2 ? 0 : phase < 5 ? 2 : 5);
        if (i % (n_ops / 8) == 0) check(index, model);
    }
    check(index, model);
    compare(index, model, r);
    // Batches.
    for (int round = 0; round < 300; ++round) {
        const size_t n = r.below(60);
        std::vector<std::string> strings(n);
        std::vector<larder_index_key> keys(n + 1);
        std::vector<uint64_t> values(n + 1), got(n + 1, 9);
        std::vector<larder_status> status(n + 1);
        for (size_t i = 0; i < n; ++i) strings[i] = random_key(r), keys[i] = as_key(strings[i]), values[i] = r.next();
        uint64_t n_there = 0, n_found = 0;
        const uint64_t kind = r.below(3);
        if (kind == 0) {
            assert_int_equal(larder_index_put_many(index, keys.data(), values.data(), n, status.data()), LARDER_OK);
            for (size_t i = 0; i < n; ++i) model[strings[i]] = values[i];
        } else if (kind == 1) {
            for (size_t i = 0; i < n; ++i) n_there += model.erase(strings[i]);
            assert_int_equal(larder_index_remove_many(index, keys.data(), n, status.data(), &n_found), LARDER_OK);
            assert_int_equal(n_found, n_there);
        } else {
            assert_int_equal(larder_index_get_many(index, keys.data(), n, got.data(), status.data(), &n_found),
                             LARDER_OK);
            for (size_t i = 0; i < n; ++i) {
                auto it = model.find(strings[i]);
                assert_int_equal(status[i], it == model.end() ? LARDER_MISS : LARDER_OK);
                assert_int_equal(got[i], it == model.end() ? 0 : it->second);
            }
        }
    }
    check(index, model);
    // To the last one: no record stays behind.
    for (auto& [s, v] : model) {
        const larder_index_key k = as_key(s);
        assert_int_equal(larder_index_remove(index, &k, nullptr), LARDER_OK);
    }
    model.clear();
    check(index, model);
    larder_index_info info = LARDER_INDEX_INFO_INIT;
    assert_int_equal(larder_index_get_info(index, &info), LARDER_OK);
    assert_in_range(info.record_bytes, 0, 16 * 1024);  // separators of the nodes that are left
    for (int i = 0; i < 3000; ++i) one_operation(index, model, r, 0);
    check(index, model);
    compare(index, model, r);
    larder_index_destroy(index);
}

// ---- snapshots

struct Bytes {
    std::vector<char> data;
    size_t at = 0;
};
larder_status write_bytes(void* ctx, const void* data, uint64_t n) {
    auto& b = *static_cast<Bytes*>(ctx);
    b.data.insert(b.data.end(), static_cast<const char*>(data), static_cast<const char*>(data) + n);
    return LARDER_OK;
}
larder_status read_bytes(void* ctx, void* data, uint64_t n) {
    auto& b = *static_cast<Bytes*>(ctx);
    if (b.data.size() - b.at < n) return LARDER_E_TRUNCATED;
    std::memcpy(data, b.data.data() + b.at, n);
    b.at += n;
    return LARDER_OK;
}
Bytes save(larder_index* index) {
    Bytes b;
    const larder_index_sink sink{write_bytes, &b};
    assert_int_equal(larder_index_save(index, &sink), LARDER_OK);
    return b;
}

void any_length_snapshots(void**) {
    Rng r(test_seed());
    for (uint64_t n_keys : {uint64_t(0), uint64_t(1), test_rounds(30'000)}) {
        larder_index* index = make();
        Model model;
        while (model.size() < n_keys) {
            const std::string s = random_key(r) + std::to_string(r.below(100'000));
            if (s.size() > LARDER_INDEX_MAX_KEY_BYTES) continue;
            const larder_index_key k = as_key(s);
            const uint64_t v = r.next();
            assert_int_equal(larder_index_put(index, &k, &v), LARDER_OK);
            model[s] = v;
        }
        Bytes b = save(index);
        larder_index* other = make();
        const larder_index_source source{read_bytes, &b};
        assert_int_equal(larder_index_load(other, &source), LARDER_OK);
        check(other, model);
        compare(other, model, r);
        larder_index_destroy(other);

        // At an odd address.
        std::vector<char> memory(b.data.size() + 1);
        std::memcpy(memory.data() + 1, b.data.data(), b.data.size());
        larder_index_view* view = nullptr;
        assert_int_equal(larder_index_view_open(context, memory.data() + 1, b.data.size(), &view), LARDER_OK);
        larder_index_view_info info = LARDER_INDEX_VIEW_INFO_INIT;
        assert_int_equal(larder_index_view_get_info(view, &info), LARDER_OK);
        assert_int_equal(info.n_keys, n_keys);
        assert_true(info.key_bytes == LARDER_INDEX_ANY_LENGTH && info.value_bytes == 8 &&
                    info.order == LARDER_INDEX_ORDER_BYTES);
        for (int i = 0; i < 3000; ++i) {
            const std::string s = random_key(r) + std::to_string(r.below(100'000));
            if (s.size() > LARDER_INDEX_MAX_KEY_BYTES) continue;
            bound_of(nullptr, view, model, s, r);
        }
        for (auto& [s, v] : model) {
            const larder_index_key k = as_key(s);
            uint64_t got = 0;
            assert_int_equal(larder_index_view_get(view, &k, &got), LARDER_OK);
            assert_int_equal(got, v);
        }
        assert_int_equal(larder_index_view_verify(view), LARDER_OK);
        larder_index_view_close(view);
        larder_index_destroy(index);
    }
}

void fixed_snapshots_in_place(void**) {
    Rng r(test_seed());
    for (uint64_t n_keys : {0u, 1u, 1023u, 1024u, 1025u, 10'000u}) {
        larder_index* index = make(8);
        std::map<uint64_t, uint64_t> model;
        while (model.size() < n_keys) {
            const uint64_t k = r.next(), v = r.next();
            assert_int_equal(larder_index_put(index, &k, &v), LARDER_OK);
            model[k] = v;
        }
        const Bytes b = save(index);
        larder_index_view* view = nullptr;
        assert_int_equal(larder_index_view_open(context, b.data.data(), b.data.size(), &view), LARDER_OK);
        std::vector<uint64_t> keys(n_keys + 1), values(n_keys + 1);
        uint64_t n = 0;
        for (const larder_index_from from : {LARDER_INDEX_AT_LEAST, LARDER_INDEX_AT_MOST}) {
            assert_int_equal(larder_index_view_scan(view, from, nullptr, keys.data(), values.data(), n_keys + 1, &n),
                             n_keys ? LARDER_OK : LARDER_MISS);
            assert_int_equal(n, n_keys);
            uint64_t i = 0;
            for (auto& [k, v] : model) {
                const uint64_t at = from == LARDER_INDEX_AT_LEAST ? i : n_keys - 1 - i;
                assert_true(keys[at] == k && values[at] == v);
                ++i;
            }
        }
        for (int i = 0; i < 2000; ++i) {
            const uint64_t k = n_keys && r.below(2) ? keys[r.below(n_keys)] : r.next();
            auto it = model.find(k);
            uint64_t v = 0, got_key = 0;
            assert_int_equal(larder_index_view_get(view, &k, &v), it == model.end() ? LARDER_MISS : LARDER_OK);
            if (it != model.end()) assert_int_equal(v, it->second);
            auto above = model.upper_bound(k);
            const larder_status s = larder_index_view_scan(view, LARDER_INDEX_ABOVE, &k, &got_key, nullptr, 1, &n);
            assert_int_equal(s, above == model.end() ? LARDER_MISS : LARDER_OK);
            if (above != model.end()) assert_int_equal(got_key, above->first);
            auto floor = model.upper_bound(k);
            const larder_status f = larder_index_view_scan(view, LARDER_INDEX_AT_MOST, &k, &got_key, nullptr, 1, &n);
            assert_int_equal(f, floor == model.begin() ? LARDER_MISS : LARDER_OK);
            if (floor != model.begin()) assert_int_equal(got_key, std::prev(floor)->first);
        }
        assert_int_equal(larder_index_view_verify(view), LARDER_OK);
        larder_index_view_close(view);
        larder_index_destroy(index);
    }
}

// Any one byte changed, any length cut: opening or verifying tells it, and nothing but a status comes of reading.
void damaged_views(void**) {
    Rng r(test_seed());
    for (const uint32_t key_bytes : {8u, LARDER_INDEX_ANY_LENGTH}) {
        larder_index* index = make(key_bytes);
        for (uint64_t i = 0; i < 3000; ++i) {
            const std::string s = std::to_string(larder::mix64(i));
            const larder_index_key k = as_key(s);
            assert_int_equal(larder_index_put(index, key_bytes == 8 ? static_cast<const void*>(s.data()) : &k, &i),
                             LARDER_OK);
        }
        const Bytes whole = save(index);
        for (uint64_t round = 0; round < test_rounds(400); ++round) {
            Bytes b = whole;
            const bool cut = r.below(4) == 0;
            if (cut)
                b.data.resize(r.below(b.data.size()));
            else
                b.data[r.below(b.data.size())] ^= char(1 << r.below(8));
            if (b.data.empty()) continue;
            larder_index_view* view = nullptr;
            const larder_status s = larder_index_view_open(context, b.data.data(), b.data.size(), &view);
            if (cut) assert_int_equal(s, LARDER_E_TRUNCATED);
            if (s < 0) {
                assert_null(view);
                continue;
            }
            for (int i = 0; i < 20; ++i) {
                const std::string key = std::to_string(r.next());
                const larder_index_key k = as_key(key);
                const void* const element = key_bytes == 8 ? static_cast<const void*>(key.data()) : &k;
                larder_index_key out[8];
                uint64_t n = 0;
                const larder_status got = larder_index_view_get(view, element, nullptr);
                assert_true(got == LARDER_OK || got == LARDER_MISS || got == LARDER_E_CORRUPT);
                const larder_status seen =
                    larder_index_view_scan(view, LARDER_INDEX_BELOW, element, out, nullptr, 8, &n);
                assert_true(seen == LARDER_OK || seen == LARDER_MISS || seen == LARDER_E_CORRUPT);
            }
            assert_int_equal(larder_index_view_verify(view), LARDER_E_CORRUPT);
            larder_index_view_close(view);
        }
        larder_index_destroy(index);
    }
}

// ---- threads

// Each thread owns the keys that end in its letter; all share beginnings, so that records are taken and given back on
// both sides of every comparison.
void owners_find_their_own(void**) {
    const uint64_t seed = test_seed(), n_ops = test_rounds(60'000);
    larder_index* index = make();
    std::atomic<uint64_t> n_bad{0}, n_left{0};
    std::vector<std::thread> threads;
    for (char t = 'a'; t < 'd'; ++t)
        threads.emplace_back([&, t] {
            Rng r(seed + uint64_t(t));
            Model mine;
            for (uint64_t i = 0; i < n_ops; ++i) {
                const std::string s =
                    "a common beginning " + std::string(r.below(40), 'x') + std::to_string(r.below(60)) + t;
                const larder_index_key k = as_key(s);
                auto it = mine.find(s);
                uint64_t v = 0;
                const uint64_t burst = i / 2000 & 1;
                switch (burst ? r.below(2) + 3 : r.below(4)) {
                case 0:
                    n_bad += (larder_index_get(index, &k, &v) == LARDER_OK) != (it != mine.end()) ||
                             (it != mine.end() && v != it->second);
                    break;
                case 1:
                case 2:
                    n_bad += larder_index_put(index, &k, &i) != LARDER_OK;
                    mine[s] = i;
                    break;
                default:
                    n_bad += (larder_index_remove(index, &k, &v) == LARDER_OK) != (it != mine.end()) ||
                             (it != mine.end() && v != it->second);
                    if (it != mine.end()) mine.erase(it);
                }
                if (i % 64) continue;
                char buffer[4096];
                larder_index_key keys[50];
                uint64_t n = 0;
                larder_index_scan_keys(index, r.below(2) ? LARDER_INDEX_AT_LEAST : LARDER_INDEX_AT_MOST, &k, buffer,
                                       sizeof buffer, keys, nullptr, 50, &n);
                for (uint64_t j = 0; j < n; ++j) {
                    const std::string seen = as_string(keys[j]);
                    n_bad += seen.compare(0, 9, "a common ") != 0;
                    if (seen.back() == t) n_bad += !mine.count(seen);
                }
            }
            n_left += mine.size();
        });
    for (auto& t : threads) t.join();
    assert_int_equal(n_bad.load(), 0);
    uint64_t n = 0;
    assert_int_equal(larder_index_count(index, &n), LARDER_OK);
    assert_int_equal(n, n_left.load());
    assert_int_equal(larder_index_verify(index), LARDER_OK);
    larder_index_destroy(index);
}

// ---- estimates

void estimates_are_near(void**) {
    Rng r(test_seed());
    larder_index* index = make(8);
    const uint64_t n_keys = 200'000;
    for (uint64_t i = 0; i < n_keys; ++i) {
        const uint64_t k = larder::mix64(i) >> 1;
        assert_int_equal(larder_index_put(index, &k, &i), LARDER_OK);
    }
    uint64_t n = 0;
    assert_int_equal(larder_index_estimate(index, nullptr, nullptr, &n), LARDER_OK);
    assert_int_equal(n, n_keys);
    for (int i = 0; i < 1000; ++i) {
        uint64_t from = r.next() >> 1, to = r.next() >> 1;
        if (from > to) std::swap(from, to);
        const double expected = double(to - from) / double(UINT64_MAX >> 1) * double(n_keys);
        assert_int_equal(larder_index_estimate(index, &from, &to, &n), LARDER_OK);
        assert_true(std::abs(double(n) - expected) < 0.1 * double(n_keys));
        assert_int_equal(larder_index_estimate(index, &to, &from, &n), LARDER_OK);
        assert_int_equal(n, 0);
    }
    larder_index_destroy(index);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(against_map),
        cmocka_unit_test(any_length_snapshots),
        cmocka_unit_test(fixed_snapshots_in_place),
        cmocka_unit_test(damaged_views),
        cmocka_unit_test(owners_find_their_own),
        cmocka_unit_test(estimates_are_near),
    };
    return cmocka_run_group_tests_name("index bytes", tests, set_up, tear_down);
}
