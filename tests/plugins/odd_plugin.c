/* Plug-ins that a loader must refuse; which fault this one has is told by ODD_*. */
#include "larder/plugin/remote_v1.h"

static int32_t score(void) {
#ifdef ODD_SCORE
    return 0;
#else
    return 1;
#endif
}

#ifndef ODD_SYMBOL
__attribute__((visibility("default"))) const larder_remote_table_v1* larder_remote_plugin_v1(void) {
    static larder_remote_table_v1 table = {1, sizeof table, "odd", score, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
#ifdef ODD_VERSION
    table.version = 2;
#endif
#ifdef ODD_SIZE
    table.struct_size = sizeof table - sizeof(void*);
#endif
#if defined(ODD_SCORE)
    /* Never called: whole as far as the loader can see. */
    table.open = (void*)score, table.close = (void*)score, table.caps = (void*)score, table.counters = (void*)score;
    table.register_memory = (void*)score, table.unregister_memory = (void*)score, table.prepare = (void*)score;
    table.post = (void*)score, table.check = (void*)score, table.release = (void*)score;
#endif
#ifdef ODD_TABLE
    return 0;
#endif
    return &table;
}
#else
int larder_odd_plugin = 0;
#endif
