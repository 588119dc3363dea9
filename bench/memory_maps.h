// Mapping, faulting in and clearing memory, beside the raw system calls.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <vector>

#include "bench/bench.h"
#include "bench/memory_bed.h"

namespace {

// Granules of 64 KiB in shared memory: a sequence grows by 8 of them at a time, in K and in V; then all go.
void map_runs(bench::Run& run) {
    constexpr uint64_t granule = 64 << 10, tokens = granule / 256;  // 128 elements of fp16 per token
    const uint64_t n_steps = run.size<uint64_t>(64, 32), n_granules = 8 * n_steps;
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.mode = LARDER_ARENA_CONTIGUOUS;
    o.memory = LARDER_ARENA_MEMFD;
    o.max_seqs = 1;
    o.max_seq_tokens = (n_granules + 8) * tokens;
    o.granule_bytes = uint32_t(granule);
    o.budget_bytes = 2 * granule * (n_granules + 8);
    o.n_lookahead = 1;
    Bed bed(o, 1, 128);
    double unmapped = 0, raw_unmapped = 0;
    auto touch = [&](char* p) {
        for (uint64_t i = 0; i < n_granules; ++i) p[i * granule] = 1;
    };
    auto ours = [&] {
        larder_seq s = 0;
        larder_arena_seq_create(bed.arena, &s);
        const double t = bench::cpu_seconds([&] {
            for (uint64_t i = 0; i < n_steps; ++i)
                larder_arena_seq_append(bed.arena, s, 8 * tokens, nullptr, 0, nullptr);
        });
        for (larder_plane p : {LARDER_PLANE_K, LARDER_PLANE_V}) {
            void* base = nullptr;
            larder_arena_seq_base(bed.arena, s, 0, 0, p, &base);
            touch(static_cast<char*>(base));
        }
        larder_arena_seq_destroy(bed.arena, s);
        unmapped = bench::cpu_seconds([&] { larder_arena_trim(bed.arena, 0); });
        return t;
    };
    const size_t bytes = 2 * granule * n_granules;
    const int fd = memfd_create("bench", 0);
    if (fd < 0 || ftruncate(fd, off_t(bytes)) != 0) return run.absent("memfd", "no shared memory by descriptor");
    auto* at = static_cast<char*>(mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    auto raw = [&] {
        const double t = bench::cpu_seconds([&] {
            for (size_t i = 0; i < bytes; i += granule)
                mmap(at + i, granule, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, off_t(i));
        });
        touch(at);
        touch(at + bytes / 2);
        raw_unmapped = bench::cpu_seconds([&] {
            for (size_t i = 0; i < bytes; i += granule)
                mmap(at + i, granule, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
        });
        return t;
    };
    auto t = bench::interleave(run.rounds(), {{"map", ours}, {"raw map", raw}});
    auto u = bench::interleave(run.rounds(), {{"unmap", [&] { return ours(), unmapped; }},
                                              {"raw unmap", [&] { return raw(), raw_unmapped; }}});
    munmap(at, bytes);
    close(fd);
    run.row({.name = "map-8",
             .metric = "time to map 8 adjacent granules of 64 KiB",
             .unit = "us",
             .larder = t["map"] / double(2 * n_steps) * 1e6,
             .peers = {{"8 raw calls", t["raw map"] / double(2 * n_steps) * 1e6}},
             .note = "shared memory"});
    run.row({.name = "unmap-64K",
             .metric = "time to unmap a granule of 64 KiB",
             .unit = "us",
             .larder = u["unmap"] / double(2 * n_granules) * 1e6,
             .peers = {{"raw calls", u["raw unmap"] / double(2 * n_granules) * 1e6}},
             .note = "shared memory, one byte of each was touched"});
}

void pre_touch(bench::Run& run) {
    const uint64_t bytes = run.size<uint64_t>(2048, 1024) << 20;
    auto create = [&](uint32_t n_threads) {
        const auto n_blocks = uint32_t(bytes / (64 << 10));
        larder_arena_options o = paged(n_blocks, 4096);
        o.flags = LARDER_ARENA_POPULATE;
        o.n_populate_threads = n_threads;
        o.max_seqs = 1;
        double t = 0;
        {
            const double before = bench::now_s();
            Bed bed(o, 8, 128);
            t = bench::now_s() - before;
        }
        return t;
    };
    create(2);  // discarded: memory that the machine never used before costs several times more
    auto t = bench::interleave(run.rounds(), {{"one", [&] { return create(1); }}, {"two", [&] { return create(2); }}});
    run.row({.name = "pre-touch-2t",
             .metric = "an arena's creation with POPULATE, 2 threads against 1",
             .unit = "x",
             .larder = t["one"] / t["two"],
             .peers = {},
             .note = "wall time; 2 GiB in a full run, 1 GiB in a quick one"});
}

// What it costs that the next holder of a block cannot read the last one's bytes.
void clearing(bench::Run& run) {
    const uint32_t n_blocks = 4096;
    constexpr size_t block_bytes = 16 * 128 * 2 * 2;
    const int n = run.size(2000000, 300000);
    std::vector<std::pair<std::string, std::function<double()>>> candidates;
    std::vector<std::unique_ptr<Bed>> beds;
    for (const auto& [name, flag] : {std::pair{"none", 0}, std::pair{"on free", int(LARDER_ARENA_ZERO_ON_FREE)},
                                     std::pair{"on handover", int(LARDER_ARENA_ZERO_ON_HANDOVER)}}) {
        larder_arena_options o = paged(n_blocks);
        o.flags = uint32_t(flag);
        beds.push_back(std::make_unique<Bed>(o, 1, 128));
        candidates.push_back({name, [n, arena = beds.back()->arena] {
                                  return bench::cpu_seconds([&] {
                                      for (int i = 0; i < n; ++i) {
                                          larder_block b;
                                          larder_arena_alloc(arena, 0, 1, &b);
                                          larder_arena_unref(arena, &b, 1);
                                      }
                                  });
                              }});
    }
    std::vector<char> block(block_bytes);
    candidates.push_back({"memset", [&] {
                              return bench::cpu_seconds([&] {
                                  for (int i = 0; i < n; ++i) {
                                      std::memset(block.data(), 0, block_bytes);
                                      bench::keep(block[0]);
                                  }
                              });
                          }});
    auto t = bench::interleave(run.rounds(), candidates);
    for (const char* name : {"on free", "on handover"})
        run.row({.name = std::string("clear-") + (name + 3),
                 .metric = "time per alloc and free of a block of 8 KiB that is cleared",
                 .unit = "ns",
                 .larder = t[name] / n * 1e9,
                 .peers = {{"not cleared", t["none"] / n * 1e9}, {"memset", t["memset"] / n * 1e9}},
                 .note = ""});
}

}  // namespace
