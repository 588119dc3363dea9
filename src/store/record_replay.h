// Reads what a Recorder wrote: as requests, and as the policy's own work done again.
#pragma once

#include "core/context.h"
#include "larder/replay.h"

namespace larder {

larder_status replay_record(larder_context& c, const char* path, larder_recorded_fn fn, void* ctx,
                            larder_record_report& out);

}  // namespace larder
