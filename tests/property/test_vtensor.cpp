// Virtual tensors against a naive model: adapters come and go at random, on the host and on the simulated device.
#include "support/cmocka.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <set>
#include <vector>

#include "core/device_handle.h"
#include "device/sim_device.h"
#include "larder/larder.h"
#include "support/seed.h"

using namespace larder;

namespace {

struct Model {  // one adapter
    int32_t row = 0;
    std::vector<std::vector<uint32_t>> experts;  // [layer][d]
    unsigned char mark = 0;
};

struct Bed {
    uint32_t n_layers, n_base, max_adapters, max_tuned;
    std::vector<uint64_t> slot_bytes;
    uint64_t page_bytes;
    larder_context* context = nullptr;
    larder_device* device = nullptr;
    larder_vtensor* v = nullptr;
    std::map<uint64_t, Model> adapters;

    explicit Bed(bool simulated) {
        Rng rng(test_seed());
        n_layers = 1 + uint32_t(rng.below(4));
        n_base = 4 + uint32_t(rng.below(20));
        max_adapters = 2 + uint32_t(rng.below(6));
        max_tuned = 1 + uint32_t(rng.below(n_base));
        page_bytes = uint64_t(4096) << rng.below(3);
        for (uint64_t m = 0; m < 1 + rng.below(3); ++m) slot_bytes.push_back((1 + rng.below(40)) * 512);
        assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK);
        if (simulated) {
            larder_device_options o = LARDER_DEVICE_OPTIONS_INIT;
            o.name = "sim";
            o.sim_granularity_bytes = page_bytes;
            o.sim_memory_bytes = 256 << 20;
            assert_int_equal(larder_device_open(context, &o, &device), LARDER_OK);
        }
        larder_vtensor_options o = LARDER_VTENSOR_OPTIONS_INIT;
        o.n_layers = n_layers;
        o.n_base = n_base;
        o.max_adapters = max_adapters;
        o.max_tuned = max_tuned;
        o.n_matrices = uint32_t(slot_bytes.size());
        o.slot_bytes = slot_bytes.data();
        o.page_bytes = page_bytes;
        o.device = device;
        assert_int_equal(larder_vtensor_create(context, &o, &v), LARDER_OK);
    }
    ~Bed() {
        larder_vtensor_destroy(v);
        larder_device_close(device);
        assert_int_equal(larder_context_destroy(context), LARDER_OK);
    }
    larder_vtensor_view view(uint32_t layer, uint32_t m) const {
        larder_vtensor_view out = LARDER_VTENSOR_VIEW_INIT;
        assert_int_equal(larder_vtensor_get_view(v, layer, m, &out), LARDER_OK);
        return out;
    }
    uint32_t first_slot(const larder_vtensor_view& w, const Model& a) const {
        return a.row ? w.first_row_slot + uint32_t(a.row - 1) * w.row_slots : 0;
    }
    // The base model as row 0: it has every expert.
    Model base() const {
        std::vector<uint32_t> all(n_base);
        for (uint32_t e = 0; e < n_base; ++e) all[e] = e;
        return {0, std::vector<std::vector<uint32_t>>(n_layers, all), 0xb5};
    }
    // Every tuned expert of an adapter in every matrix.
    template <class F> void each_slot(const Model& a, F f) const {
        for (uint32_t l = 0; l < n_layers; ++l)
            for (uint32_t m = 0; m < slot_bytes.size(); ++m) {
                const larder_vtensor_view w = view(l, m);
                for (uint32_t d = 0; d < a.experts[l].size(); ++d)
                    f(w.base + (first_slot(w, a) + d) * w.slot_bytes, w.slot_bytes);
            }
    }
};

void write(const Bed& bed, const Model& a) {
    bed.each_slot(a, [&](uint64_t p, uint64_t n) {
        std::vector<unsigned char> bytes(n, a.mark);
        if (!bed.device)
            std::memcpy(reinterpret_cast<void*>(p), bytes.data(), n);
        else
            assert_int_equal(larder_device_copy_in(bed.device, p, bytes.data(), n, 0), LARDER_OK);
        if (bed.device) static_cast<SimDevice&>(*bed.device->device).drain();
    });
}

void check_contents(const Bed& bed, const Model& a) {
    bed.each_slot(a, [&](uint64_t p, uint64_t n) {
        std::vector<unsigned char> bytes(n);
        if (!bed.device)
            std::memcpy(bytes.data(), reinterpret_cast<void*>(p), n);
        else
            assert_int_equal(larder_device_copy_out(bed.device, bytes.data(), p, n, 0), LARDER_OK);
        if (bed.device) static_cast<SimDevice&>(*bed.device->device).drain();
        for (unsigned char b : bytes) assert_int_equal(b, a.mark);
    });
}

// The books against sums over the model, and the bound that the paper promises.
void check_books(const Bed& bed) {
    uint64_t experts = 0, mapped = 0, n_partial = 0, n_pieces = 0, each = 0;
    auto add = [&](uint64_t n, uint64_t slot) {
        if (!n) return;
        const uint64_t bytes = n * slot, pages = (bytes + bed.page_bytes - 1) / bed.page_bytes;
        experts += bytes;
        mapped += pages * bed.page_bytes;
        n_partial += bytes % bed.page_bytes != 0;
        ++n_pieces;
    };
    for (uint64_t slot : bed.slot_bytes) {
        each += slot;
        for (uint32_t l = 0; l < bed.n_layers; ++l) add(bed.n_base, slot);
        for (auto& [id, a] : bed.adapters)
            for (auto& e : a.experts) add(e.size(), slot);
    }
    larder_vtensor_state s = LARDER_VTENSOR_STATE_INIT;
    assert_int_equal(larder_vtensor_query(bed.v, &s), LARDER_OK);
    assert_int_equal(s.n_adapters, bed.adapters.size());
    assert_int_equal(s.expert_bytes, experts);
    assert_int_equal(s.mapped_bytes, mapped);
    assert_int_equal(s.n_boundary_pages, n_partial);
    assert_int_equal(s.padded_bytes, each * bed.n_layers * (bed.n_base + bed.adapters.size() * bed.max_tuned));
    assert_true(s.mapped_bytes <= s.expert_bytes + n_pieces * bed.page_bytes);
    if (bed.device) assert_int_equal(static_cast<SimDevice&>(*bed.device->device).used_bytes(), mapped);
}

void check_routes(const Bed& bed, Rng& rng) {
    std::vector<const Model*> by_row(bed.max_adapters + 1, nullptr);
    std::vector<int32_t> live{0};
    for (auto& [id, a] : bed.adapters) by_row[size_t(a.row)] = &a, live.push_back(a.row);
    const uint32_t layer = uint32_t(rng.below(bed.n_layers)), n = 17, k = 3;
    const larder_vtensor_view w = bed.view(layer, 0);
    std::vector<int32_t> rows(n), ids(n * k), want(n * k);
    for (uint32_t t = 0; t < n; ++t) {
        rows[t] = live[rng.below(live.size())];
        for (uint32_t j = 0; j < k; ++j) {
            const uint32_t e = uint32_t(rng.below(bed.n_base));
            ids[t * k + j] = want[t * k + j] = int32_t(e);
            if (!rows[t]) continue;
            const Model& a = *by_row[size_t(rows[t])];
            for (uint32_t d = 0; d < a.experts[layer].size(); ++d)
                if (a.experts[layer][d] == e) want[t * k + j] = int32_t(bed.first_slot(w, a) + d);
        }
    }
    std::vector<int32_t> before = ids;
    assert_int_equal(larder_vtensor_route(bed.v, layer, rows.data(), n, k, ids.data()), LARDER_OK);
    assert_memory_equal(ids.data(), want.data(), ids.size() * 4);
    const uint32_t stride = bed.n_base + 3;
    std::vector<int32_t> table((bed.max_adapters + 1) * stride, -7);
    assert_int_equal(larder_vtensor_export_routes(bed.v, layer, table.data(), stride), LARDER_OK);
    for (uint32_t i = 0; i < n * k; ++i)
        assert_int_equal(table[size_t(rows[i / k]) * stride + size_t(before[i])], want[i]);
    for (uint32_t row = 0; row <= bed.max_adapters; ++row)
        for (uint32_t i = bed.n_base; i < stride; ++i) assert_int_equal(table[row * stride + i], -7);
    // A bad entry anywhere leaves all as it was.
    ids = before;
    ids[rng.below(ids.size())] = rng.below(2) ? int32_t(bed.n_base) : -1;
    before = ids;
    assert_int_equal(larder_vtensor_route(bed.v, layer, rows.data(), n, k, ids.data()), LARDER_E_RANGE);
    assert_memory_equal(ids.data(), before.data(), ids.size() * 4);
}

void come(Bed& bed, Rng& rng) {
    Model a;
    std::vector<uint32_t> n_tuned, flat;
    for (uint32_t l = 0; l < bed.n_layers; ++l) {
        std::set<uint32_t> s;
        for (uint64_t i = rng.below(bed.max_tuned + 1); i; --i) s.insert(uint32_t(rng.below(bed.n_base)));
        a.experts.emplace_back(s.begin(), s.end());
        n_tuned.push_back(uint32_t(s.size()));
        flat.insert(flat.end(), s.begin(), s.end());
    }
    a.mark = static_cast<unsigned char>(1 + rng.below(255));
    uint64_t id = 0;
    const larder_status s = larder_vtensor_map(bed.v, n_tuned.data(), flat.data(), &id, &a.row);
    if (bed.adapters.size() == bed.max_adapters) {
        assert_int_equal(s, LARDER_E_NOSPACE);
        return;
    }
    assert_int_equal(s, LARDER_OK);
    assert_in_range(a.row, 1, bed.max_adapters);
    write(bed, a);
    assert_true(bed.adapters.emplace(id, a).second);
}

void random_adapters(bool simulated) {
    Bed bed(simulated);
    Rng rng(test_seed() + 1);
    uint64_t gone = 0;
    const Model base = bed.base();
    write(bed, base);
    for (uint64_t i = 0; i < test_rounds(400); ++i) {
        if (rng.below(2)) {
            come(bed, rng);
        } else if (!bed.adapters.empty()) {
            auto it = bed.adapters.begin();
            std::advance(it, ptrdiff_t(rng.below(bed.adapters.size())));
            check_contents(bed, it->second);  // nobody else's weights came into it
            gone = it->first;
            assert_int_equal(larder_vtensor_unmap(bed.v, gone), LARDER_OK);
            const int32_t row = it->second.row;
            int32_t one = 0;
            bed.adapters.erase(it);
            assert_int_equal(larder_vtensor_route(bed.v, 0, &row, 1, 1, &one), LARDER_E_STALE);
        }
        if (gone) assert_int_equal(larder_vtensor_unmap(bed.v, gone), LARDER_E_STALE);
        check_books(bed);
        check_routes(bed, rng);
    }
    for (auto& [id, a] : bed.adapters) check_contents(bed, a);
    check_contents(bed, base);  // no adapter lies over a base expert
    if (bed.device) assert_int_equal(static_cast<SimDevice&>(*bed.device->device).n_violations(), 0);
}

void on_the_host(void**) {
    random_adapters(false);
}

void on_the_device(void**) {
    random_adapters(true);
}

// What the kernel says is resident is what the books say is mapped, once every page was written.
void resident_memory(void**) {
    larder_context* c = nullptr;
    assert_int_equal(larder_context_create(nullptr, &c), LARDER_OK);
    const uint64_t page = uint64_t(sysconf(_SC_PAGESIZE)), slot = page + page / 2;
    larder_vtensor_options o = LARDER_VTENSOR_OPTIONS_INIT;
    o.n_layers = 1;
    o.n_base = 8;
    o.max_adapters = 4;
    o.max_tuned = 3;
    o.n_matrices = 1;
    o.slot_bytes = &slot;
    o.page_bytes = page;
    larder_vtensor* v = nullptr;
    assert_int_equal(larder_vtensor_create(c, &o, &v), LARDER_OK);
    larder_vtensor_view w = LARDER_VTENSOR_VIEW_INIT;
    assert_int_equal(larder_vtensor_get_view(v, 0, 0, &w), LARDER_OK);
    assert_int_equal(w.row_slots % 2, 0);  // each row begins on a page
    std::memset(reinterpret_cast<void*>(w.base), 1, 8 * slot);
    const uint32_t n_tuned = 3, experts[3] = {7, 0, 4};
    uint64_t id[3];
    int32_t row[3];
    for (int i = 0; i < 3; ++i) {
        assert_int_equal(larder_vtensor_map(v, &n_tuned, experts, &id[i], &row[i]), LARDER_OK);
        std::memset(reinterpret_cast<void*>(w.base + (w.first_row_slot + uint32_t(row[i] - 1) * w.row_slots) * slot), 2,
                    3 * slot);
    }
    assert_int_equal(larder_vtensor_unmap(v, id[1]), LARDER_OK);
    larder_vtensor_state s = LARDER_VTENSOR_STATE_INIT;
    assert_int_equal(larder_vtensor_query(v, &s), LARDER_OK);
    std::vector<unsigned char> resident(s.reserved_bytes / page);
    assert_int_equal(mincore(reinterpret_cast<void*>(w.base), s.reserved_bytes, resident.data()), 0);
    uint64_t n = 0;
    for (unsigned char r : resident) n += r & 1;
    assert_int_equal(n * page, s.mapped_bytes);
    assert_int_equal(s.mapped_bytes, (12 + 2 * 5) * page);
    larder_vtensor_destroy(v);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

void bad_input(void**) {
    larder_context* c = nullptr;
    assert_int_equal(larder_context_create(nullptr, &c), LARDER_OK);
    const uint64_t slot = 3 << 20, huge = uint64_t(1) << 45, odd = 4097;
    larder_vtensor_options good = LARDER_VTENSOR_OPTIONS_INIT;
    good.n_layers = 2;
    good.n_base = 2;
    good.max_adapters = 2;
    good.max_tuned = 2;
    good.n_matrices = 1;
    good.slot_bytes = &slot;
    larder_vtensor* v = nullptr;
    auto try_with = [&](auto change) {
        larder_vtensor_options o = good;
        change(o);
        return larder_vtensor_create(c, &o, &v);
    };
    assert_int_equal(try_with([](auto& o) { o.n_layers = 0; }), LARDER_E_RANGE);
    assert_int_equal(try_with([](auto& o) { o.max_tuned = 3; }), LARDER_E_RANGE);
    assert_int_equal(try_with([](auto& o) { o.n_matrices = 17; }), LARDER_E_RANGE);
    assert_int_equal(try_with([](auto& o) { o.slot_bytes = nullptr; }), LARDER_E_INVALID);
    assert_int_equal(try_with([](auto& o) { o.page_bytes = 5000; }), LARDER_E_INVALID);
    assert_int_equal(try_with([](auto& o) { o.page_bytes = 512; }), LARDER_E_INVALID);
    assert_int_equal(try_with([&](auto& o) { o.slot_bytes = &huge; }), LARDER_E_RANGE);
    // Rows of odd bytes begin on a page only every 2^21 slots.
    assert_int_equal(try_with([&](auto& o) { o.slot_bytes = &odd, o.max_adapters = 2000; }), LARDER_E_RANGE);
    assert_null(v);
    assert_int_equal(larder_vtensor_create(c, &good, &v), LARDER_OK);
    const uint32_t twice[2] = {2, 0}, same[2] = {1, 1}, beyond[2] = {1, 2}, many[2] = {3, 0};
    uint64_t id = 0;
    int32_t row = 0;
    assert_int_equal(larder_vtensor_map(v, twice, same, &id, &row), LARDER_E_INVALID);
    assert_int_equal(larder_vtensor_map(v, twice, beyond, &id, &row), LARDER_E_RANGE);
    assert_int_equal(larder_vtensor_map(v, twice, nullptr, &id, &row), LARDER_E_INVALID);
    assert_int_equal(larder_vtensor_map(v, many, same, &id, &row), LARDER_E_RANGE);
    assert_int_equal(larder_vtensor_unmap(v, 0), LARDER_E_STALE);
    const int32_t rows[2] = {3, -1};
    int32_t expert = 0;
    assert_int_equal(larder_vtensor_route(v, 0, &rows[0], 1, 1, &expert), LARDER_E_RANGE);
    assert_int_equal(larder_vtensor_route(v, 0, &rows[1], 1, 1, &expert), LARDER_E_RANGE);
    assert_int_equal(larder_vtensor_route(v, 2, rows, 0, 1, nullptr), LARDER_E_RANGE);
    assert_int_equal(larder_vtensor_export_routes(v, 0, &expert, 1), LARDER_E_BUFFER_TOO_SMALL);
    assert_int_equal(larder_context_destroy(c), LARDER_E_BUSY);
    larder_vtensor_destroy(v);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(on_the_host),
        cmocka_unit_test(on_the_device),
        cmocka_unit_test(resident_memory),
        cmocka_unit_test(bad_input),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
