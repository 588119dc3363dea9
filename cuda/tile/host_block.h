// Running kernel bodies on the host: thread and block orders permuted by a seed, shared memory poisoned and checked for
// races.
#pragma once

#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "tile.h"

namespace larder::tile {

// A random order of 0 .. n-1.
inline std::vector<int64_t> permutation(int64_t n, uint64_t seed) {
    std::vector<int64_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = order.size(); i > 1; --i) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        std::swap(order[i - 1], order[size_t((seed >> 33) % i)]);
    }
    return order;
}

class HostBlock {
  public:
    HostBlock(int64_t index, int n_threads, uint64_t seed) : index_(index), n_threads_(n_threads), seed_(seed) {}

    // Each element remembers who touched it in which phase.
    template <class T, int n> class Shared {
      public:
        explicit Shared(HostBlock& block) : block_(block) { std::memset(v_, 0xa5, sizeof v_); }
        T load(int thread, int i) {
            Touch& t = touches_[i];
            if (t.write_phase == block_.phase_ && t.writer != thread) ++block_.n_races_;
            if (t.read_phase != block_.phase_)
                t.read_phase = block_.phase_, t.reader = thread;
            else if (t.reader != thread)
                t.reader = many;
            return v_[i];
        }
        void store(int thread, int i, T x) {
            Touch& t = touches_[i];
            if (t.write_phase == block_.phase_ && t.writer != thread) ++block_.n_races_;
            if (t.read_phase == block_.phase_ && t.reader != thread) ++block_.n_races_;
            t.write_phase = block_.phase_, t.writer = thread;
            v_[i] = x;
        }

      private:
        static constexpr int many = -2;
        struct Touch {
            int64_t write_phase = -1, read_phase = -1;
            int writer = -1, reader = -1;
        };
        HostBlock& block_;
        T v_[n];
        Touch touches_[n];
    };

    int64_t index() const { return index_; }
    int n_threads() const { return n_threads_; }
    template <class F> void phase(F f) {
        ++phase_;
        for (int64_t thread : permutation(n_threads_, seed_ + uint64_t(phase_) * 977)) f(int(thread));
    }
    int64_t n_races() const { return n_races_; }

  private:
    const int64_t index_;
    const int n_threads_;
    const uint64_t seed_;
    int64_t phase_ = 0, n_races_ = 0;
};

// Run body(block) for each block of a grid. Returns the number of races in shared memory.
template <class Body> int64_t run_grid(int64_t n_blocks, int n_threads, uint64_t seed, Body body) {
    int64_t n_races = 0;
    for (int64_t index : permutation(n_blocks, seed)) {
        HostBlock block(index, n_threads, seed ^ uint64_t(index) * 0x9e3779b97f4a7c15u);
        body(block);
        n_races += block.n_races();
    }
    return n_races;
}

}  // namespace larder::tile
