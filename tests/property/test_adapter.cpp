// Adapter containers against oracles written from the definitions: byte order and medians of coded matrices, sums of
// disjoint modules, and every damaged byte.
#include "support/cmocka.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/hash.h"
#include "larder/larder.h"
#include "support/kv_tensors.h"
#include "support/seed.h"

using larder::Rng;
using Floats = std::vector<float>;
using Bytes = std::vector<uint8_t>;

namespace {

larder_span span(const Bytes& b) {
    return {b.data(), b.size()};
}

Bytes encode(const larder_adapter_options& o, const std::vector<larder_adapter_matrix>& m) {
    uint64_t n = 0;
    assert_int_equal(larder_adapter_encode(&o, m.data(), uint32_t(m.size()), nullptr, 0, &n),
                     LARDER_E_BUFFER_TOO_SMALL);
    Bytes out(n + 8, 0xee);
    assert_int_equal(larder_adapter_encode(&o, m.data(), uint32_t(m.size()), out.data(), n, &n), LARDER_OK);
    for (size_t i = n; i < out.size(); ++i) assert_int_equal(out[i], 0xee);
    out.resize(n);
    return out;
}

larder_adapter_matrix matrix(const char* name, uint32_t rows, uint32_t cols, const float* values) {
    larder_adapter_matrix m = LARDER_ADAPTER_MATRIX_INIT;
    m.name = name, m.rows = rows, m.cols = cols, m.values = values;
    return m;
}

Floats decode(const Bytes& b, uint32_t index, size_t n, const std::vector<uint32_t>* modules = nullptr) {
    Floats out(n, -77);
    static const uint32_t none = 0;  // NULL would mean all of them
    assert_int_equal(larder_adapter_decode(span(b), index, nullptr,
                                           !modules           ? nullptr
                                           : modules->empty() ? &none
                                                              : modules->data(),
                                           modules ? uint32_t(modules->size()) : 0, out.data(), n),
                     LARDER_OK);
    return out;
}

double error(const Floats& a, const Floats& b, int power) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += std::pow(std::fabs(double(a[i]) - b[i]), power);
    return sum / double(a.size());
}

// The published layout: base 2^bits digits, the first weight lowest, then mean and deviation as floats.
void coded_bytes_are_as_published(void**) {
    Rng r(test_seed());
    const double median = 0.67448975019608171;  // half of the half-normal distribution lies below
    for (uint32_t round = 0; round < test_rounds(50); ++round) {
        const uint32_t rows = uint32_t(1 + r.below(20)), cols = uint32_t(2 + r.below(20));
        Floats w(rows * cols);
        for (float& x : w) x = float(0.3 + 2 * kv_test::gaussian(r));
        larder_adapter_options o = LARDER_ADAPTER_OPTIONS_INIT;
        const Bytes b = encode(o, {matrix("down", rows, cols, w.data())});
        larder_adapter_entry e = LARDER_ADAPTER_ENTRY_INIT;
        assert_int_equal(larder_adapter_entry_at(span(b), 0, &e), LARDER_OK);
        assert_string_equal(e.name, "down");
        assert_int_equal(e.n_bytes, (w.size() + 7) / 8 + 8);
        double mean = 0, squares = 0;
        for (float x : w) mean += x;
        mean /= double(w.size());
        for (float x : w) squares += (x - mean) * (x - mean);
        const double deviation = std::sqrt(squares / double(w.size() - 1));
        float stored[2];
        std::memcpy(stored, b.data() + e.offset + e.n_bytes - 8, 8);
        assert_true(std::fabs(stored[0] - mean) < 1e-6 && std::fabs(stored[1] - deviation) < 1e-5);
        const Floats back = decode(b, 0, w.size());
        for (size_t i = 0; i < w.size(); ++i) {
            const bool up = w[i] > mean;
            assert_int_equal(b[e.offset + i / 8] >> i % 8 & 1, up);
            assert_true(std::fabs(back[i] - (mean + (up ? median : -median) * deviation)) < 1e-5);
        }
    }
}

// Each level halves the probability of its cell: medians minimise the absolute error, means would the squared one.
void levels_are_medians(void**) {
    Rng r(test_seed() + 1);
    Floats w(40000);
    for (float& x : w) x = float(kv_test::gaussian(r));
    double before = 1e9;
    for (uint32_t bits : {1u, 2u, 4u}) {
        larder_adapter_options o = LARDER_ADAPTER_OPTIONS_INIT;
        o.bits = bits;
        const Bytes b = encode(o, {matrix("w", 200, 200, w.data())});
        const Floats back = decode(b, 0, w.size());
        Floats levels(back);
        std::sort(levels.begin(), levels.end());
        levels.erase(std::unique(levels.begin(), levels.end()), levels.end());
        assert_int_equal(levels.size(), 1u << bits);
        for (float level : levels) {
            uint32_t below = 0, in_cell = 0;
            for (size_t i = 0; i < w.size(); ++i)
                in_cell += back[i] == level, below += back[i] == level && w[i] < level;
            if (in_cell > 500) assert_true(std::fabs(double(below) / in_cell - 0.5) < 0.08);
        }
        assert_true(error(w, back, 1) < before);
        before = error(w, back, 1);
        if (bits != 1) continue;
        Floats means(back);
        const double mean_level = std::sqrt(2 / 3.14159265358979);
        for (float& x : means) x = float(x > 0 ? mean_level : -mean_level);
        assert_true(error(w, back, 1) < error(w, means, 1));
        assert_true(error(w, back, 2) > error(w, means, 2));
    }
}

struct Modules {
    uint32_t rows, cols, n;
    Floats dense, base;
    std::vector<uint32_t> owner;  // n: nobody
    std::vector<Bytes> masks;
    std::vector<Floats> values;
    std::vector<const uint8_t*> mask_list;
    std::vector<const float*> value_list;
    larder_adapter_matrix m;

    Modules(Rng& r, const char* name, uint32_t n_modules, bool gaps, bool with_base) : n(n_modules) {
        rows = uint32_t(1 + r.below(12)), cols = uint32_t(1 + r.below(30));
        const size_t w = size_t(rows) * cols;
        dense.resize(w), owner.resize(w);
        masks.assign(n, Bytes((w + 7) / 8)), values.assign(n, Floats(w, 1e30f));
        for (size_t i = 0; i < w; ++i) {
            dense[i] = float(kv_test::gaussian(r));
            owner[i] = uint32_t(r.below(n + (gaps ? 1 : 0)));
            if (owner[i] == n) continue;
            masks[owner[i]][i / 8] = uint8_t(masks[owner[i]][i / 8] | 1u << i % 8);
            values[owner[i]][i] = dense[i];
        }
        if (with_base)
            for (size_t i = 0; i < w; ++i) base.push_back(float(kv_test::gaussian(r)));
        for (uint32_t k = 0; k < n; ++k) mask_list.push_back(masks[k].data()), value_list.push_back(values[k].data());
        m = matrix(name, rows, cols, with_base ? base.data() : nullptr);
        m.masks = mask_list.data(), m.modules = value_list.data();
    }
};

void any_modules_merge(void**) {
    Rng r(test_seed() + 2);
    for (uint32_t round = 0; round < test_rounds(200); ++round) {
        const uint32_t n = uint32_t(1 + r.below(round % 10 ? 5 : 255));
        const bool gaps = r.below(2), with_base = r.below(2);
        Modules a(r, "up", n, gaps, with_base), b(r, "down", n, gaps, with_base);
        larder_adapter_options o = LARDER_ADAPTER_OPTIONS_INIT;
        o.kind = LARDER_ADAPTER_MODULES, o.n_modules = n;
        const Bytes bytes = encode(o, {a.m, b.m});
        std::vector<uint32_t> chosen;
        for (uint32_t k = n; k-- > 0;)
            if (r.below(2)) chosen.push_back(k);
        for (uint32_t i = 0; i < 2; ++i) {
            const Modules& m = i ? b : a;
            const Floats all = decode(bytes, i, m.dense.size()), some = decode(bytes, i, m.dense.size(), &chosen);
            std::vector<Floats> alone;
            for (uint32_t k : chosen) {
                const std::vector<uint32_t> one{k};
                alone.push_back(decode(bytes, i, m.dense.size(), &one));
            }
            for (size_t w = 0; w < m.dense.size(); ++w) {
                const float base = with_base ? m.base[w] : 0.0f;
                const bool picked = std::find(chosen.begin(), chosen.end(), m.owner[w]) != chosen.end();
                const float whole = m.owner[w] == n ? base : with_base ? base + m.dense[w] : m.dense[w];
                assert_true(all[w] == whole);
                assert_true(some[w] == (picked ? whole : base));
                // What the modules give alone adds up.
                uint32_t n_changed = 0;
                for (const Floats& x : alone) n_changed += x[w] != base;
                assert_true(n_changed <= 1);
            }
            larder_adapter_entry e = LARDER_ADAPTER_ENTRY_INIT;
            assert_int_equal(larder_adapter_entry_at(span(bytes), i, &e), LARDER_OK);
            const double map = std::ceil(std::log2(double(n + gaps))) / 8 * double(m.dense.size());
            assert_true(double(e.n_bytes) <= 4.0 * double(m.dense.size()) * (with_base ? 2 : 1) + map + 4 * n + 12);
        }
    }
}

void overlaps_are_refused(void**) {
    Rng r(test_seed() + 3);
    for (uint32_t round = 0; round < test_rounds(50); ++round) {
        Modules m(r, "shared", uint32_t(2 + r.below(4)), true, false);
        const size_t i = r.below(m.dense.size());
        for (uint32_t k = 0; k < 2; ++k)
            m.masks[k][i / 8] = uint8_t(m.masks[k][i / 8] | 1u << i % 8), m.values[k][i] = 1;
        larder_adapter_options o = LARDER_ADAPTER_OPTIONS_INIT;
        o.kind = LARDER_ADAPTER_MODULES, o.n_modules = m.n;
        uint64_t n = 0;
        assert_int_equal(larder_adapter_encode(&o, &m.m, 1, nullptr, 0, &n), LARDER_E_INVALID);
        larder_error_info e = LARDER_ERROR_INFO_INIT;
        larder_last_error(&e);
        assert_non_null(std::strstr(e.message, "shared"));
    }
}

void every_damage_is_an_error(void**) {
    Rng r(test_seed() + 4);
    Modules m(r, "up", 3, true, true);
    Floats w(37);
    for (float& x : w) x = float(kv_test::gaussian(r));
    larder_adapter_options coded = LARDER_ADAPTER_OPTIONS_INIT, modules = LARDER_ADAPTER_OPTIONS_INIT;
    coded.bits = 2, modules.kind = LARDER_ADAPTER_MODULES, modules.n_modules = 3;
    const struct {
        Bytes bytes;
        size_t n;
    } cases[] = {{encode(coded, {matrix("a", 37, 1, w.data()), matrix("b", 1, 37, w.data())}), 37},
                 {encode(modules, {m.m}), m.dense.size()}};
    for (const auto& c : cases) {
        Floats out(c.n);
        larder_adapter_info info = LARDER_ADAPTER_INFO_INIT;
        assert_int_equal(larder_adapter_inspect(span(c.bytes), &info), LARDER_OK);
        auto read_all = [&](const Bytes& b) {
            larder_status worst = LARDER_OK;
            for (uint32_t i = 0; i < info.n_matrices; ++i)
                worst = std::min(worst, larder_adapter_decode(span(b), i, nullptr, nullptr, 0, out.data(), c.n));
            return worst;
        };
        assert_int_equal(read_all(c.bytes), LARDER_OK);
        for (size_t bit = 0; bit < 8 * c.bytes.size(); ++bit) {
            Bytes b = c.bytes;
            b[bit / 8] = uint8_t(b[bit / 8] ^ 1u << bit % 8);
            if (read_all(b) >= 0) print_error("bit %zu goes unseen\n", bit);
            assert_true(read_all(b) < 0);
        }
        for (size_t n = 0; n < c.bytes.size(); ++n)
            assert_int_equal(read_all(Bytes(c.bytes.begin(), c.bytes.begin() + long(n))), LARDER_E_TRUNCATED);
    }
}

void bad_arguments_have_their_status(void**) {
    Floats w(8, 1.0f);
    larder_adapter_options o = LARDER_ADAPTER_OPTIONS_INIT;
    o.identity.bytes[5] = 9;
    const Bytes b = encode(o, {matrix("w", 2, 4, w.data())});
    Floats out(8);
    larder_key other{};
    const uint32_t module = 0;
    assert_int_equal(larder_adapter_decode(span(b), 0, &o.identity, nullptr, 0, out.data(), 8), LARDER_OK);
    for (float x : out) assert_true(std::fabs(x - 1) < 1e-6);  // no deviation: all are the mean
    assert_int_equal(larder_adapter_decode(span(b), 0, &other, nullptr, 0, out.data(), 8), LARDER_E_IDENTITY);
    assert_int_equal(larder_adapter_decode(span(b), 1, nullptr, nullptr, 0, out.data(), 8), LARDER_E_NOT_FOUND);
    assert_int_equal(larder_adapter_decode(span(b), 0, nullptr, nullptr, 0, out.data(), 7), LARDER_E_BUFFER_TOO_SMALL);
    assert_int_equal(larder_adapter_decode(span(b), 0, nullptr, &module, 1, out.data(), 8), LARDER_E_INVALID);
    uint64_t n = 0;
    auto status = [&](const larder_adapter_options& with, const larder_adapter_matrix& m) {
        return larder_adapter_encode(&with, &m, 1, nullptr, 0, &n);
    };
    assert_int_equal(status(o, matrix("", 2, 4, w.data())), LARDER_E_INVALID);
    assert_int_equal(status(o, matrix("w", 0, 4, w.data())), LARDER_E_RANGE);
    assert_int_equal(status(o, matrix("w", 2, 4, nullptr)), LARDER_E_INVALID);
    Floats nan(8, NAN);
    assert_int_equal(status(o, matrix("w", 2, 4, nan.data())), LARDER_E_INVALID);
    o.bits = 3;
    assert_int_equal(status(o, matrix("w", 2, 4, w.data())), LARDER_E_RANGE);
    o.bits = 1, o.kind = 7;
    assert_int_equal(status(o, matrix("w", 2, 4, w.data())), LARDER_E_INVALID);
    Rng r(test_seed() + 5);
    Modules m(r, "m", 2, false, false);
    larder_adapter_options mo = LARDER_ADAPTER_OPTIONS_INIT;
    mo.kind = LARDER_ADAPTER_MODULES, mo.n_modules = 2;
    const Bytes mb = encode(mo, {m.m});
    Floats back(m.dense.size());
    const uint32_t twice[] = {1, 1}, far[] = {2};
    assert_int_equal(larder_adapter_decode(span(mb), 0, nullptr, twice, 2, back.data(), back.size()), LARDER_E_INVALID);
    assert_int_equal(larder_adapter_decode(span(mb), 0, nullptr, far, 1, back.data(), back.size()), LARDER_E_RANGE);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(coded_bytes_are_as_published),
        cmocka_unit_test(levels_are_medians),
        cmocka_unit_test(any_modules_merge),
        cmocka_unit_test(overlaps_are_refused),
        cmocka_unit_test(every_damage_is_an_error),
        cmocka_unit_test(bad_arguments_have_their_status),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
