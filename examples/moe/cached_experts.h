// A mixture's experts in a cache of Larder: slots for some of them, the others in a file.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "demo/larder_call.h"
#include "engine/experts.h"
#include "engine/model.h"
#include "larder/larder.h"

namespace moe {

// All experts as the engine wants them, [layer][expert], for the cache to load from.
inline void write_experts(const engine::Model& model, const std::string& path) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "wb"), std::fclose);
    bool good = file != nullptr;
    for (const engine::Layer& layer : model.layers)
        good = good && std::fwrite(layer.experts.data(), sizeof(float), layer.experts.size(), file.get()) ==
                           layer.experts.size();
    if (!good || std::fflush(file.get())) throw engine::Error(path + ": cannot be written");
}

class CachedExperts final : public engine::Experts {
  public:
    CachedExperts(larder_context* context, const engine::Shape& shape, const std::string& path, uint32_t layer_slots)
        : layer_slots_(std::min(layer_slots, shape.n_experts)) {
        larder_expert_precision p = LARDER_EXPERT_PRECISION_INIT;
        p.source = LARDER_EXPERT_SOURCE_FILE;
        p.n_bytes = shape.expert_floats() * sizeof(float);
        p.layer_slots = layer_slots_;
        p.path = path.c_str();
        larder_expert_options o = LARDER_EXPERT_OPTIONS_INIT;
        o.n_layers = shape.n_layers;
        o.n_experts = shape.n_experts;
        o.n_precisions = 1;
        o.precisions = &p;
        o.precision_stride = sizeof p;
        larder_expert_cache* cache = nullptr;
        demo::check(larder_expert_create(context, &o, &cache), "expert cache");
        cache_.reset(cache);
        larder_queue* queue = nullptr;
        demo::check(larder_queue_create(context, nullptr, &queue), "queue");
        queue_.reset(queue);
    }
    ~CachedExperts() override { let_go(); }

    // Those that are there come first, so that the others load while they are computed. When the rows
    // need more than there are slots, they come in several goes.
    std::span<const uint32_t> begin(size_t layer, const engine::Routed& routed) override {
        layer_ = uint32_t(layer);
        order_.assign(routed.experts.begin(), routed.experts.end());
        std::sort(order_.begin(), order_.end());
        order_.erase(std::unique(order_.begin(), order_.end()), order_.end());
        at_ = 0;
        hold(0);
        const std::vector<uint32_t> asked(order_.begin(), order_.begin() + ptrdiff_t(held_));
        for (size_t i = 0; i < held_; ++i) {
            place_[views_[i].turn] = i;
            order_[views_[i].turn] = asked[i];
        }
        return order_;
    }
    const float* weights(uint32_t) override {
        if (at_ == first_ + held_) {
            let_go();
            hold(at_);
        }
        const larder_expert_view& v = views_[place_[at_++ - first_]];
        if (job_ && v.status == LARDER_PENDING)
            wait([&] { larder_job_wait_layer(queue_.get(), job_, v.turn, UINT64_MAX); });
        demo::check(v.status, "load of an expert");
        return reinterpret_cast<const float*>(v.address);
    }
    void done() override { let_go(); }

    double waited_s() const { return waited_s_; }
    larder_expert_state state() const {
        larder_expert_state s = LARDER_EXPERT_STATE_INIT;
        demo::check(larder_expert_query(cache_.get(), &s), "expert cache");
        return s;
    }

  private:
    template <class F> void wait(F f) {
        const auto begin = std::chrono::steady_clock::now();
        f();
        waited_s_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
    void hold(size_t first) {
        first_ = first;
        held_ = std::min<size_t>(layer_slots_, order_.size() - first);
        views_.assign(held_, larder_expert_view{});
        place_.resize(held_);
        std::iota(place_.begin(), place_.end(), 0);
        const larder_status s =
            larder_expert_acquire(cache_.get(), layer_, &order_[first], uint32_t(held_), views_.data(),
                                  sizeof(larder_expert_view), queue_.get(), 0, &job_, &lease_);
        demo::check(s, "experts");
        if (s != LARDER_PENDING) job_ = 0;
    }
    // A view is written until its job's completion is taken.
    void let_go() {
        if (job_) {
            larder_completion c;
            uint32_t n = 0;
            wait([&] { larder_queue_wait(queue_.get(), &c, sizeof c, 1, UINT64_MAX, &n); });
        }
        if (lease_) larder_expert_release(cache_.get(), lease_);
        job_ = 0, lease_ = 0, held_ = 0;
    }

    const uint32_t layer_slots_;
    demo::Handle<larder_queue, larder_queue_destroy> queue_;
    demo::Handle<larder_expert_cache, larder_expert_destroy> cache_;
    uint32_t layer_ = 0;
    std::vector<uint32_t> order_;
    std::vector<larder_expert_view> views_;  // of the experts held; written by loads, so they stay where they are
    std::vector<size_t> place_;              // of order_[first_ + i] in views_
    size_t first_ = 0, held_ = 0, at_ = 0;   // at_: the next to be asked for
    larder_job job_ = 0;
    larder_expert_lease lease_ = 0;
    double waited_s_ = 0;
};

}  // namespace moe
