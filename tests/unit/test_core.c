/* Status, context, parameters, statistics and layout through the C ABI. */
#include "support/cmocka.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "larder/larder.h"

static larder_error_info last(void) {
    larder_error_info e = LARDER_ERROR_INFO_INIT;
    assert_int_equal(larder_last_error(&e), LARDER_OK);
    return e;
}

static void assert_field(const char* field) {
    assert_string_equal(last().field, field);
}

/* --- status ------------------------------------------------------------------------------------------- */

static void status_names_and_numbers(void** state) {
    (void)state;
    assert_string_equal(larder_status_name(LARDER_OK), "OK");
    assert_string_equal(larder_status_name(LARDER_E_STALE), "E_STALE");
    assert_string_equal(larder_status_name(-12345), "UNKNOWN");
    assert_true(strlen(larder_status_text(LARDER_E_NOMEM)) > 5);
    assert_non_null(larder_status_text(77));
    /* Pinned for ever. */
    assert_int_equal(LARDER_E_INVALID, -1);
    assert_int_equal(LARDER_E_STATE, -16);
    assert_int_equal(LARDER_E_CLOSED, -100);
    assert_int_equal(LARDER_E_NO_DEVICE, -203);
    assert_int_equal(LARDER_E_FORKED, -300);
    assert_int_equal(LARDER_E_CORRUPT, -400);
    assert_int_equal(larder_version(), LARDER_VERSION_HEX);
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", LARDER_VERSION_MAJOR, LARDER_VERSION_MINOR, LARDER_VERSION_PATCH);
    assert_string_equal(larder_version_string(), text);
}

static void last_error_keeps_to_the_callers_size(void** state) {
    (void)state;
    assert_int_equal(larder_last_error(NULL), LARDER_E_INVALID);
    larder_error_info e = LARDER_ERROR_INFO_INIT;
    e.struct_size = 4;
    assert_int_equal(larder_last_error(&e), LARDER_E_INVALID);
    assert_int_equal(larder_context_create(NULL, NULL), LARDER_E_INVALID);
    memset(&e, 0x55, sizeof e);
    e.struct_size = 16;
    assert_int_equal(larder_last_error(&e), LARDER_OK);
    assert_int_equal(e.status, LARDER_E_INVALID);
    assert_int_equal(e.field[0], 0x55); /* beyond the stated size */
    assert_string_equal(last().field, "out_context");
}

static void* other_thread(void* arg) {
    *(larder_error_info*)arg = last();
    return NULL;
}

static void last_error_is_of_one_thread(void** state) {
    (void)state;
    assert_int_equal(larder_context_create(NULL, NULL), LARDER_E_INVALID);
    larder_error_info theirs;
    pthread_t t;
    pthread_create(&t, NULL, other_thread, &theirs);
    pthread_join(t, NULL);
    assert_int_equal(theirs.status, LARDER_OK);
    assert_int_equal(last().status, LARDER_E_INVALID);
}

/* --- context ------------------------------------------------------------------------------------------ */

static void options_are_checked(void** state) {
    (void)state;
    larder_context* c = (larder_context*)1;
    larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
    o.struct_size = 3;
    assert_int_equal(larder_context_create(&o, &c), LARDER_E_INVALID);
    assert_null(c);
    assert_field("struct_size");
    o = (larder_context_options)LARDER_CONTEXT_OPTIONS_INIT;
    o.n_workers = 65;
    assert_int_equal(larder_context_create(&o, &c), LARDER_E_RANGE);
    assert_field("n_workers");
    o.n_workers = 0;
    o.log_level = 5;
    assert_int_equal(larder_context_create(&o, &c), LARDER_E_RANGE);
    assert_field("log_level");
    o.log_level = 0;
    o.set_mask = 2;
    assert_int_equal(larder_context_create(&o, &c), LARDER_E_TOO_NEW);
    assert_field("set_mask");
    o.set_mask = 0;
    larder_allocator a = LARDER_ALLOCATOR_INIT;
    o.allocator = &a;
    assert_int_equal(larder_context_create(&o, &c), LARDER_E_INVALID);
    assert_field("allocator");
    /* From a newer header: an unknown tail of zeros is fine, anything else is not. */
    struct {
        larder_context_options known;
        uint64_t unknown;
    } newer = {LARDER_CONTEXT_OPTIONS_INIT, 0};
    newer.known.struct_size = sizeof newer;
    assert_int_equal(larder_context_create(&newer.known, &c), LARDER_OK);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
    newer.unknown = 1;
    assert_int_equal(larder_context_create(&newer.known, &c), LARDER_E_TOO_NEW);
    /* From an older one: only the first fields. */
    o = (larder_context_options)LARDER_CONTEXT_OPTIONS_INIT;
    o.struct_size = 16;
    o.n_workers = 1;
    memset((char*)&o + 16, 0xff, sizeof o - 16);
    assert_int_equal(larder_context_create(&o, &c), LARDER_OK);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
    assert_int_equal(larder_context_destroy(NULL), LARDER_OK);
}

struct counted {
    int n_alloc, n_free, n_log, n_drop;
    char line[512];
};

static void* counted_alloc(void* ctx, uint64_t n, uint64_t align) {
    __atomic_fetch_add(&((struct counted*)ctx)->n_alloc, 1, __ATOMIC_RELAXED);
    void* p = NULL;
    return posix_memalign(&p, align < 8 ? 8 : align, n) ? NULL : p;
}
static void counted_free(void* ctx, void* p, uint64_t n, uint64_t align) {
    (void)n, (void)align;
    __atomic_fetch_add(&((struct counted*)ctx)->n_free, 1, __ATOMIC_RELAXED);
    free(p);
}
static void counted_log(void* ctx, larder_log_level level, const char* line) {
    assert_int_equal(level, LARDER_LOG_WARNING);
    struct counted* c = ctx;
    ++c->n_log;
    snprintf(c->line, sizeof c->line, "%s", line);
}
static void counted_drop(void* ctx) {
    ++((struct counted*)ctx)->n_drop;
}

static void allocator_and_log_are_used_and_given_back(void** state) {
    (void)state;
    struct counted n = {0};
    larder_allocator a = {sizeof a, 0, &n, counted_alloc, counted_free};
    larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
    o.allocator = &a;
    o.log = (larder_log_sink){counted_log, &n, counted_drop};
    setenv("LARDER_IO_DEPTH", "many", 1);
    larder_context* c = NULL;
    assert_int_equal(larder_context_create(&o, &c), LARDER_OK);
    unsetenv("LARDER_IO_DEPTH");
    assert_int_equal(n.n_log, 1);
    assert_non_null(strstr(n.line, "LARDER_IO_DEPTH"));
    assert_true(n.n_alloc > 0);
    assert_int_equal(n.n_drop, 0);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
    assert_int_equal(n.n_alloc, n.n_free);
    assert_int_equal(n.n_drop, 1);
    o.n_workers = 99; /* a context that was not made takes no sink */
    assert_int_equal(larder_context_create(&o, &c), LARDER_E_RANGE);
    assert_int_equal(n.n_drop, 1);
}

static void parameters(void** state) {
    (void)state;
    uint64_t min, max, def, v;
    for (larder_param p = LARDER_PARAM_IO_DEPTH; p <= LARDER_PARAM_VERIFY_LOADS; ++p) {
        assert_int_equal(larder_param_bounds(p, &min, &max, &def), LARDER_OK);
        assert_true(min <= def && def <= max);
    }
    assert_int_equal(larder_param_bounds(LARDER_PARAM_IO_DEPTH, NULL, NULL, NULL), LARDER_OK);
    assert_int_equal(larder_param_bounds(0, NULL, NULL, NULL), LARDER_E_NOT_FOUND);
    assert_int_equal(larder_param_bounds(999, NULL, NULL, NULL), LARDER_E_NOT_FOUND);
    assert_int_equal(larder_param_bounds(-1, NULL, NULL, NULL), LARDER_E_NOT_FOUND);
    larder_context* c = NULL;
    setenv("LARDER_IO_DEPTH", "77", 1);
    setenv("LARDER_ISA_LEVEL", "0", 1);
    setenv("LARDER_IO_URING", "2", 1); /* outside its bounds: ignored */
    assert_int_equal(larder_context_create(NULL, &c), LARDER_OK);
    unsetenv("LARDER_IO_DEPTH");
    unsetenv("LARDER_ISA_LEVEL");
    unsetenv("LARDER_IO_URING");
    assert_int_equal(larder_context_get_u64(c, LARDER_PARAM_IO_DEPTH, &v), LARDER_OK);
    assert_int_equal(v, 77);
    assert_int_equal(larder_context_get_u64(c, LARDER_PARAM_IO_URING, &v), LARDER_OK);
    assert_int_equal(v, 1);
    assert_int_equal(larder_context_set_u64(c, LARDER_PARAM_IO_DEPTH, 5), LARDER_OK);
    assert_int_equal(larder_context_get_u64(c, LARDER_PARAM_IO_DEPTH, &v), LARDER_OK);
    assert_int_equal(v, 5);
    assert_int_equal(larder_context_set_u64(c, LARDER_PARAM_IO_DEPTH, 0), LARDER_E_RANGE);
    assert_int_equal(larder_context_set_u64(c, 99, 0), LARDER_E_NOT_FOUND);
    assert_int_equal(larder_context_get_u64(c, 99, &v), LARDER_E_NOT_FOUND);
    assert_int_equal(larder_context_get_u64(c, LARDER_PARAM_IO_DEPTH, NULL), LARDER_E_INVALID);
    larder_capabilities k = LARDER_CAPABILITIES_INIT;
    assert_int_equal(larder_context_capabilities(c, &k), LARDER_OK);
    assert_int_equal(k.isa_level, 0);
    assert_true(k.n_cpus >= 1 && k.n_numa_nodes >= 1 && k.page_bytes >= 4096 && k.memory_bytes > 0);
    assert_int_equal(larder_context_set_u64(c, LARDER_PARAM_IO_URING, 0), LARDER_OK);
    assert_int_equal(larder_context_capabilities(c, &k), LARDER_OK);
    assert_int_equal(k.io_uring, 0);
    assert_int_equal(larder_context_capabilities(c, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

static void statistics(void** state) {
    (void)state;
    larder_context* c = NULL;
    assert_int_equal(larder_context_create(NULL, &c), LARDER_OK);
    larder_stats s;
    memset(&s, 0x55, sizeof s);
    s.struct_size = 24; /* an older caller */
    assert_int_equal(larder_context_stats(c, &s), LARDER_OK);
    assert_int_equal(s.jobs_submitted, 0);
    assert_true(s.jobs_failed == 0x5555555555555555u);
    uint64_t n = 0;
    assert_int_equal(larder_context_stats_text(c, LARDER_STATS_JSON, NULL, 0, &n), LARDER_E_BUFFER_TOO_SMALL);
    char* text = malloc(n + 1);
    assert_int_equal(larder_context_stats_text(c, LARDER_STATS_JSON, text, n, NULL), LARDER_E_BUFFER_TOO_SMALL);
    assert_int_equal(larder_context_stats_text(c, LARDER_STATS_JSON, text, n + 1, &n), LARDER_OK);
    assert_int_equal(strlen(text), n);
    assert_true(text[0] == '{' && text[n - 1] == '}');
    assert_non_null(strstr(text, "\"jobs_submitted\":0"));
    free(text);
    assert_int_equal(larder_context_stats_text(c, LARDER_STATS_PROMETHEUS, NULL, 0, &n), LARDER_E_BUFFER_TOO_SMALL);
    text = malloc(n + 1);
    assert_int_equal(larder_context_stats_text(c, LARDER_STATS_PROMETHEUS, text, n + 1, NULL), LARDER_OK);
    assert_non_null(strstr(text, "# TYPE larder_slab_bytes gauge\nlarder_slab_bytes 0\n"));
    free(text);
    assert_int_equal(larder_context_stats_text(c, 9, NULL, 0, &n), LARDER_E_INVALID);
    assert_int_equal(larder_context_stats_text(c, LARDER_STATS_JSON, NULL, 5, &n), LARDER_E_INVALID);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

static void a_forked_child_is_told(void** state) {
    (void)state;
    larder_context* c = NULL;
    larder_queue* q = NULL;
    assert_int_equal(larder_context_create(NULL, &c), LARDER_OK);
    assert_int_equal(larder_queue_create(c, NULL, &q), LARDER_OK);
    const pid_t child = fork();
    if (child == 0) {
        uint32_t n;
        larder_completion done;
        if (larder_context_progress(c, 0) != LARDER_E_FORKED) _exit(1);
        if (larder_queue_poll(q, &done, sizeof done, 1, &n) != LARDER_E_FORKED) _exit(2);
        if (larder_context_destroy(c) != LARDER_E_FORKED) _exit(3);
        larder_queue_destroy(q);
        /* A child may begin anew. */
        larder_context* mine = NULL;
        larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
        o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        if (larder_context_create(&o, &mine) != LARDER_OK) _exit(4);
        if (larder_context_progress(mine, 0) != LARDER_OK) _exit(5);
        _exit(larder_context_destroy(mine) != LARDER_OK);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(larder_context_progress(c, 0), LARDER_OK);
    larder_queue_destroy(q);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

static void handles_are_checked(void** state) {
    (void)state;
    larder_context* c = NULL;
    assert_int_equal(larder_context_create(NULL, &c), LARDER_OK);
    assert_int_equal(larder_context_progress(NULL, 0), LARDER_E_INVALID);
    larder_queue* q = NULL;
    assert_int_equal(larder_queue_create(c, NULL, &q), LARDER_OK);
    assert_int_equal(larder_context_destroy(c), LARDER_E_BUSY);
    assert_non_null(strstr(last().message, "queue"));
    assert_int_equal(larder_context_progress((larder_context*)q, 0), LARDER_E_CLOSED); /* of another type */
    larder_queue_destroy(q);
    larder_queue_destroy(NULL);
    larder_capabilities k = LARDER_CAPABILITIES_INIT;
    assert_int_equal(larder_context_capabilities(c, &k), LARDER_OK);
    if (k.debug_handles) {
        int fd;
        assert_int_equal(larder_queue_fd(q, &fd), LARDER_E_CLOSED);
        larder_queue_destroy(q); /* twice: nothing happens */
    }
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

/* --- queue -------------------------------------------------------------------------------------------- */

static void empty_queues(void** state) {
    (void)state;
    larder_context* c = NULL;
    larder_queue* q = NULL;
    larder_completion done;
    uint32_t n = 7;
    assert_int_equal(larder_context_create(NULL, &c), LARDER_OK);
    larder_queue_options o = LARDER_QUEUE_OPTIONS_INIT;
    o.max_jobs = 65537;
    assert_int_equal(larder_queue_create(c, &o, &q), LARDER_E_RANGE);
    o.max_jobs = 0;
    o.reserved1 = 1;
    assert_int_equal(larder_queue_create(c, &o, &q), LARDER_E_INVALID);
    assert_field("reserved1");
    assert_int_equal(larder_queue_create(c, NULL, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_queue_create(c, NULL, &q), LARDER_OK);
    assert_int_equal(larder_queue_poll(q, &done, sizeof done, 1, &n), LARDER_OK);
    assert_int_equal(n, 0);
    assert_int_equal(larder_queue_wait(q, &done, sizeof done, 1, UINT64_MAX, &n), LARDER_E_NOT_FOUND);
    assert_int_equal(larder_queue_poll(q, &done, 4, 1, &n), LARDER_E_RANGE);
    assert_int_equal(larder_queue_poll(q, NULL, sizeof done, 1, &n), LARDER_E_INVALID);
    assert_int_equal(larder_queue_poll(q, &done, sizeof done, 1, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_job_wait(q, 12345, 0), LARDER_E_STALE);
    assert_int_equal(larder_job_wait_layer(q, 12345, 0, 0), LARDER_E_STALE);
    assert_int_equal(larder_job_cancel(q, 12345), LARDER_E_STALE);
    assert_int_equal(larder_job_errors(q, 12345, NULL, 16, 0, &n), LARDER_E_STALE);
    larder_queue_destroy(q);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

/* --- layout ------------------------------------------------------------------------------------------- */

static larder_context* ctx;
static larder_layer_group group;
static larder_layout_options options;

static void fresh(void) {
    group = (larder_layer_group)LARDER_LAYER_GROUP_INIT;
    group.n_layers = 4;
    group.n_kv_heads = 8;
    group.k_dim = group.v_dim = 64;
    options = (larder_layout_options)LARDER_LAYOUT_OPTIONS_INIT;
    options.n_groups = 1;
    options.groups = &group;
    options.group_stride = sizeof group;
}

static larder_status try_layout(larder_key* identity) {
    larder_layout* l = NULL;
    const larder_status s = larder_layout_create(ctx, &options, &l);
    assert_int_equal(l != NULL, s == LARDER_OK);
    if (l && identity) assert_int_equal(larder_layout_identity(l, identity), LARDER_OK);
    larder_layout_destroy(l);
    return s;
}

#define REJECTED(change, status, name)                                                                                 \
    do {                                                                                                               \
        fresh();                                                                                                       \
        change;                                                                                                        \
        assert_int_equal(try_layout(NULL), status);                                                                    \
        assert_field(name);                                                                                            \
    } while (0)

static void layout_errors_name_the_field(void** state) {
    (void)state;
    assert_int_equal(larder_context_create(NULL, &ctx), LARDER_OK);
    REJECTED(options.n_groups = 0, LARDER_E_RANGE, "n_groups");
    REJECTED(options.n_groups = 65, LARDER_E_RANGE, "n_groups");
    REJECTED(options.groups = NULL, LARDER_E_INVALID, "groups");
    REJECTED(options.group_stride = 0, LARDER_E_RANGE, "group_stride");
    REJECTED(options.group_stride = 8, LARDER_E_INVALID, "group_stride");
    REJECTED(options.rope = 9, LARDER_E_RANGE, "rope");
    REJECTED(options.rope_base = -1, LARDER_E_RANGE, "rope_base");
    REJECTED(options.rope_base = 1e308 * 10, LARDER_E_RANGE, "rope_base");
    REJECTED(options.model_digest.n_bytes = 4, LARDER_E_INVALID, "model_digest");
    REJECTED(options.reserved0 = 4, LARDER_E_INVALID, "reserved0");
    REJECTED(group.struct_size = 0, LARDER_E_INVALID, "struct_size");
    REJECTED(group.kind = 77, LARDER_E_RANGE, "groups.kind");
    REJECTED(group.kind = -1, LARDER_E_RANGE, "groups.kind");
    REJECTED(group.n_layers = 0, LARDER_E_RANGE, "groups.n_layers");
    REJECTED(group.n_layers = 4097, LARDER_E_RANGE, "groups.n_layers");
    REJECTED(group.block_tokens = 24, LARDER_E_INVALID, "groups.block_tokens");
    REJECTED(group.block_tokens = 8192, LARDER_E_RANGE, "groups.block_tokens");
    REJECTED(group.n_kv_heads = 0, LARDER_E_RANGE, "groups.n_kv_heads");
    REJECTED(group.k_dim = 0, LARDER_E_RANGE, "groups.k_dim");
    REJECTED(group.v_dim = 70000, LARDER_E_RANGE, "groups.v_dim");
    REJECTED(group.k_dtype = 50, LARDER_E_INVALID, "groups.k_dtype");
    REJECTED(group.v_dtype = 50, LARDER_E_INVALID, "groups.v_dtype");
    REJECTED(group.scale_bytes = 70000, LARDER_E_RANGE, "groups.scale_bytes");
    REJECTED(group.kind = LARDER_GROUP_WINDOW, LARDER_E_RANGE, "groups.window");
    REJECTED(group.kind = LARDER_GROUP_LATENT, LARDER_E_INVALID, "groups.v_dim");
    REJECTED((group.kind = LARDER_GROUP_LATENT, group.v_dim = 0, group.shard = LARDER_SHARD_SPLIT), LARDER_E_INVALID,
             "groups.shard");
    REJECTED((group.kind = LARDER_GROUP_RECURRENT, group.v_dim = 0), LARDER_E_RANGE, "groups.state_bytes");
    REJECTED((group.kind = LARDER_GROUP_RECURRENT, group.v_dim = 0, group.state_bytes = 8), LARDER_E_RANGE,
             "groups.checkpoint_tokens");
    REJECTED(group.hit_rule = 3, LARDER_E_RANGE, "groups.hit_rule");
    REJECTED(group.shard = 3, LARDER_E_RANGE, "groups.shard");
    REJECTED(group.role = 3, LARDER_E_RANGE, "groups.role");
    static const uint32_t repeated[4] = {0, 1, 1, 2};
    REJECTED(group.layers = repeated, LARDER_E_INVALID, "groups.layers");
    assert_int_equal(larder_context_destroy(ctx), LARDER_OK);
}

static void layout_sizes_and_identity(void** state) {
    (void)state;
    assert_int_equal(larder_context_create(NULL, &ctx), LARDER_OK);
    fresh();
    larder_layout* l = NULL;
    assert_int_equal(larder_layout_create(ctx, &options, &l), LARDER_OK);
    larder_group_info i = LARDER_GROUP_INFO_INIT;
    assert_int_equal(larder_layout_group_info(l, 0, 2, &i), LARDER_OK);
    assert_int_equal(i.kind, LARDER_GROUP_FULL);
    assert_int_equal(i.block_tokens, 16);
    assert_int_equal(i.n_kv_heads, 4);
    assert_int_equal(i.k_token_bytes, 4 * 64 * 2);
    assert_int_equal(i.layer_block_bytes, 16 * 2 * 4 * 64 * 2);
    assert_int_equal(i.block_bytes, 4 * i.layer_block_bytes);
    assert_int_equal(larder_layout_group_info(l, 1, 1, &i), LARDER_E_RANGE);
    assert_int_equal(larder_layout_group_info(l, 0, 3, &i), LARDER_E_RANGE);
    assert_int_equal(larder_layout_group_info(l, 0, 0, &i), LARDER_E_RANGE);
    assert_int_equal(larder_context_destroy(ctx), LARDER_E_BUSY);
    larder_layout_destroy(l);
    larder_layout_destroy(NULL);

    /* Equal fields, equal identity, written out or by default; every field counts. */
    larder_key a, b;
    assert_int_equal(try_layout(&a), LARDER_OK);
    group.kind = LARDER_GROUP_FULL;
    group.block_tokens = 16;
    group.k_dtype = LARDER_DTYPE_F16;
    static const uint32_t layers[4] = {0, 1, 2, 3}, others[4] = {0, 1, 2, 4};
    group.layers = layers;
    options.rope_base = 10000;
    assert_int_equal(try_layout(&b), LARDER_OK);
    assert_memory_equal(&a, &b, sizeof a);
#define DIFFERS(change)                                                                                                \
    fresh();                                                                                                           \
    change;                                                                                                            \
    assert_int_equal(try_layout(&b), LARDER_OK);                                                                       \
    assert_memory_not_equal(&a, &b, sizeof a)
    DIFFERS(group.block_tokens = 32);
    DIFFERS(group.n_kv_heads = 4);
    DIFFERS(group.k_dim = 32);
    DIFFERS(group.v_dim = 32);
    DIFFERS(group.k_dtype = LARDER_DTYPE_BF16);
    DIFFERS(group.v_dtype = LARDER_DTYPE_BF16);
    DIFFERS(group.scale_bytes = 4);
    DIFFERS(group.layers = others);
    DIFFERS(group.role = LARDER_ROLE_DRAFT);
    DIFFERS(group.shard = LARDER_SHARD_REPLICATED);
    DIFFERS(options.rope = LARDER_ROPE_PRE);
    DIFFERS(options.rope_base = 500000);
    DIFFERS(options.vocab_size = 1000);
    DIFFERS((options.model_digest.data = "m", options.model_digest.n_bytes = 1));
    DIFFERS((options.tokenizer_digest.data = "m", options.tokenizer_digest.n_bytes = 1));
    assert_int_equal(larder_context_destroy(ctx), LARDER_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_names_and_numbers),
        cmocka_unit_test(last_error_keeps_to_the_callers_size),
        cmocka_unit_test(last_error_is_of_one_thread),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(allocator_and_log_are_used_and_given_back),
        cmocka_unit_test(parameters),
        cmocka_unit_test(statistics),
        cmocka_unit_test(a_forked_child_is_told),
        cmocka_unit_test(handles_are_checked),
        cmocka_unit_test(empty_queues),
        cmocka_unit_test(layout_errors_name_the_field),
        cmocka_unit_test(layout_sizes_and_identity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
