/* The store: an object put today is there after a restart, and what is not its own is refused.
   usage: store DIRECTORY [RECORD]; RECORD receives what is asked of the store after the restart, for `larder replay` */
#include <larder/larder.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(larder_status s) {
    if (s < 0) {
        larder_error_info info = LARDER_ERROR_INFO_INIT;
        larder_last_error(&info);
        fprintf(stderr, "%s: %s\n", larder_status_name(s), info.message);
        exit(1);
    }
}

static larder_store* open_store(larder_context* context, const char* directory, const char* record) {
    larder_store* store;
    larder_store_options options = LARDER_STORE_OPTIONS_INIT;
    options.directory = directory;
    options.host_bytes = 1 << 20; /* RAM */
    options.file_bytes = 8 << 20; /* disk */
    options.segment_bytes = 1 << 20;
    options.record_path = record;
    must(larder_store_open(context, &options, &store));
    return store;
}

static larder_store_get_result get(larder_store* store, const larder_key* key, char layout, char* buffer,
                                   uint64_t capacity) {
    larder_object_want want = LARDER_OBJECT_WANT_INIT;
    memset(&want.layout, layout, sizeof want.layout);
    larder_store_get_item item = LARDER_STORE_GET_ITEM_INIT;
    item.key = *key, item.want = &want, item.buffer = buffer, item.capacity = capacity;
    larder_store_get_result result;
    must(larder_store_get(store, &item, sizeof item, 1, &result, NULL, 0, NULL));
    return result;
}

int main(int argc, char** argv) {
    if (argc != 2 && argc != 3) return fprintf(stderr, "usage: store DIRECTORY [RECORD]\n"), 2;
    larder_context* context;
    must(larder_context_create(NULL, &context));
    larder_store* store = open_store(context, argv[1], NULL);

    const char text[] = "the keys and values of sixteen tokens";
    larder_object_meta meta = LARDER_OBJECT_META_INIT;
    memset(&meta.layout, 'm', sizeof meta.layout); /* larder_layout_identity() in earnest */
    meta.n_tokens = 16;
    larder_store_put_item item = LARDER_STORE_PUT_ITEM_INIT;
    memset(&item.key, 'k', sizeof item.key);
    item.meta = &meta, item.data = text, item.n_bytes = sizeof text;
    larder_status status = larder_store_put(store, &item, sizeof item, 1, NULL, NULL, 0, NULL);
    if (status != LARDER_OK) return 1;
    must(larder_store_flush(store, NULL, 0, NULL)); /* from here on a crash cannot take it */
    larder_store_close(store);

    store = open_store(context, argv[1], argc == 3 ? argv[2] : NULL);
    char buffer[100];
    larder_store_get_result mine = get(store, &item.key, 'm', buffer, sizeof buffer);
    printf("after reopening: %s, from the %s tier: %s\n", larder_status_name(mine.status),
           mine.tier == LARDER_TIER_FILE ? "file" : "host", buffer);
    larder_store_get_result other = get(store, &item.key, 'x', buffer, sizeof buffer);
    printf("asked for with another model's layout: %s\n", larder_status_name(other.status));
    larder_store_close(store);
    must(larder_context_destroy(context));
    return mine.status == LARDER_OK && mine.n_bytes == sizeof text && other.status == LARDER_E_IDENTITY ? 0 : 1;
}
