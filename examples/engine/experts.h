// Where the experts of a mixture are while a layer computes. In the model, unless somebody else keeps
// them: then a step asks for those that its tokens were routed to, and computes them in the order in
// which they come.
#pragma once

#include <cstdint>
#include <span>

namespace engine {

// What the router of one layer chose for the rows of a step.
struct Routed {
    std::span<const uint32_t> experts;  // [rows][topk], the strongest first
    std::span<const float> gates;       // [rows][topk], of each row 1 together
};

class Experts {
  public:
    virtual ~Experts() = default;
    // The layer needs these. Gives the order in which they are to be computed, each once; good until
    // done().
    virtual std::span<const uint32_t> begin(size_t layer, const Routed& routed) = 0;
    // Shape::expert_floats() floats that stay until the next call. Called once for each, in that
    // order.
    virtual const float* weights(uint32_t expert) = 0;
    virtual void done() = 0;
};

}  // namespace engine
