// The expert cache against a naive model: random acquires and releases on the host and on the simulated device, from
// every kind of source, with loads that fail; every byte of every expert is looked at.
#include "support/cmocka.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "base/hash.h"
#include "core/device_handle.h"
#include "device/sim_device.h"
#include "larder/larder.h"
#include "support/seed.h"
#include "support/temp_dir.h"

using larder::Rng;

namespace {

enum class Source { memory, file, store, callback };

// What the sources hold.
struct Model {
    uint32_t n_layers, n_experts;
    uint64_t n_bytes;
    std::vector<unsigned char> bytes;
    std::set<std::pair<uint32_t, uint32_t>> bad;  // loads of these fail
    Model(Rng& r, uint32_t layers, uint32_t experts, uint64_t n)
        : n_layers(layers), n_experts(experts), n_bytes(n), bytes(layers * experts * n) {
        for (unsigned char& b : bytes) b = (unsigned char)(r.next());
    }
    const unsigned char* of(uint32_t layer, uint32_t e) const { return &bytes[(layer * n_experts + e) * n_bytes]; }
};

larder_status load(void* ctx, uint32_t layer, uint32_t e, uint64_t offset, void* dst, uint64_t n) {
    auto& m = *static_cast<Model*>(ctx);
    // At the second chunk: the first is thrown away with it.
    if (m.bad.count({layer, e}) && offset + n == m.n_bytes) return LARDER_E_IO;
    std::memcpy(dst, m.of(layer, e) + offset, n);
    return LARDER_OK;
}

struct Bed {
    TempDir dir;
    Model model;
    larder_context* context = nullptr;
    larder_device* device = nullptr;
    larder_store* store = nullptr;
    larder_queue* queue = nullptr;
    larder_expert_cache* cache = nullptr;
    std::vector<larder_key> keys;
    std::vector<uint32_t> sums;

    Bed(Rng& r, Source source, bool simulated, uint32_t n_slots, larder_expert_policy policy)
        : model(r, 1 + uint32_t(r.below(3)), 4 + uint32_t(r.below(80)), 3000 + r.below(6000)) {
        larder_context_options co = LARDER_CONTEXT_OPTIONS_INIT;
        co.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        assert_int_equal(larder_context_create(&co, &context), LARDER_OK);
        if (simulated) {
            larder_device_options o = LARDER_DEVICE_OPTIONS_INIT;
            o.name = "sim";
            o.sim_latency_ns = 1;
            assert_int_equal(larder_device_open(context, &o, &device), LARDER_OK);
        }
        assert_int_equal(larder_queue_create(context, nullptr, &queue), LARDER_OK);
        larder_expert_precision p = LARDER_EXPERT_PRECISION_INIT;
        p.n_bytes = model.n_bytes;
        p.layer_slots = n_slots;
        larder_object_want want = LARDER_OBJECT_WANT_INIT;
        const std::string path = dir.path() + "/experts";
        give_source(p, source, path, want);
        for (uint32_t i = 0; i < model.n_layers * model.n_experts; ++i)
            sums.push_back(larder::crc32c(0, &model.bytes[i * model.n_bytes], model.n_bytes));
        if (r.below(2)) p.crc32c = sums.data();
        larder_expert_options o = LARDER_EXPERT_OPTIONS_INIT;
        o.n_layers = model.n_layers;
        o.n_experts = model.n_experts;
        o.n_precisions = 1;
        o.precisions = &p;
        o.precision_stride = sizeof p;
        o.policy = policy;
        o.max_leases = 4;
        o.n_channels = 1 + uint32_t(r.below(3));
        o.chunk_bytes = 4096;
        o.device = device;
        assert_int_equal(larder_expert_create(context, &o, &cache), LARDER_OK);
    }
    ~Bed() {
        larder_expert_destroy(cache);
        larder_queue_destroy(queue);
        larder_store_close(store);
        if (device) {
            auto& sim = static_cast<larder::SimDevice&>(*device->device);
            assert_int_equal(sim.n_violations(), 0);
            assert_int_equal(sim.n_live(), 0);
        }
        larder_device_close(device);
        assert_int_equal(larder_context_destroy(context), LARDER_OK);
    }
    void give_source(larder_expert_precision& p, Source source, const std::string& path, larder_object_want& want) {
        if (source == Source::memory) {
            p.source = LARDER_EXPERT_SOURCE_MEMORY;
            p.memory = model.bytes.data();
        } else if (source == Source::callback) {
            p.source = LARDER_EXPERT_SOURCE_CALLBACK;
            p.load = {load, &model, nullptr};
        } else if (source == Source::file) {
            std::FILE* f = std::fopen(path.c_str(), "wb");
            assert_non_null(f);
            assert_int_equal(std::fwrite("head", 1, 4, f), 4);
            assert_int_equal(std::fwrite(model.bytes.data(), 1, model.bytes.size(), f), model.bytes.size());
            std::fclose(f);
            p.source = LARDER_EXPERT_SOURCE_FILE;
            p.path = path.c_str();
            p.offset_bytes = 4;
        } else {
            fill_store();
            p.source = LARDER_EXPERT_SOURCE_STORE;
            p.store = store;
            p.keys = keys.data();
            p.want = &want;
        }
    }
    void fill_store() {
        larder_store_options o = LARDER_STORE_OPTIONS_INIT;
        o.host_bytes = 16 << 20;
        assert_int_equal(larder_store_open(context, &o, &store), LARDER_OK);
        larder_object_meta meta = LARDER_OBJECT_META_INIT;
        for (uint32_t i = 0; i < model.n_layers * model.n_experts; ++i) {
            larder_key k{};
            std::memcpy(k.bytes, &i, sizeof i);
            keys.push_back(k);
            larder_store_put_item item = LARDER_STORE_PUT_ITEM_INIT;
            item.key = k;
            item.meta = &meta;
            item.data = &model.bytes[i * model.n_bytes];
            item.n_bytes = model.n_bytes;
            assert_int_equal(larder_store_put(store, &item, sizeof item, 1, nullptr, nullptr, 0, nullptr), LARDER_OK);
        }
    }
    void check_bytes(uint32_t layer, uint32_t e, larder_device_ptr at) {
        std::vector<unsigned char> out(model.n_bytes);
        if (device) {
            larder_event_id event = 0;
            assert_int_equal(larder_device_copy_out(device, out.data(), at, out.size(), 0), LARDER_OK);
            assert_int_equal(larder_device_event_create(device, &event), LARDER_OK);
            assert_int_equal(larder_device_event_record(device, event, 0), LARDER_OK);
            assert_int_equal(larder_device_event_wait(device, event), LARDER_OK);
            larder_device_event_destroy(device, event);
        } else {
            std::memcpy(out.data(), reinterpret_cast<const void*>(at), out.size());
        }
        assert_memory_equal(out.data(), model.of(layer, e), out.size());
    }
    larder_expert_state state() {
        larder_expert_state s = LARDER_EXPERT_STATE_INIT;
        assert_int_equal(larder_expert_query(cache, &s), LARDER_OK);
        return s;
    }
};

// Least recently used goes, unless somebody holds it.
struct NaiveLayer {
    struct Entry {
        uint64_t last = 0;
        int holders = 0;
        bool failed = false;
    };
    std::map<uint32_t, Entry> there;
};
struct Naive {
    uint32_t n_slots;
    uint64_t now = 0, n_hits = 0, n_acquired = 0;
    std::vector<NaiveLayer> layers;

    larder_status acquire(uint32_t layer, const std::vector<uint32_t>& experts, const Model& m) {
        auto& there = layers[layer].there;
        if (experts.size() > n_slots) return LARDER_E_NOSPACE;
        size_t n_absent = 0, n_free = n_slots - there.size();
        for (uint32_t e : experts) n_absent += !there.count(e);
        for (const auto& [e, entry] : there)
            n_free += !entry.holders && std::find(experts.begin(), experts.end(), e) == experts.end();
        if (n_absent > n_free) return LARDER_E_BUSY;
        ++now;
        n_acquired += experts.size();
        for (uint32_t e : experts) {
            const auto at = there.find(e);
            if (at != there.end()) n_hits += !at->second.failed, at->second.last = now, ++at->second.holders;
        }
        bool failed = false;
        for (uint32_t e : experts) {
            if (!there.count(e)) {
                if (there.size() == n_slots) there.erase(victim(there));
                there[e] = {now, 1, false};
            }
            there[e].failed = m.bad.count({layer, e});
            failed |= there[e].failed;
        }
        return failed ? LARDER_PARTIAL : LARDER_OK;
    }
    static uint32_t victim(const std::map<uint32_t, NaiveLayer::Entry>& there) {
        std::optional<std::pair<uint64_t, uint32_t>> least;
        for (const auto& [e, entry] : there)
            if (!entry.holders && (!least || std::pair{entry.last, e} < *least)) least = {entry.last, e};
        return least->second;
    }
    void release(uint32_t layer, const std::vector<uint32_t>& experts) {
        auto& there = layers[layer].there;
        for (uint32_t e : experts)
            if (--there[e].holders == 0 && there[e].failed) there.erase(e);
    }
};

struct Held {
    larder_expert_lease lease;
    uint32_t layer;
    std::vector<uint32_t> experts;
    std::vector<larder_expert_view> views;
};

std::vector<uint32_t> some_experts(Rng& r, uint32_t n_experts, uint32_t n) {
    std::set<uint32_t> set;
    const uint64_t span = 1 + r.below(n_experts);
    while (set.size() < std::min<uint64_t>(n, span)) set.insert(uint32_t(r.below(span)));
    std::vector<uint32_t> out(set.begin(), set.end());
    for (size_t i = out.size(); i > 1; --i) std::swap(out[i - 1], out[r.below(i)]);
    return out;
}

// The job's way: views are ready by turns, and the completion tells of failures.
larder_status by_job(Bed& bed, Rng& r, uint32_t layer, Held& h) {
    larder_job job = 0;
    const larder_status s = larder_expert_acquire(bed.cache, layer, h.experts.data(), uint32_t(h.experts.size()),
                                                  h.views.data(), sizeof h.views[0], bed.queue, 7, &job, &h.lease);
    if (s != LARDER_PENDING) return s;
    std::vector<uint32_t> turns;
    for (const auto& v : h.views) turns.push_back(v.turn);
    std::sort(turns.begin(), turns.end());
    for (uint32_t i = 0; i < turns.size(); ++i) assert_int_equal(turns[i], i);
    if (r.below(2)) {
        const uint32_t turn = uint32_t(r.below(h.experts.size()));
        assert_int_equal(larder_job_wait_layer(bed.queue, job, turn, UINT64_MAX), LARDER_OK);
        for (size_t i = 0; i < h.views.size(); ++i)
            if (h.views[i].turn <= turn) assert_true(h.views[i].status != LARDER_PENDING);
    }
    larder_completion c{};
    uint32_t n = 0;
    assert_int_equal(larder_queue_wait(bed.queue, &c, sizeof c, 1, UINT64_MAX, &n), LARDER_OK);
    assert_int_equal(n, 1);
    assert_int_equal(c.user_data, 7);
    assert_true(c.status == LARDER_OK || c.status == LARDER_PARTIAL);
    uint32_t n_failed = 0;
    for (const auto& v : h.views) n_failed += v.status < 0;
    assert_int_equal(c.n_failed, n_failed);
    return c.status;
}

void check_views(Bed& bed, const Held& h) {
    std::set<larder_device_ptr> addresses;
    for (size_t i = 0; i < h.views.size(); ++i) {
        const bool bad = bed.model.bad.count({h.layer, h.experts[i]});
        assert_int_equal(h.views[i].status, bad ? LARDER_E_IO : LARDER_OK);
        if (bad) {
            assert_int_equal(h.views[i].address, 0);
            continue;
        }
        assert_int_equal(h.views[i].address % 256, 0);
        assert_true(addresses.insert(h.views[i].address).second);
        bed.check_bytes(h.layer, h.experts[i], h.views[i].address);
    }
}

void refuse_rubbish(Bed& bed, Rng& r) {
    larder_expert_view views[3];
    larder_expert_lease lease = 1;
    const uint32_t n = bed.model.n_experts;
    const uint32_t twice[] = {0, 1, 0}, outside[] = {0, n};
    const auto ask = [&](uint32_t layer, const uint32_t* ids, uint32_t k) {
        return larder_expert_acquire(bed.cache, layer, ids, k, views, sizeof views[0], nullptr, 0, nullptr, &lease);
    };
    assert_int_equal(ask(0, twice, 3), LARDER_E_INVALID);
    assert_int_equal(ask(0, outside, 2), LARDER_E_RANGE);
    assert_int_equal(ask(bed.model.n_layers, twice, 1), LARDER_E_RANGE);
    assert_int_equal(ask(0, twice, 0), LARDER_E_INVALID);
    assert_int_equal(larder_expert_release(bed.cache, r.next()), LARDER_E_STALE);
}

void drive(Rng& r, Source source, bool simulated) {
    const uint32_t n_slots = 1 + uint32_t(r.below(12));
    Bed bed(r, source, simulated, n_slots, LARDER_EXPERT_LRU);
    if (source == Source::callback)
        for (int i = 0; i < 3; ++i)
            bed.model.bad.insert({uint32_t(r.below(bed.model.n_layers)), uint32_t(r.below(bed.model.n_experts))});
    Naive naive{std::min(n_slots, bed.model.n_experts), 0, 0, 0, std::vector<NaiveLayer>(bed.model.n_layers)};
    std::vector<Held> held;
    for (uint64_t step = 0; step < 150; ++step) {
        if (held.size() && (held.size() >= 4 || r.below(2))) {
            const size_t i = r.below(held.size());
            check_views(bed, held[i]);  // others came and went; this one stayed
            assert_int_equal(larder_expert_release(bed.cache, held[i].lease), LARDER_OK);
            assert_int_equal(larder_expert_release(bed.cache, held[i].lease), LARDER_E_STALE);
            naive.release(held[i].layer, held[i].experts);
            held.erase(held.begin() + ptrdiff_t(i));
        } else {
            Held h;
            h.layer = uint32_t(r.below(bed.model.n_layers));
            h.experts = some_experts(r, bed.model.n_experts, 1 + uint32_t(r.below(n_slots + 1)));
            h.views.resize(h.experts.size());
            const larder_status expected = naive.acquire(h.layer, h.experts, bed.model);
            const larder_status s =
                r.below(2) ? by_job(bed, r, h.layer, h)
                           : larder_expert_acquire(bed.cache, h.layer, h.experts.data(), uint32_t(h.experts.size()),
                                                   h.views.data(), sizeof h.views[0], nullptr, 0, nullptr, &h.lease);
            assert_int_equal(s, expected);
            if (s < 0) {
                assert_int_equal(h.lease, 0);
            } else {
                check_views(bed, h);
                held.push_back(h);
            }
        }
        assert_int_equal(larder_expert_verify(bed.cache), LARDER_OK);
        const larder_expert_state state = bed.state();
        assert_int_equal(state.n_leases, held.size());
        assert_int_equal(state.n_acquired, naive.n_acquired);
        assert_int_equal(state.n_hits, naive.n_hits);
    }
    refuse_rubbish(bed, r);
    assert_int_equal(larder_expert_verify(bed.cache), LARDER_OK);
}

void against_naive(void**) {
    Rng r(test_seed());
    for (uint64_t round = 0; round < test_rounds(3); ++round)
        for (Source s : {Source::memory, Source::file, Source::store, Source::callback})
            for (bool simulated : {false, true}) drive(r, s, simulated);
}

// The live cache and the replay are one code: they hit alike.
void as_replayed(void**) {
    Rng r(test_seed() + 1);
    for (uint64_t round = 0; round < test_rounds(3); ++round)
        for (larder_expert_policy policy : {LARDER_EXPERT_LRU, LARDER_EXPERT_LFU, LARDER_EXPERT_HOBBIT,
                                            LARDER_EXPERT_MOE_INFINITY, LARDER_EXPERT_AUTO}) {
            const uint32_t n_slots = 2 + uint32_t(r.below(3));
            Bed bed(r, Source::memory, false, n_slots, policy);
            const Model& m = bed.model;
            std::vector<uint8_t> ids;
            for (uint64_t t = 0; t < 400; ++t) {
                if (t && t % 70 == 0) assert_int_equal(larder_expert_begin_sequence(bed.cache), LARDER_OK);
                for (uint32_t l = 0; l < m.n_layers; ++l) {
                    const uint32_t base = uint32_t(r.below(3) ? t / 50 : r.next()) % m.n_experts;
                    const uint32_t two[] = {base, (base + 1 + uint32_t(r.below(m.n_experts - 1))) % m.n_experts};
                    ids.insert(ids.end(), two, two + 2);
                    larder_expert_view views[2];
                    larder_expert_lease lease = 0;
                    assert_int_equal(larder_expert_acquire(bed.cache, l, two, 2, views, sizeof views[0], nullptr, 0,
                                                           nullptr, &lease),
                                     LARDER_OK);
                    assert_int_equal(larder_expert_release(bed.cache, lease), LARDER_OK);
                }
            }
            larder_moe_routing d = LARDER_MOE_ROUTING_INIT;
            d.type = LARDER_MOE_U8;
            d.n_layers = m.n_layers, d.n_experts = m.n_experts, d.k = 2, d.n_tokens = 400;
            d.ids = ids.data(), d.n_bytes = ids.size(), d.sequence_tokens = 70;
            larder_expert_replay_options o = LARDER_EXPERT_REPLAY_OPTIONS_INIT;
            o.policy = policy, o.layer_slots = n_slots;
            larder_expert_replay_result result = LARDER_EXPERT_REPLAY_RESULT_INIT;
            assert_int_equal(larder_expert_replay(bed.context, &d, &o, nullptr, &result), LARDER_OK);
            assert_int_equal(bed.state().n_hits, result.n_hits);
            assert_int_equal(bed.state().n_evictions, result.n_evictions);
        }
}

// Weights that changed where they lie: the checksum finds it, and only it.
void corrupt_weights(void**) {
    Rng r(test_seed() + 2);
    for (bool simulated : {false, true}) {
        Bed bed(r, Source::memory, simulated, 4, LARDER_EXPERT_AUTO);
        larder_expert_destroy(bed.cache);
        larder_expert_precision p = LARDER_EXPERT_PRECISION_INIT;
        p.n_bytes = bed.model.n_bytes;
        p.layer_slots = 4;
        p.source = LARDER_EXPERT_SOURCE_MEMORY;
        p.memory = bed.model.bytes.data();
        p.crc32c = bed.sums.data();
        larder_expert_options o = LARDER_EXPERT_OPTIONS_INIT;
        o.n_layers = bed.model.n_layers;
        o.n_experts = bed.model.n_experts;
        o.n_precisions = 1;
        o.precisions = &p;
        o.precision_stride = sizeof p;
        o.chunk_bytes = 4096;
        o.device = bed.device;
        assert_int_equal(larder_expert_create(bed.context, &o, &bed.cache), LARDER_OK);
        bed.model.bytes[bed.model.n_bytes + r.below(bed.model.n_bytes)] ^= 1;  // of expert 1
        const uint32_t ids[] = {0, 1, 2};
        larder_expert_view v[3];
        larder_expert_lease lease = 0;
        assert_int_equal(larder_expert_acquire(bed.cache, 0, ids, 3, v, sizeof v[0], nullptr, 0, nullptr, &lease),
                         LARDER_PARTIAL);
        assert_int_equal(v[0].status, LARDER_OK);
        assert_int_equal(v[1].status, LARDER_E_CORRUPT);
        assert_int_equal(v[2].status, LARDER_OK);
        bed.check_bytes(0, 2, v[2].address);
        assert_int_equal(larder_expert_release(bed.cache, lease), LARDER_OK);
        assert_int_equal(bed.state().n_failed, 1);
        assert_int_equal(larder_expert_verify(bed.cache), LARDER_OK);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(against_naive),
        cmocka_unit_test(as_replayed),
        cmocka_unit_test(corrupt_weights),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
