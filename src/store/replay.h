// Replays a trace of block references through a policy of the table.
#pragma once

#include "core/context.h"
#include "larder/replay.h"

namespace larder {

// Arguments are checked here; the counts are exact and depend on nothing but them.
larder_status replay(larder_context& c, const larder_replay_trace& trace, const larder_replay_options& options,
                     larder_replay_result& out);

}  // namespace larder
