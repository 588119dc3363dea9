// Replays a routing trace through the policies of the expert cache.
#pragma once

#include "core/context.h"
#include "larder/expert.h"

namespace larder {

larder_status replay_experts(larder_context& c, const larder_moe_routing* routing,
                             const larder_expert_replay_options* options, uint64_t* hits,
                             larder_expert_replay_result& out);

}  // namespace larder
