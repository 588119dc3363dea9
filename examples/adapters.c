/* Three adapters of different rank, kept at one bit per weight, in one pool with the KV cache. */
#include <larder/larder.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static void must(larder_status status) {
    if (status >= LARDER_OK) return;
    larder_error_info e = LARDER_ERROR_INFO_INIT;
    larder_last_error(&e);
    fprintf(stderr, "%s: %s\n", larder_status_text(status), e.message);
    exit(1);
}

/* A cell is one row of HIDDEN weights; an adapter of rank r has r rows of A and of B for each of q, k, v and o. */
enum { HIDDEN = 64, ADAPTERS = 3, MAX_RANK = 16 };

typedef struct shelf {
    larder_cells* pool;
    uint8_t bytes[ADAPTERS][4096]; /* compact, as they were stored */
    uint64_t n_bytes[ADAPTERS];
} shelf;

/* The cache found cells for an adapter: fill them. Matrix 0 goes to plane 0 (A), matrix 1 to plane 1 (B). */
static larder_status load(void* ctx, const larder_lora_request* request) {
    static float row_major[4 * MAX_RANK * HIDDEN];
    const shelf* s = ctx;
    larder_span adapter = {s->bytes[request->user_data], s->n_bytes[request->user_data]};
    for (uint32_t plane = 0; plane < 2; ++plane) {
        const uint64_t n_weights = (uint64_t)request->n_cells * HIDDEN;
        const larder_status status = larder_adapter_decode(adapter, plane, NULL, NULL, 0, row_major, n_weights);
        if (status < 0) return status; /* a damaged adapter: its acquire says so, others do not notice */
        for (uint32_t i = 0; i < request->n_cells; ++i) {
            void* cell;
            must(larder_cells_address(s->pool, plane, 0, request->cells[i], &cell));
            for (int c = 0; c < HIDDEN; ++c) ((float*)cell)[c] = row_major[i * HIDDEN + (uint32_t)c];
        }
    }
    return LARDER_OK;
}

static void store_one_bit(shelf* s, uint32_t which, uint32_t rank) {
    static float values[4 * MAX_RANK * HIDDEN];
    for (uint32_t i = 0; i < 4 * rank * HIDDEN; ++i) values[i] = (float)((i * 37 + which) % 101) / 101.0f - 0.5f;
    larder_adapter_matrix matrices[2] = {LARDER_ADAPTER_MATRIX_INIT, LARDER_ADAPTER_MATRIX_INIT};
    for (int m = 0; m < 2; ++m) {
        matrices[m].rows = 4 * rank, matrices[m].cols = HIDDEN;
        matrices[m].name = m ? "B" : "A";
        matrices[m].values = values;
    }
    must(larder_adapter_encode(NULL, matrices, 2, s->bytes[which], sizeof s->bytes[which], &s->n_bytes[which]));
}

int main(void) {
    static shelf s;
    const uint32_t ranks[ADAPTERS] = {16, 4, 8};
    larder_context* context;
    must(larder_context_create(NULL, &context));

    larder_cells_options co = LARDER_CELLS_OPTIONS_INIT;
    co.n_cells = 120, co.cell_bytes = HIDDEN * sizeof(float);
    must(larder_cells_create(context, &co, &s.pool));

    larder_lora_options lo = LARDER_LORA_OPTIONS_INIT;
    lo.cells = s.pool, lo.max_rank = MAX_RANK;
    lo.load.fn = load, lo.load.ctx = &s;
    larder_lora* cache;
    must(larder_lora_create(context, &lo, &cache));
    larder_lora_adapter ids[ADAPTERS];
    for (uint32_t i = 0; i < ADAPTERS; ++i) {
        store_one_bit(&s, i, ranks[i]);
        must(larder_lora_register(cache, ranks[i], 16.0f / (float)ranks[i], i, &ids[i]));
    }

    /* The batch at hand uses adapters 0 and 1; while it runs, adapter 2 is made ready for the next one. */
    larder_status statuses[2];
    must(larder_lora_acquire(cache, ids, 2, statuses));
    must(larder_lora_prefetch(cache, &ids[2], 1, statuses));
    int32_t cells[120], kv[20];
    uint32_t starts[3];
    float scalings[2];
    must(larder_lora_tables(cache, ids, 2, cells, 120, starts, scalings));
    printf("the batch: %u and %u cells; the next one's adapter: %s\n", starts[1], starts[2] - starts[1],
           statuses[0] == LARDER_OK ? "there" : "does not fit");

    /* The batch is done and KV grows by 20 cells, of which 8 are free: the least recently used adapter goes. */
    must(larder_lora_release(cache, ids, 2));
    must(larder_lora_make_room(cache, 20));
    must(larder_cells_alloc(s.pool, LARDER_CELLS_ANY, 20, kv));
    larder_lora_state state = LARDER_LORA_STATE_INIT;
    must(larder_lora_query(cache, &state));
    printf("%u adapters in %llu cells beside 20 of KV, %llu evicted\n", state.n_resident,
           (unsigned long long)state.n_cells, (unsigned long long)state.n_evictions);

    larder_lora_destroy(cache);
    larder_cells_destroy(s.pool);
    must(larder_context_destroy(context));
    return 0;
}
