// The memory room: blocks beside malloc, forks, tables, contiguous growth beside the raw system calls.
#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "bench/bench.h"
#include "bench/memory_bed.h"
#include "bench/memory_maps.h"
#include "bench/memory_swaps.h"
#include "larder/larder.h"
#include "memory/arena.h"

void memory_structures(bench::Run& run);  // suite_memory_structures.cpp

namespace {

struct Mimalloc {
    void* (*malloc)(size_t) = nullptr;
    void (*free)(void*) = nullptr;
    Mimalloc() {
        void* lib = dlopen("libmimalloc.so.2", RTLD_NOW | RTLD_LOCAL);
        if (!lib) lib = dlopen("libmimalloc.so", RTLD_NOW | RTLD_LOCAL);
        if (!lib) return;
        malloc = reinterpret_cast<void* (*)(size_t)>(dlsym(lib, "mi_malloc"));
        free = reinterpret_cast<void (*)(void*)>(dlsym(lib, "mi_free"));
    }
    bool there() const { return malloc && free; }
};

void one_block(bench::Run& run, const Mimalloc& mi) {
    const uint32_t n_blocks = 4096;
    Bed bed(paged(n_blocks));
    const uint64_t n = run.size<uint64_t>(20000000, 3000000);
    auto pair = [&](auto alloc, auto free) {
        return bench::cpu_seconds([&] {
            for (uint64_t i = 0; i < n; ++i) free(alloc());
        });
    };
    std::vector<std::pair<std::string, std::function<double()>>> candidates = {
        {"larder",
         [&] {
             return pair(
                 [&] {
                     larder_block b;
                     larder_arena_alloc(bed.arena, 0, 1, &b);
                     return b;
                 },
                 [&](larder_block b) { larder_arena_unref(bed.arena, &b, 1); });
         }},
        {"glibc", [&] {
             return pair(
                 [] {
                     void* p = std::malloc(512);
                     bench::keep(p);
                     return p;
                 },
                 [](void* p) { std::free(p); });
         }}};
    if (mi.there())
        candidates.push_back(
            {"mimalloc", [&] { return pair([&] { return mi.malloc(512); }, [&](void* p) { mi.free(p); }); }});
    else
        run.absent("mimalloc", "libmimalloc.so.2 could not be loaded");
    auto t = bench::interleave(run.rounds(), candidates);
    bench::Row row{.name = "alloc-free-1",
                   .metric = "time per alloc and free",
                   .unit = "ns",
                   .larder = t["larder"] / double(n) * 1e9,
                   .peers = {{"glibc", t["glibc"] / double(n) * 1e9}},
                   .note = ""};
    if (mi.there()) row.peers["mimalloc"] = t["mimalloc"] / double(n) * 1e9;
    run.row(row);
}

void batch(bench::Run& run, const Mimalloc& mi) {
    const uint32_t n_blocks = 4096;
    Bed bed(paged(n_blocks));
    const uint64_t n = run.size<uint64_t>(600000, 100000);
    std::vector<std::pair<std::string, std::function<double()>>> candidates = {
        {"larder", [&] {
             larder_block b[64];
             return bench::cpu_seconds([&] {
                 for (uint64_t i = 0; i < n; ++i) {
                     larder_arena_alloc(bed.arena, 0, 64, b);
                     larder_arena_unref(bed.arena, b, 64);
                 }
             });
         }}};
    if (mi.there())
        candidates.push_back({"mimalloc", [&] {
                                  void* p[64];
                                  return bench::cpu_seconds([&] {
                                      for (uint64_t i = 0; i < n; ++i) {
                                          for (auto& q : p) q = mi.malloc(512);
                                          for (auto& q : p) mi.free(q);
                                      }
                                  });
                              }});
    auto t = bench::interleave(run.rounds(), candidates);
    const double per = 1e9 / double(n) / 64;
    bench::Row row{.name = "alloc-free-64",
                   .metric = "time per block, alloc and free in batches of 64",
                   .unit = "ns",
                   .larder = t["larder"] * per,
                   .peers = {},
                   .note = ""};
    if (mi.there()) row.peers["mimalloc"] = t["mimalloc"] * per;
    run.row(row);
}

void two_threads(bench::Run& run) {
    const uint32_t n_blocks = 8192;
    Bed bed(paged(n_blocks));
    const uint64_t n = run.size<uint64_t>(4000000, 800000);
    auto work = [&] {
        larder_block b[4];
        for (uint64_t i = 0; i < n; ++i) {
            larder_arena_alloc(bed.arena, 0, 4, b);
            larder_arena_unref(bed.arena, b, 4);
        }
    };
    // CPU time of the slower thread: waiting for each other shows, waiting for a busy machine does not.
    auto t = bench::interleave(run.rounds(), {{"one", [&] { return bench::cpu_seconds(work); }},
                                              {"two", [&] {
                                                   double mine = 0, its = 0;
                                                   std::thread other([&] { its = bench::cpu_seconds(work); });
                                                   mine = bench::cpu_seconds(work);
                                                   other.join();
                                                   return std::max(mine, its);
                                               }}});
    run.row({.name = "threads-2",
             .metric = "throughput of 2 threads against 1",
             .unit = "x",
             .larder = 2 * t["one"] / t["two"],
             .peers = {},
             .note = "batches of 4; CPU time of the slower thread"});
}

void forks(bench::Run& run) {
    for (uint32_t n_blocks : {1024u, 65536u}) {
        const uint32_t total = n_blocks + 1024;
        Bed bed(paged(total, 4 * uint64_t(total)));
        larder_seq s = 0, f = 0;
        larder_arena_seq_create(bed.arena, &s);
        larder_arena_seq_append(bed.arena, s, uint64_t(n_blocks) * 16, nullptr, 0, nullptr);
        const int n = run.size(200000, 40000);
        std::vector<int32_t> flat(n_blocks), copy(n_blocks);
        auto t = bench::interleave(run.rounds(),
                                   {{"larder",
                                     [&] {
                                         return bench::cpu_seconds([&] {
                                             for (int i = 0; i < n; ++i) {
                                                 larder_arena_seq_fork(bed.arena, s, uint64_t(n_blocks) * 16, 1, &f);
                                                 larder_arena_seq_destroy(bed.arena, f);
                                             }
                                         });
                                     }},
                                    {"copy", [&] {
                                         return bench::cpu_seconds([&] {
                                                    for (int i = 0; i < n / 100; ++i) {
                                                        for (uint32_t k = 0; k < n_blocks; ++k)
                                                            copy[k] = flat[k],
                                                            ++flat[k];  // a flat table: copy it, count a reference each
                                                        bench::keep(copy[0]);
                                                    }
                                                }) *
                                                100;
                                     }}});
        run.row({.name = "fork-" + std::to_string(n_blocks),
                 .metric = "time of a fork and its end",
                 .unit = "us",
                 .larder = t["larder"] / n * 1e6,
                 .peers = {{"flat table", t["copy"] / n * 1e6}},
                 .note = ""});
    }
}

void sequences(bench::Run& run) {
    const uint32_t n_blocks = 40000;
    Bed bed(paged(n_blocks));
    std::vector<larder_seq> seqs(64);
    for (auto& s : seqs) larder_arena_seq_create(bed.arena, &s);
    const uint64_t n_tokens = 8192;
    const double appended = bench::cpu_seconds([&] {
        for (uint64_t i = 0; i < n_tokens; ++i)
            for (larder_seq s : seqs) larder_arena_seq_append(bed.arena, s, 1, nullptr, 0, nullptr);
    });
    run.row({.name = "append-1",
             .metric = "time to reserve one token",
             .unit = "ns",
             .larder = appended / double(n_tokens * seqs.size()) * 1e9,
             .peers = {},
             .note = "64 sequences in turn"});
    const uint64_t stride = n_tokens / 16 + 8;
    std::vector<int32_t> table(64 * stride), flat(64 * stride);
    const int n = run.size(20000, 3000);
    auto t = bench::interleave(run.rounds(), {{"larder",
                                               [&] {
                                                   return bench::cpu_seconds([&] {
                                                       for (int i = 0; i < n; ++i)
                                                           larder_arena_block_table(bed.arena, 0, seqs.data(), 64, 64,
                                                                                    table.data(), stride);
                                                   });
                                               }},
                                              {"memcpy", [&] {
                                                   return bench::cpu_seconds([&] {
                                                       for (int i = 0; i < n; ++i) {
                                                           std::memcpy(table.data(), flat.data(), table.size() * 4);
                                                           bench::keep(table[0]);
                                                       }
                                                   });
                                               }}});
    run.row({.name = "table-64x512",
             .metric = "time to export 64 rows of 512 blocks",
             .unit = "us",
             .larder = t["larder"] / n * 1e6,
             .peers = {{"memcpy of the same bytes", t["memcpy"] / n * 1e6}},
             .note = ""});
}

void translation(bench::Run& run) {
    // Independent look-ups over a table of 65,536 blocks: the tree against a flat array.
    const larder::Allocator a;
    constexpr uint32_t n_blocks = 65536;
    larder::BlockPool pool(a, 0, n_blocks + 1, 1, 2);
    larder::BlockTables tables(a, 4096, 2);
    larder::TableRoot root;
    std::vector<uint32_t> flat(n_blocks);
    pool.alloc(flat);
    {
        larder::Recycler r(pool, nullptr, nullptr);
        tables.append(root, r, flat);
    }
    const int n = run.size(10000, 1500);
    std::vector<uint32_t> at(4096);
    std::vector<int32_t> out(at.size());
    larder::Rng rng(1);
    for (uint32_t& i : at) i = uint32_t(rng.below(n_blocks));
    uint64_t sum = 0;
    auto passes = [&](auto pass) {
        return bench::cpu_seconds([&] {
            for (int i = 0; i < n; ++i) pass(), sum += uint64_t(out[size_t(i) % out.size()]);
        });
    };
    auto t = bench::interleave(run.rounds(),
                               {{"larder", [&] { return passes([&] { tables.get_many(root, at, out.data()); }); }},
                                {"flat", [&] {
                                     return passes([&] {
                                         for (size_t i = 0; i < at.size(); ++i) out[i] = int32_t(flat[at[i]]);
                                         bench::keep(out[0]);
                                     });
                                 }}});
    const double per = 1e9 / n / double(at.size());
    bench::keep(sum);
    run.row({.name = "translate-65536",
             .metric = "time per independent look-up",
             .unit = "ns",
             .larder = t["larder"] * per,
             .peers = {{"flat array", t["flat"] * per}},
             .note = "4096 entries a call; kernels read exported flat tables"});
    larder::Recycler r(pool, nullptr, nullptr);
    tables.release(root, r);
}

void contiguous(bench::Run& run) {
    // 4 layers, K and V, 256 bytes per token: a granule of 2 MiB holds 8192 tokens.
    const uint64_t mib = 1 << 20, granule = 2 * mib, n_granules = run.size<uint64_t>(24, 8),
                   n_tokens = n_granules * 8192;
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.mode = LARDER_ARENA_CONTIGUOUS;
    o.max_seqs = 2;
    o.max_seq_tokens = n_tokens + 8192;
    o.budget_bytes = 8 * granule * (n_granules + 1);
    o.n_lookahead = 1;
    Bed bed(o, 4, 128);
    auto grow = [&] {
        larder_seq s = 0;
        larder_arena_seq_create(bed.arena, &s);
        const double t = bench::cpu_seconds([&] {
            for (uint64_t i = 0; i < n_granules; ++i) larder_arena_seq_append(bed.arena, s, 8192, nullptr, 0, nullptr);
        });
        larder_arena_seq_destroy(bed.arena, s);
        return t;
    };
    auto t = bench::interleave(
        run.rounds(),
        {{"cold",
          [&] {
              larder_arena_trim(bed.arena, 0);
              return grow();
          }},
         {"warm", grow},
         {"raw", [&] {
              const size_t bytes = 8 * granule * n_granules;
              auto* p = static_cast<char*>(mmap(nullptr, bytes + granule, PROT_READ | PROT_WRITE,
                                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
              auto* at = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(p) + granule - 1) / granule * granule);
              madvise(at, bytes, MADV_HUGEPAGE);
              const double s = bench::cpu_seconds([&] {
                  for (size_t i = 0; i < bytes; i += granule) madvise(at + i, granule, 23 /* MADV_POPULATE_WRITE */);
              });
              munmap(p, bytes + granule);
              return s;
          }}});
    const double per = 1e9 / double(8 * n_granules);
    run.row({.name = "contiguous-warm",
             .metric = "growth into memory that is there, per 2 MiB",
             .unit = "ns",
             .larder = t["warm"] * per,
             .peers = {},
             .note = ""});
    run.row({.name = "contiguous-cold",
             .metric = "growth into new memory, per 2 MiB",
             .unit = "us",
             .larder = t["cold"] * per / 1e3,
             .peers = {{"raw populate", t["raw"] * per / 1e3}},
             .note = ""});
}

}  // namespace

BENCH_SUITE(memory, "blocks, sequences, tables and contiguous growth") {
    const Mimalloc mi;
    one_block(run, mi);
    batch(run, mi);
    two_threads(run);
    forks(run);
    sequences(run);
    translation(run);
    swaps(run);
    contiguous(run);
    memory_structures(run);
    map_runs(run);
    pre_touch(run);
    clearing(run);
}
