// Looking at, and repairing, a store that is not open.
#pragma once

#include "core/context.h"
#include "larder/store.h"

namespace larder {

struct RecordSink {
    larder_store_record_fn fn = nullptr;
    void* ctx = nullptr;
};

// As larder_store_check().
larder_status check_store(larder_context& c, const char* directory, bool repair, RecordSink sink,
                          larder_store_report& report);

}  // namespace larder
