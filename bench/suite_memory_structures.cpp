// The memory room beyond arenas: virtual tensors, the cell pool, states, placement, translation, swap plans.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <list>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/hash.h"
#include "bench/bench.h"
#include "larder/larder.h"

using larder::Rng;

void memory_structures(bench::Run& run);

namespace {

void must(larder_status s, const char* what) {
    if (s >= 0) return;
    larder_error_info e = LARDER_ERROR_INFO_INIT;
    larder_last_error(&e);
    std::fprintf(stderr, "%s: %s\n", what, e.message);
    std::exit(2);
}

struct Context {
    larder_context* c = nullptr;
    Context() { must(larder_context_create(nullptr, &c), "context"); }
    ~Context() { larder_context_destroy(c); }
};

// DeepSeek-V2-Lite's experts (three matrices of 1408 x 2048 in bf16, 64 per layer) and 20 adapters that tune 4 to 10 of
// them in a layer, 13 at most: ExpertWeave's setting, with 2 of its 26 layers.
void virtual_tensors(bench::Run& run) {
    Context ctx;
    const uint64_t slot_bytes[3] = {1408 * 2048 * 2, 1408 * 2048 * 2, 1408 * 2048 * 2};
    larder_vtensor_options o = LARDER_VTENSOR_OPTIONS_INIT;
    o.n_layers = 2;
    o.n_base = 64;
    o.max_adapters = 20;
    o.max_tuned = 13;
    o.n_matrices = 3;
    o.slot_bytes = slot_bytes;
    larder_vtensor* v = nullptr;
    must(larder_vtensor_create(ctx.c, &o, &v), "virtual tensor");
    Rng rng(4);
    std::vector<std::unordered_map<int32_t, int32_t>> maps(21);
    larder_vtensor_view view = LARDER_VTENSOR_VIEW_INIT;
    must(larder_vtensor_get_view(v, 0, 0, &view), "view");
    for (int a = 0; a < 20; ++a) {
        uint32_t n[2], experts[26], at = 0;
        for (uint32_t& count : n) {
            count = 4 + uint32_t(rng.below(7));
            for (uint32_t d = 0, first = uint32_t(rng.below(64)); d < count; ++d) experts[at++] = (first + 3 * d) % 64;
        }
        uint64_t id;
        int32_t row;
        must(larder_vtensor_map(v, n, experts, &id, &row), "map");
        for (uint32_t d = 0; d < n[0]; ++d)
            maps[size_t(row)][int32_t(experts[d])] =
                int32_t(view.first_row_slot + uint32_t(row - 1) * view.row_slots + d);
    }
    larder_vtensor_state s = LARDER_VTENSOR_STATE_INIT;
    larder_vtensor_query(v, &s);
    run.row({.name = "vtensor-bytes",
             .metric = "memory over bytes of experts, 20 adapters",
             .unit = "x",
             .larder = double(s.mapped_bytes) / double(s.expert_bytes),
             .peers = {{"padded tensor", double(s.padded_bytes) / double(s.expert_bytes)}},
             .note = std::to_string(s.n_boundary_pages) + " part pages of 2 MiB"});
    const uint32_t n_tokens = 4096, k = 6;
    std::vector<int32_t> rows(n_tokens), ids(n_tokens * k), work(ids.size());
    for (auto& r : rows) r = int32_t(rng.below(21));
    for (auto& i : ids) i = int32_t(rng.below(64));
    const int n = run.size(300, 60);
    auto t =
        bench::interleave(run.rounds(), {{"larder",
                                          [&] {
                                              return bench::cpu_seconds([&] {
                                                  for (int i = 0; i < n; ++i) {
                                                      work = ids;
                                                      larder_vtensor_route(v, 0, rows.data(), n_tokens, k, work.data());
                                                      bench::keep(work[0]);
                                                  }
                                              });
                                          }},
                                         {"maps", [&] {
                                              return bench::cpu_seconds([&] {
                                                  for (int i = 0; i < n; ++i) {
                                                      work = ids;
                                                      for (uint32_t j = 0; j < work.size(); ++j) {
                                                          const auto& m = maps[size_t(rows[j / k])];
                                                          if (auto f = m.find(work[j]); f != m.end())
                                                              work[j] = f->second;
                                                      }
                                                      bench::keep(work[0]);
                                                  }
                                              });
                                          }}});
    const double per = 1e9 / n / double(ids.size());
    run.row({.name = "vtensor-route",
             .metric = "time to rewrite one expert id",
             .unit = "ns",
             .larder = t["larder"] * per,
             .peers = {{"a hash map per adapter", t["maps"] * per}},
             .note = ""});
    larder_vtensor_destroy(v);
}

struct Request {
    uint32_t n_tokens;
    uint32_t adapter;
};

// Lengths of the recorded conversations, an adapter for each by Zipf's law over 200 with ranks 8 to 128.
std::vector<Request> recorded(bench::Run& run) {
    std::vector<Request> out;
    const char* dir = std::getenv("LARDER_SHARED_DIR");
    std::ifstream in(std::string(dir ? dir : "") + "/data/traces/mooncake_conversation_trace.jsonl");
    std::vector<double> cumulative;
    for (int i = 1; i <= 200; ++i) cumulative.push_back((cumulative.empty() ? 0 : cumulative.back()) + 1.0 / i);
    Rng rng(17);
    for (std::string line; out.size() < run.size<size_t>(12000, 4000) && std::getline(in, line);) {
        const size_t a = line.find("\"input_length\": "), b = line.find("\"output_length\": ");
        if (a == std::string::npos || b == std::string::npos) continue;
        const uint32_t n = uint32_t(std::atoi(&line[a + 16])) + uint32_t(std::atoi(&line[b + 17]));
        const auto at = std::lower_bound(cumulative.begin(), cumulative.end(), rng.unit() * cumulative.back());
        out.push_back({n, uint32_t(at - cumulative.begin())});
    }
    return out;
}

uint32_t adapter_cells(uint32_t adapter) {
    return 4 * (8u << adapter * 7 % 5);
}

// Replays the trace in one pool: requests end in order when room is needed, adapters that nobody uses go first. Gives
// the cells that were neither asked for nor to be had, over those asked for.
double unified_waste(const std::vector<Request>& requests, uint32_t n_cells) {
    Context ctx;
    larder_cells_options o = LARDER_CELLS_OPTIONS_INIT;
    o.n_cells = n_cells;
    larder_cells* pool = nullptr;
    must(larder_cells_create(ctx.c, &o, &pool), "cells");
    struct Held {
        std::vector<int32_t> cells;
        uint32_t adapter = 0, n_users = 0;
    };
    std::list<Held> running;
    std::unordered_map<uint32_t, Held> adapters;
    uint64_t n_refused_with_room = 0, n_asked = 0;
    auto take = [&](uint32_t n, std::vector<int32_t>& out) {
        out.resize(n);
        for (;;) {
            larder_cells_state s = LARDER_CELLS_STATE_INIT;
            larder_cells_query(pool, &s);
            if (larder_cells_alloc(pool, LARDER_CELLS_ANY, n, out.data()) >= 0) break;
            if (s.n_free >= n) n_refused_with_room += s.n_free;
            auto idle = std::find_if(adapters.begin(), adapters.end(), [](auto& a) { return a.second.n_users == 0; });
            if (idle != adapters.end()) {
                must(larder_cells_free(pool, idle->second.cells.data(), uint32_t(idle->second.cells.size())), "free");
                adapters.erase(idle);
                continue;
            }
            if (running.empty()) std::exit(2);
            Held& r = running.front();
            must(larder_cells_free(pool, r.cells.data(), uint32_t(r.cells.size())), "free");
            --adapters[r.adapter].n_users;
            running.pop_front();
        }
        n_asked += n;
    };
    for (const Request& q : requests) {
        if (q.n_tokens + 512 > n_cells) continue;
        Held& a = adapters[q.adapter];
        ++a.n_users;
        if (a.cells.empty()) take(adapter_cells(q.adapter), a.cells);
        running.push_back({{}, q.adapter, 0});
        take(q.n_tokens, running.back().cells);
    }
    larder_cells_state s = LARDER_CELLS_STATE_INIT;
    larder_cells_query(pool, &s);
    uint64_t n_held = 0;
    for (auto& r : running) n_held += r.cells.size();
    for (auto& [id, a] : adapters) n_held += a.cells.size();
    const uint64_t n_padding = s.n_used - n_held;
    larder_cells_destroy(pool);
    return double(n_refused_with_room + n_padding) / double(n_asked);
}

void unified(bench::Run& run) {
    const std::vector<Request> requests = recorded(run);
    if (requests.empty()) {
        run.absent("recorded trace", "LARDER_SHARED_DIR names no mooncake_conversation_trace.jsonl");
    } else {
        uint64_t asked = 0, padded = 0;
        for (const Request& q : requests) asked += adapter_cells(q.adapter), padded += 512;
        run.row({.name = "unified-waste",
                 .metric = "cells lost to padding or fragmentation over cells asked for by adapters",
                 .unit = "",
                 .larder = unified_waste(requests, 400000),
                 .peers = {{"adapter pool padded to rank 128", double(padded - asked) / double(asked)}},
                 .note = "recorded lengths, Zipf(1) over 200 adapters of rank 8 to 128"});
    }
    Context ctx;
    larder_cells_options o = LARDER_CELLS_OPTIONS_INIT;
    o.n_cells = 32768;
    larder_cells* pool = nullptr;
    must(larder_cells_create(ctx.c, &o, &pool), "cells");
    std::vector<int32_t> list(64), state(o.n_cells, 1), sum(o.n_cells);
    const int n = run.size(200000, 40000);
    auto t = bench::interleave(run.rounds(), {{"larder",
                                               [&] {
                                                   return bench::cpu_seconds([&] {
                                                       for (int i = 0; i < n; ++i) {
                                                           larder_cells_alloc(pool, LARDER_CELLS_ANY, 64, list.data());
                                                           larder_cells_free(pool, list.data(), 64);
                                                       }
                                                   });
                                               }},
                                              {"sums", [&] {
                                                   return 100 * bench::cpu_seconds([&] {
                                                              for (int i = 0; i < n / 100; ++i) {
                                                                  int32_t total = 0;
                                                                  for (uint32_t k = 0; k < o.n_cells; ++k)
                                                                      sum[k] = total += state[k];
                                                                  uint32_t got = 0;
                                                                  for (uint32_t k = 0; k < o.n_cells; ++k)
                                                                      if (sum[k] <= 64 && state[k])
                                                                          list[got++] = int32_t(k), state[k] = 0;
                                                                  for (int32_t k : list) state[size_t(k)] = 1;
                                                              }
                                                          });
                                               }}});
    const double per = 1e9 / n / 64;
    run.row({.name = "cells-alloc-64",
             .metric = "time per cell, alloc and free of 64",
             .unit = "ns",
             .larder = t["larder"] * per,
             .peers = {{"prefix sums over the pool", t["sums"] * per}},
             .note = "32,768 cells"});
    larder_cells_destroy(pool);
}

// Taking 256 lent cells of 256 KiB back, all of which have to move.
void budget(bench::Run& run) {
    Context ctx;
    larder_cells_options o = LARDER_CELLS_OPTIONS_INIT;
    o.n_cells = 768;
    o.cell_bytes = 4096;
    o.n_layers = 32;
    o.order = LARDER_ARENA_PAGE_FIRST;
    o.n_transient = 256;
    larder_cells* pool = nullptr;
    must(larder_cells_create(ctx.c, &o, &pool), "cells");
    const size_t n_bytes = size_t(256) * 4096 * 64;
    std::vector<char> a(n_bytes, 1), b(n_bytes, 2);
    void* base = nullptr;
    larder_cells_address(pool, 0, 0, 0, &base);
    std::memset(base, 1, 3 * n_bytes);
    auto t = bench::interleave(
        run.rounds(),
        {{"larder",
          [&] {
              std::vector<int32_t> list(768);
              std::vector<larder_cells_move> moves(256);
              uint32_t n_moves = 0;
              int32_t first = 0;
              must(larder_cells_alloc(pool, LARDER_CELLS_ANY, 768, list.data()), "alloc");
              must(larder_cells_free(pool, list.data(), 256), "free");
              const double s = bench::cpu_seconds(
                  [&] { must(larder_cells_transient_begin(pool, 256, moves.data(), 256, &n_moves, &first), "begin"); });
              for (uint32_t i = 0; i < n_moves; ++i)
                  std::replace(list.begin() + 256, list.end(), moves[i].src, moves[i].dst);
              must(larder_cells_transient_end(pool), "end");
              must(larder_cells_free(pool, &list[256], 512), "free");
              return s;
          }},
         {"memcpy", [&] {
              return bench::cpu_seconds([&] {
                  std::memcpy(a.data(), b.data(), n_bytes);
                  bench::keep(a[0]);
              });
          }}});
    run.row({.name = "budget-lent",
             .metric = "time to take 64 MiB of lent cells back, all in use",
             .unit = "ms",
             .larder = t["larder"] * 1e3,
             .peers = {{"memcpy of the same bytes", t["memcpy"] * 1e3}},
             .note = ""});
    larder_cells_destroy(pool);
}

// 16 heads of 128 x 128 and 128 in fp32: a layer's state of about 1 MiB.
void states(bench::Run& run) {
    Context ctx;
    larder_states_options o = LARDER_STATES_OPTIONS_INIT;
    o.state_bytes = 16 * (128 * 128 + 128) * 4;
    o.n_slots = 8;
    o.dtype = LARDER_DTYPE_F32;
    larder_states* pool = nullptr;
    must(larder_states_create(ctx.c, &o, &pool), "states");
    uint64_t id[2], fork = 0;
    must(larder_states_alloc(pool, 2, id), "alloc");
    const int n = run.size(2000, 400);
    std::vector<float> x(o.state_bytes / 4, 1), y(x.size(), 2);
    auto t = bench::interleave(run.rounds(), {{"add",
                                               [&] {
                                                   return bench::cpu_seconds([&] {
                                                       for (int i = 0; i < n; ++i)
                                                           larder_states_add(pool, id[0], &id[1], 1);
                                                   });
                                               }},
                                              {"loop",
                                               [&] {
                                                   return bench::cpu_seconds([&] {
                                                       for (int i = 0; i < n; ++i) {
                                                           for (size_t k = 0; k < x.size(); ++k) x[k] += y[k];
                                                           bench::keep(x[0]);
                                                       }
                                                   });
                                               }},
                                              {"fork",
                                               [&] {
                                                   return bench::cpu_seconds([&] {
                                                       for (int i = 0; i < 100 * n; ++i) {
                                                           larder_states_fork(pool, id[0], 1, &fork);
                                                           larder_states_free(pool, &fork, 1);
                                                       }
                                                   });
                                               }},
                                              {"copy", [&] {
                                                   return bench::cpu_seconds([&] {
                                                       for (int i = 0; i < n; ++i) {
                                                           std::memcpy(x.data(), y.data(), o.state_bytes);
                                                           bench::keep(x[0]);
                                                       }
                                                   });
                                               }}});
    run.row({.name = "state-add",
             .metric = "time to add two states of 1 MiB, fp32",
             .unit = "us",
             .larder = t["add"] / n * 1e6,
             .peers = {{"a plain loop", t["loop"] / n * 1e6}},
             .note = ""});
    run.row({.name = "state-fork",
             .metric = "time of a fork and its end, 1 MiB",
             .unit = "us",
             .larder = t["fork"] / n * 1e4,
             .peers = {{"memcpy of the state", t["copy"] / n * 1e6}},
             .note = ""});
    larder_states_destroy(pool);
}

// 64 GiB of near memory and two cards; what processors touch is 48 GiB of it with nine tenths of the reads.
void placement(bench::Run& run) {
    Context ctx;
    larder_topology* t = nullptr;
    must(larder_topology_create(
             ctx.c,
             "node 0 bytes 64G latency 100 bandwidth 100G cpus\n"
             "node 1 bytes 128G latency 400 bandwidth 24G\nnode 2 bytes 128G latency 400 bandwidth 24G\n",
             &t),
         "topology");
    std::vector<larder_memory_object> objects(49, LARDER_MEMORY_OBJECT_INIT);
    for (size_t i = 0; i < 48; ++i) {
        objects[i].access = LARDER_ACCESS_LATENCY;
        objects[i].n_bytes = uint64_t(1) << 30;
        objects[i].reads_per_s = 1000 + 10 * i;
    }
    objects[48].access = LARDER_ACCESS_STREAM;
    objects[48].n_bytes = uint64_t(200) << 30;
    std::vector<larder_placement_part> parts(200);
    uint32_t n_parts = 0;
    const double s = bench::cpu_seconds([&] {
        must(larder_topology_place(t, objects.data(), sizeof objects[0], 49, 0, parts.data(), 200, &n_parts), "place");
    });
    double ours = 0, near = 0, spread = 0;
    for (uint32_t i = 0; i < n_parts; ++i) {
        const auto& o = objects[parts[i].object];
        ours += double(o.reads_per_s) * double(parts[i].n_bytes) / double(o.n_bytes) * (parts[i].node ? 400 : 100);
    }
    for (auto& o : objects) near += double(o.reads_per_s) * 100, spread += double(o.reads_per_s) * 300;
    run.row({.name = "placement",
             .metric = "modelled read time over near memory alone",
             .unit = "x",
             .larder = ours / near,
             .peers = {{"interleaved over three nodes", spread / near}},
             .note = "planned in " + std::to_string(int(s * 1e6)) + " us"});
    larder_topology_destroy(t);
}

struct Walked {
    larder_arena* arena = nullptr;
    larder_seq seq = 0;
    larder_index* index = nullptr;
};

uint32_t walk_tree(void* ctx, uint64_t first, int64_t* out) {
    auto& w = *static_cast<Walked*>(ctx);
    larder_block blocks[8];
    if (larder_arena_seq_blocks(w.arena, w.seq, 0, first, 8, blocks) < 0) return std::fill_n(out, 8, -1), 0;
    for (int i = 0; i < 8; ++i) out[i] = int64_t(blocks[i]);
    return 1;
}

uint32_t walk_index(void* ctx, uint64_t first, int64_t* out) {
    auto& w = *static_cast<Walked*>(ctx);
    uint64_t keys[8];
    for (uint64_t i = 0; i < 8; ++i) keys[i] = first + i, out[i] = -1;
    larder_index_get_many(w.index, keys, 8, out, nullptr, nullptr);
    return 1;
}

uint32_t scan_index(void* ctx, uint64_t first, int64_t* out) {
    auto& w = *static_cast<Walked*>(ctx);
    uint64_t keys[8], values[8], n = 0;
    std::fill_n(out, 8, -1);
    larder_index_scan(w.index, LARDER_INDEX_AT_LEAST, &first, keys, values, 8, &n);
    for (uint64_t i = 0; i < n; ++i)
        if (keys[i] - first < 8) out[keys[i] - first] = int64_t(values[i]);
    return 1;
}

using Walk = uint32_t (*)(void*, uint64_t, int64_t*);
using Plain = void (*)(Walked&, const uint64_t*, size_t);

// The same look-ups with and without the cache, n_batch a call; stretches of 4 blocks, starts by a skewed law.
void translate(bench::Run& run, const char* name, Walked& w, uint64_t n_keys, size_t n_batch, Walk walk, Plain plain) {
    Context ctx;
    larder_translation_options o = LARDER_TRANSLATION_OPTIONS_INIT;
    o.walk = {walk, &w, nullptr};
    larder_translation* cache = nullptr;
    must(larder_translation_create(ctx.c, &o, &cache), "translation cache");
    Rng rng(3);
    std::vector<uint64_t> keys(run.size<size_t>(2000000, 400000) / n_batch * n_batch);
    for (size_t i = 0; i < keys.size(); ++i) {
        const double u = rng.unit();
        keys[i] = i % 4 ? std::min(keys[i - 1] + 1, n_keys - 1) : uint64_t(double(n_keys - 1) * u * u * u * u);
    }
    std::vector<int64_t> out(n_batch);
    auto cached = [&] {
        return bench::cpu_seconds([&] {
            for (size_t i = 0; i < keys.size(); i += n_batch)
                larder_translation_lookup(cache, &keys[i], n_batch, out.data());
            bench::keep(out[0]);
        });
    };
    auto walked = [&] {
        return bench::cpu_seconds([&] {
            for (size_t i = 0; i < keys.size(); i += n_batch) plain(w, &keys[i], n_batch);
        });
    };
    auto t = bench::interleave(run.rounds(), {{"cache", cached}, {"plain", walked}});
    larder_translation_state s = LARDER_TRANSLATION_STATE_INIT;
    larder_translation_query(cache, &s);
    char note[80];
    std::snprintf(note, sizeof note, "%.0f %% hits, 4096 lines, %zu a call",
                  100 * double(s.n_hits) / double(s.n_hits + s.n_walks), n_batch);
    run.row({.name = std::string("translation-cache-") + name,
             .metric = "time of a look-up",
             .unit = "ns",
             .larder = t["cache"] / double(keys.size()) * 1e9,
             .peers = {{"the walk each time", t["plain"] / double(keys.size()) * 1e9}},
             .note = note});
    larder_translation_destroy(cache);
}

struct Conversations {
    Context ctx;
    larder_layout* layout = nullptr;
    larder_arena* arena = nullptr;
    Conversations(uint32_t n_blocks, uint32_t run_blocks) {
        larder_layer_group g = LARDER_LAYER_GROUP_INIT;
        g.n_layers = 1;
        g.n_kv_heads = 1;
        g.k_dim = g.v_dim = 8;
        larder_layout_options lo = LARDER_LAYOUT_OPTIONS_INIT;
        lo.groups = &g;
        lo.n_groups = 1;
        lo.group_stride = sizeof g;
        must(larder_layout_create(ctx.c, &lo, &layout), "layout");
        larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
        o.n_blocks = &n_blocks;
        o.n_block_counts = 1;
        o.run_blocks = run_blocks;
        must(larder_arena_create(ctx.c, layout, &o, &arena), "arena");
    }
    ~Conversations() {
        larder_arena_destroy(arena);
        larder_layout_destroy(layout);
    }
};

void translations(bench::Run& run) {
    const uint64_t n = 65536;
    Conversations c(n + 2, 0);
    Walked w;
    w.arena = c.arena;
    larder_arena_seq_create(c.arena, &w.seq);
    must(larder_arena_seq_append(c.arena, w.seq, n * 16, nullptr, 0, nullptr), "append");
    translate(run, "arena", w, n, 1, walk_tree, [](Walked& x, const uint64_t* k, size_t) {
        larder_block b;
        larder_arena_seq_blocks(x.arena, x.seq, 0, *k, 1, &b);
        bench::keep(b);
    });
    translate(run, "arena-batch", w, n, 1024, walk_tree, [](Walked& x, const uint64_t* k, size_t n_batch) {
        static uint32_t entries[1024];
        static int32_t numbers[1024];
        for (size_t i = 0; i < n_batch; ++i) entries[i] = uint32_t(k[i]);
        larder_arena_seq_lookup(x.arena, x.seq, 0, entries, uint32_t(n_batch), numbers);
        bench::keep(numbers[0]);
    });
    const uint64_t n_keys = run.size<uint64_t>(8000000, 2000000);
    larder_index_options io = LARDER_INDEX_OPTIONS_INIT;
    must(larder_index_create(c.ctx.c, &io, &w.index), "index");
    std::vector<uint64_t> keys(n_keys), values(n_keys);
    for (uint64_t i = 0; i < n_keys; ++i) keys[i] = i, values[i] = larder::mix64(i) >> 1;
    must(larder_index_build(w.index, keys.data(), values.data(), n_keys), "build");
    auto get = [](Walked& x, const uint64_t* k, size_t) {
        uint64_t v = 0;
        larder_index_get(x.index, k, &v);
        bench::keep(v);
    };
    translate(run, "index", w, n_keys, 1, walk_index, get);
    translate(run, "index-scan", w, n_keys, 1, scan_index, get);
    translate(run, "index-batch", w, n_keys, 1024, scan_index, [](Walked& x, const uint64_t* k, size_t n_batch) {
        static uint64_t many_values[1024];
        larder_index_get_many(x.index, k, n_batch, many_values, nullptr, nullptr);
        bench::keep(many_values[0]);
    });
    larder_index_destroy(w.index);
}

// 24 conversations grow in turn; then all are moved at once.
double swap_time(uint32_t run_blocks, double& by_blocks) {
    Conversations c(8192, run_blocks);
    Rng rng(9);
    std::vector<larder_swap_seq> seqs(24, LARDER_SWAP_SEQ_INIT);
    for (auto& s : seqs) larder_arena_seq_create(c.arena, &s.seq);
    for (int i = 0; i < 6000; ++i) {
        larder_swap_seq& s = seqs[rng.below(seqs.size())];
        if (rng.below(300) == 0) {
            larder_arena_seq_destroy(c.arena, s.seq);
            larder_arena_seq_create(c.arena, &s.seq);
        }
        larder_arena_seq_append(c.arena, s.seq, 16, nullptr, 0, nullptr);
    }
    double total = 0;
    by_blocks = 0;
    for (auto& s : seqs) {  // one at a time, as a pre-emption is
        larder_swap_plan_info info = LARDER_SWAP_PLAN_INFO_INIT;
        info.bandwidth_bytes_per_s = 25000000000u / (32768 / 256);  // as blocks of 32 KiB a plane
        const larder_status r = larder_swap_plan(c.arena, 0, &s, sizeof s, 1, nullptr, 0, &info);
        if (r != LARDER_E_BUFFER_TOO_SMALL && r < 0) must(r, "swap plan");
        total += double(info.modelled_ns);
        by_blocks += double(info.by_blocks_ns);
    }
    return total;
}

void swap_plans(bench::Run& run) {
    double by_blocks = 0, ignored = 0;
    const double runs = swap_time(64, by_blocks), single = swap_time(0, ignored);
    run.row({.name = "swap-plan",
             .metric = "modelled time to move 24 conversations one by one",
             .unit = "ms",
             .larder = runs / 1e6,
             .peers = {{"a copy per block", by_blocks / 1e6}, {"run_blocks 0", single / 1e6}},
             .note = "10 us per copy, 25 GB/s, run_blocks 64"});
}

}  // namespace

void memory_structures(bench::Run& run) {
    virtual_tensors(run);
    unified(run);
    budget(run);
    states(run);
    placement(run);
    swap_plans(run);
    translations(run);
}
