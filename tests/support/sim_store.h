// A store on a simulated system, for tests that break the disk under it.
#pragma once

#include "core/context.h"
#include "os/sim_os.h"
#include "support/store_fixture.h"

class SimStore {
  public:
    explicit SimStore(larder::SimOs& os) {
        larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
        o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        o.seed = 1;
        assert_int_equal(larder_context::create(&o, os, &context_), LARDER_OK);
    }
    ~SimStore() {
        larder_store_close(store_);
        larder_context_destroy(context_);
    }
    SimStore(const SimStore&) = delete;

    static StoreSetup small() { return {.file_bytes = 4 * 65536 + 16384, .segment_bytes = 65536, .n_workers = 0}; }
    larder_status open(const StoreSetup& setup = small()) {
        const larder_store_options o = setup.options("/store");
        return larder_store_open(context_, &o, &store_);
    }
    void close() {
        larder_store_close(store_);
        store_ = nullptr;
    }
    larder_store* get() { return store_; }
    larder_context* context() { return context_; }

  private:
    larder_context* context_ = nullptr;
    larder_store* store_ = nullptr;
};
