/** @file larder.h
 *  @brief The umbrella: includes every stable header of Larder.
 */
#ifndef LARDER_LARDER_H
#define LARDER_LARDER_H

#include "larder/adapter.h"
#include "larder/arena.h"
#include "larder/base.h"
#include "larder/cells.h"
#include "larder/codec.h"
#include "larder/context.h"
#include "larder/device.h"
#include "larder/event.h"
#include "larder/expert.h"
#include "larder/index.h"
#include "larder/job.h"
#include "larder/kv.h"
#include "larder/layout.h"
#include "larder/loader.h"
#include "larder/lora.h"
#include "larder/moe.h"
#include "larder/plan.h"
#include "larder/prefix.h"
#include "larder/remote.h"
#include "larder/replay.h"
#include "larder/state.h"
#include "larder/stats.h"
#include "larder/status.h"
#include "larder/store.h"
#include "larder/stream.h"
#include "larder/swap.h"
#include "larder/topology.h"
#include "larder/translation.h"
#include "larder/vtensor.h"

#endif
