/* The ordered index: put, look up in a batch, scan a range. */
#include <larder/larder.h>
#include <stdio.h>
#include <stdlib.h>

static void must(larder_status s) {
    if (s < 0) {
        fprintf(stderr, "%s\n", larder_status_text(s));
        exit(1);
    }
}

int main(void) {
    larder_context* context;
    larder_index* index;
    must(larder_context_create(NULL, &context));
    must(larder_index_create(context, NULL, &index)); /* 8-byte keys and values, ordered as integers */
    for (uint64_t i = 0; i < 100000; ++i) {
        uint64_t key = i * 7, value = i;
        must(larder_index_put(index, &key, &value));
    }

    uint64_t wanted[4] = {0, 7, 8, 699993}, values[4], n_found; /* 8 is not there */
    must(larder_index_get_many(index, wanted, 4, values, NULL, &n_found));
    printf("%d of 4 found, the last holds %d\n", (int)n_found, (int)values[3]);

    uint64_t from = 1000, keys[5], n;
    must(larder_index_scan(index, LARDER_INDEX_AT_LEAST, &from, keys, NULL, 5, &n));
    printf("from 1000 on:");
    for (uint64_t i = 0; i < n; ++i) printf(" %d", (int)keys[i]);
    must(larder_index_scan(index, LARDER_INDEX_AT_MOST, &from, keys, NULL, 1, &n));
    printf("; before it: %d\n", (int)keys[0]);

    uint64_t gone = 1001, value;
    must(larder_index_remove(index, &gone, &value));
    larder_status s = larder_index_get(index, &gone, &value);
    printf("1001 after its removal: %s\n", larder_status_name(s));
    larder_index_destroy(index);
    must(larder_context_destroy(context));
    return s == LARDER_MISS && n_found == 3 && keys[0] == 994 ? 0 : 1;
}
