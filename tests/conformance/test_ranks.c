/* One planner process, two worker processes with half the kv heads each. Plans and reports go through pipes; a worker
 * dies and is replaced.
 *
 * The program starts itself again as a worker: PROGRAM --worker RANK DIRECTORY, with requests on stdin and answers on
 * stdout. */
#include "support/cmocka.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "larder/larder.h"

enum { N_RANKS = 2, N_LAYERS = 3, BLOCK = 4, HEADS = 4, DIM = 8, N_BLOCKS = 24, MAX_TOKENS = 64, MAX_OPS = 64 };

#define OK(expr)                                                                                                       \
    do {                                                                                                               \
        larder_status status_ = (expr);                                                                                \
        if (status_ != LARDER_OK) {                                                                                    \
            larder_error_info info_ = LARDER_ERROR_INFO_INIT;                                                          \
            larder_last_error(&info_);                                                                                 \
            fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #expr, larder_status_name(status_),             \
                    info_.message);                                                                                    \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* ------------------------------------------------------------------- the model, known to both sides */

static uint64_t mix(uint64_t x) {
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

static uint64_t next_state(uint64_t state, int32_t token) {
    return mix(state * 31 + (uint32_t)token + 1);
}

static uint16_t value(uint64_t state, uint32_t layer, uint32_t plane, uint32_t head, uint32_t d) {
    return (uint16_t)(mix(state ^ ((uint64_t)layer << 40 | (uint64_t)plane << 36 | (uint64_t)head << 16 | d)) &
                      0x83ff) |
           0x3800;
}

static larder_layout* make_layout(larder_context* context) {
    larder_layer_group group = LARDER_LAYER_GROUP_INIT;
    group.n_layers = N_LAYERS;
    group.block_tokens = BLOCK;
    group.n_kv_heads = HEADS;
    group.k_dim = group.v_dim = DIM;
    larder_layout_options options = LARDER_LAYOUT_OPTIONS_INIT;
    options.n_groups = 1;
    options.groups = &group;
    options.group_stride = sizeof group;
    larder_layout* layout = NULL;
    OK(larder_layout_create(context, &options, &layout));
    return layout;
}

/* ------------------------------------------------------------------------- the pipes */

enum { ASK_APPLY = 1, ASK_WRITE = 2, ASK_CHECK = 3, ASK_INVENTORY = 4 };

typedef struct request {
    uint32_t kind;
    uint32_t n_bytes; /* of what follows: a plan */
    int64_t slot;     /* WRITE, CHECK */
    uint64_t state;
} request;

typedef struct answer {
    uint64_t id; /* APPLY: the plan's; CHECK: 1 when all is right */
    uint64_t n;  /* of what follows: statuses, or bytes of an inventory */
} answer;

static int read_all(int fd, void* p, size_t n) {
    for (char* at = p; n;) {
        ssize_t k = read(fd, at, n);
        if (k <= 0) return 0;
        at += k;
        n -= (size_t)k;
    }
    return 1;
}

static int write_all(int fd, const void* p, size_t n) {
    for (const char* at = p; n;) {
        ssize_t k = write(fd, at, n);
        if (k <= 0) return 0;
        at += k;
        n -= (size_t)k;
    }
    return 1;
}

/* ------------------------------------------------------------------------- the worker */

typedef struct shard {
    larder_worker* worker;
    larder_kv_layer_view layers[N_LAYERS];
    uint32_t rank;
} shard;

static uint16_t* place(const shard* s, uint32_t layer, uint32_t plane, int64_t slot) {
    const larder_kv_layer_view* v = &s->layers[layer];
    char* base = plane ? v->v : v->k;
    return (uint16_t*)(base + (uint64_t)(slot / BLOCK) * (plane ? v->v_block_stride_bytes : v->k_block_stride_bytes) +
                       (uint64_t)(slot % BLOCK) * (plane ? v->v_token_stride_bytes : v->k_token_stride_bytes));
}

/* Writes a token's K and V of this rank's heads, or compares them. */
static int touch_token(const shard* s, int64_t slot, uint64_t state, int write) {
    int same = 1;
    for (uint32_t layer = 0; layer < N_LAYERS; ++layer)
        for (uint32_t plane = 0; plane < 2; ++plane)
            for (uint32_t i = 0; i < HEADS / N_RANKS * DIM; ++i) {
                uint16_t* at = place(s, layer, plane, slot) + i;
                uint16_t v = value(state, layer, plane, s->rank * (HEADS / N_RANKS) + i / DIM, i % DIM);
                if (write) *at = v;
                same &= *at == v;
            }
    return same;
}

static void apply(const shard* s, larder_context* context, larder_queue* queue, const request* r) {
    void* bytes = malloc(r->n_bytes);
    if (!read_all(0, bytes, r->n_bytes)) exit(1);
    larder_plan* plan = NULL;
    OK(larder_plan_import(context, bytes, r->n_bytes, &plan));
    larder_plan_info info = LARDER_PLAN_INFO_INIT;
    OK(larder_plan_get_info(plan, &info));
    larder_job job = 0;
    larder_status started = larder_worker_submit(s->worker, plan, 0, queue, 1, &job);
    if (started != LARDER_PENDING) abort();
    larder_plan_destroy(plan);
    larder_completion done;
    uint32_t n_done = 0;
    OK(larder_queue_wait(queue, &done, sizeof done, 1, UINT64_MAX, &n_done));
    larder_status statuses[MAX_OPS];
    answer a = {info.id, 0};
    OK(larder_worker_take_report(s->worker, info.id, statuses, MAX_OPS, &a.n));
    write_all(1, &a, sizeof a);
    write_all(1, statuses, a.n * sizeof statuses[0]);
    free(bytes);
}

static void send_inventory(const shard* s) {
    answer a = {0, 0};
    if (larder_worker_export_inventory(s->worker, NULL, 0, &a.n) != LARDER_E_BUFFER_TOO_SMALL) abort();
    void* bytes = malloc(a.n);
    OK(larder_worker_export_inventory(s->worker, bytes, a.n, &a.n));
    write_all(1, &a, sizeof a);
    write_all(1, bytes, a.n);
    free(bytes);
}

static int worker_main(uint32_t rank, const char* directory) {
    larder_context* context = NULL;
    OK(larder_context_create(NULL, &context));
    larder_layout* layout = make_layout(context);
    larder_queue* queue = NULL;
    OK(larder_queue_create(context, NULL, &queue));
    shard s = {NULL, {LARDER_KV_LAYER_VIEW_INIT, LARDER_KV_LAYER_VIEW_INIT, LARDER_KV_LAYER_VIEW_INIT}, rank};
    larder_worker_options options = LARDER_WORKER_OPTIONS_INIT;
    options.tp = rank;
    options.n_tp = N_RANKS;
    options.n_blocks = N_BLOCKS;
    options.host_bytes = 1 << 20;
    options.directory = directory;
    options.file_bytes = 4 << 20;
    options.segment_bytes = 64 << 10;
    options.engine_memory = rank == 1; /* one rank brings its own memory, one token's row wider than needed */
    OK(larder_worker_create(context, layout, &options, &s.worker));
    void* tensors = NULL;
    if (options.engine_memory) {
        enum { ROW = HEADS / N_RANKS * DIM * 2 + 32 };
        tensors = calloc(N_LAYERS * 2 * (N_BLOCKS + 1), BLOCK * ROW);
        for (uint32_t layer = 0; layer < N_LAYERS; ++layer) {
            larder_worker_tensor t = LARDER_WORKER_TENSOR_INIT;
            t.layer = layer;
            t.view.k = (char*)tensors + (size_t)(2 * layer) * (N_BLOCKS + 1) * BLOCK * ROW;
            t.view.v = (char*)t.view.k + (size_t)(N_BLOCKS + 1) * BLOCK * ROW;
            t.view.n_blocks = N_BLOCKS + 1;
            t.view.k_token_stride_bytes = t.view.v_token_stride_bytes = ROW;
            t.view.k_block_stride_bytes = t.view.v_block_stride_bytes = BLOCK * ROW;
            OK(larder_worker_register(s.worker, &t, sizeof t, 1));
            if (larder_worker_register(s.worker, &t, sizeof t, 1) != LARDER_E_EXISTS) abort();
        }
    }
    for (uint32_t layer = 0; layer < N_LAYERS; ++layer)
        OK(larder_worker_get_layer(s.worker, 0, layer, &s.layers[layer]));
    request r;
    while (read_all(0, &r, sizeof r)) {
        if (r.kind == ASK_APPLY) apply(&s, context, queue, &r);
        if (r.kind == ASK_WRITE) touch_token(&s, r.slot, r.state, 1);
        if (r.kind == ASK_CHECK) {
            answer a = {(uint64_t)touch_token(&s, r.slot, r.state, 0), 0};
            write_all(1, &a, sizeof a);
        }
        if (r.kind == ASK_INVENTORY) send_inventory(&s);
    }
    larder_worker_destroy(s.worker);
    larder_queue_destroy(queue);
    larder_layout_destroy(layout);
    OK(larder_context_destroy(context));
    free(tensors);
    return 0;
}

/* ------------------------------------------------------------------------- the planner's side */

typedef struct rank {
    pid_t pid;
    int to, from;
    char directory[64];
} rank;

typedef struct replica {
    larder_context* context;
    larder_layout* layout;
    larder_planner* planner;
    rank ranks[N_RANKS];
} replica;

static void start_worker(replica* m, uint32_t r) {
    int in[2], out[2];
    if (pipe(in) || pipe(out)) abort();
    fflush(stdout);
    rank* k = &m->ranks[r];
    k->pid = fork();
    if (k->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        for (int fd = 3; fd < 256; ++fd) close(fd);
        char number[2] = {(char)('0' + r), 0};
        execl("/proc/self/exe", "worker", "--worker", number, k->directory, (char*)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    k->to = in[1];
    k->from = out[0];
}

static void stop_worker(rank* k, int kill_it) {
    if (kill_it) kill(k->pid, SIGKILL);
    close(k->to);
    close(k->from);
    int status = 0;
    waitpid(k->pid, &status, 0);
    if (!kill_it) assert_int_equal(status, 0);
}

static void send_plan(replica* m, uint32_t r, const larder_plan* plan) {
    uint64_t n = 0;
    assert_int_equal(larder_plan_export(plan, NULL, 0, &n), LARDER_E_BUFFER_TOO_SMALL);
    void* bytes = malloc(n);
    OK(larder_plan_export(plan, bytes, n, &n));
    OK(larder_plan_validate(bytes, n));
    const request q = {ASK_APPLY, (uint32_t)n, 0, 0};
    assert_true(write_all(m->ranks[r].to, &q, sizeof q) && write_all(m->ranks[r].to, bytes, n));
    free(bytes);
}

static larder_status take_report(replica* m, uint32_t r) {
    answer a;
    larder_status statuses[MAX_OPS];
    assert_true(read_all(m->ranks[r].from, &a, sizeof a));
    assert_true(a.n <= MAX_OPS && read_all(m->ranks[r].from, statuses, a.n * sizeof statuses[0]));
    return larder_planner_report(m->planner, a.id, r, statuses, a.n);
}

/* Send a plan to every rank, take every report, free the plan. */
static void carry_out(replica* m, larder_plan* plan) {
    if (!plan) return;
    for (uint32_t r = 0; r < N_RANKS; ++r) send_plan(m, r, plan);
    assert_int_equal(take_report(m, 1), LARDER_PENDING);
    assert_int_equal(take_report(m, 0), LARDER_OK);
    larder_plan_destroy(plan);
}

static uint64_t matched(replica* m, const int32_t* tokens, uint64_t n, larder_lease* lease) {
    larder_kv_query q = LARDER_KV_QUERY_INIT;
    q.tokens = tokens;
    q.n_tokens = n;
    q.max_match_tokens = UINT64_MAX;
    q.peek = !lease;
    larder_kv_match_info info = LARDER_KV_MATCH_INFO_INIT;
    OK(larder_planner_match(m->planner, &q, &info));
    if (lease) *lease = info.lease;
    return info.n_tokens;
}

static larder_kv_seq_info seq_info(replica* m, larder_seq seq) {
    larder_kv_seq_info i = LARDER_KV_SEQ_INFO_INIT;
    OK(larder_planner_seq_get_info(m->planner, seq, &i));
    return i;
}

/* Asks every rank to write, or to compare, the tokens [first, n) of a sequence. */
static void touch_tokens(replica* m, larder_seq seq, const int32_t* tokens, uint64_t first, uint64_t n, int write) {
    int64_t slots[MAX_TOKENS];
    larder_kv_view_options o = LARDER_KV_VIEW_OPTIONS_INIT;
    uint64_t zero = 0;
    o.format = LARDER_KV_VIEW_SLOT_MAPPING;
    o.dst = slots;
    o.dst_stride = MAX_TOKENS;
    o.first_token = &zero;
    OK(larder_planner_view(m->planner, &seq, 1, &o));
    uint64_t state = 1;
    for (uint64_t i = 0; i < n; ++i) {
        state = next_state(state, tokens[i]);
        for (uint32_t r = 0; i >= first && r < N_RANKS; ++r) {
            const request q = {write ? ASK_WRITE : ASK_CHECK, 0, slots[i], state};
            answer a = {1, 0};
            assert_true(write_all(m->ranks[r].to, &q, sizeof q));
            if (!write) assert_true(read_all(m->ranks[r].from, &a, sizeof a));
            assert_int_equal(a.id, 1);
        }
    }
}

static larder_seq begin(replica* m, const int32_t* tokens, uint64_t n) {
    larder_lease lease = 0;
    matched(m, tokens, n, &lease);
    larder_seq seq = 0;
    larder_plan* plan = NULL;
    const larder_status s = larder_planner_begin(m->planner, lease, NULL, &seq, &plan);
    assert_true(s == LARDER_OK || s == LARDER_PENDING);
    if (s == LARDER_PENDING) assert_int_equal(seq_info(m, seq).state, LARDER_KV_SEQ_LOADING);
    carry_out(m, plan);
    assert_int_equal(seq_info(m, seq).state, LARDER_KV_SEQ_ACTIVE);
    touch_tokens(m, seq, tokens, 0, seq_info(m, seq).n_computed, 0);
    return seq;
}

/* Computes tokens up to n; gives the plan that names what sealed. */
static larder_plan* compute(replica* m, larder_seq seq, const int32_t* tokens, uint64_t n) {
    const uint64_t done = seq_info(m, seq).n_computed;
    larder_plan* plan = NULL;
    larder_status s;
    while ((s = larder_planner_reserve(m->planner, seq, n - done, 0, &plan)) == LARDER_RETRY) carry_out(m, plan);
    assert_int_equal(s, LARDER_OK);
    carry_out(m, plan);
    touch_tokens(m, seq, tokens, done, n, 1);
    OK(larder_planner_commit(m->planner, seq, tokens + done, n - done, &plan));
    return plan;
}

static void serve(replica* m, const int32_t* tokens, uint64_t n, uint64_t expected) {
    larder_seq seq = begin(m, tokens, n);
    assert_int_equal(seq_info(m, seq).n_computed, expected);
    if (expected < n) carry_out(m, compute(m, seq, tokens, n));
    touch_tokens(m, seq, tokens, 0, n, 0);
    OK(larder_planner_end(m->planner, seq));
}

static void prompt(int32_t* tokens, int32_t id) {
    for (int32_t i = 0; i < MAX_TOKENS; ++i) tokens[i] = id * 1000 + i;
}

static int set_up(void** state) {
    replica* m = calloc(1, sizeof *m);
    for (uint32_t r = 0; r < N_RANKS; ++r) {
        snprintf(m->ranks[r].directory, sizeof m->ranks[r].directory, "/tmp/larder-ranks-XXXXXX");
        if (!mkdtemp(m->ranks[r].directory)) abort();
        start_worker(m, r);
    }
    larder_context_options co = LARDER_CONTEXT_OPTIONS_INIT;
    co.set_mask = LARDER_CONTEXT_SET_N_WORKERS; /* none: this process forks */
    OK(larder_context_create(&co, &m->context));
    m->layout = make_layout(m->context);
    larder_planner_options o = LARDER_PLANNER_OPTIONS_INIT;
    o.n_tp = N_RANKS;
    o.n_blocks = N_BLOCKS;
    o.max_sequences = 8;
    o.has_store = 1;
    OK(larder_planner_create(m->context, m->layout, &o, &m->planner));
    signal(SIGPIPE, SIG_IGN);
    *state = m;
    return 0;
}

static int tear_down(void** state) {
    replica* m = *state;
    for (uint32_t r = 0; r < N_RANKS; ++r) {
        stop_worker(&m->ranks[r], 0);
        char command[128];
        snprintf(command, sizeof command, "rm -rf %s", m->ranks[r].directory);
        if (system(command)) return 1;
    }
    larder_planner_destroy(m->planner);
    larder_layout_destroy(m->layout);
    const larder_status s = larder_context_destroy(m->context);
    free(m);
    return s;
}

static void test_matchable_when_all_have_succeeded(void** state) {
    replica* m = *state;
    int32_t a[MAX_TOKENS];
    prompt(a, 1);
    larder_seq seq = begin(m, a, 8);
    larder_plan* plan = compute(m, seq, a, 8);
    assert_non_null(plan);
    assert_int_equal(matched(m, a, 8, NULL), 0);
    for (uint32_t r = 0; r < N_RANKS; ++r) send_plan(m, r, plan);
    assert_int_equal(take_report(m, 0), LARDER_PENDING);
    assert_int_equal(matched(m, a, 8, NULL), 0);
    assert_int_equal(take_report(m, 1), LARDER_OK);
    assert_int_equal(matched(m, a, 8, NULL), 8);
    /* A rank that failed: what it failed for is not found. */
    larder_plan* failed = compute(m, seq, a, 12);
    larder_plan_info info = LARDER_PLAN_INFO_INIT;
    OK(larder_plan_get_info(failed, &info));
    assert_int_equal(info.n_ops, 1);
    const larder_status good = LARDER_OK, bad = LARDER_E_DEVICE;
    assert_int_equal(larder_planner_report(m->planner, info.id, 0, &bad, 1), LARDER_PENDING);
    assert_int_equal(larder_planner_report(m->planner, info.id, 0, &good, 1), LARDER_E_EXISTS);
    assert_int_equal(larder_planner_report(m->planner, info.id, 1, &good, 2), LARDER_E_RANGE);
    OK(larder_planner_report(m->planner, info.id, 1, &good, 1));
    assert_int_equal(larder_planner_report(m->planner, info.id, 1, &good, 1), LARDER_E_STALE);
    assert_int_equal(matched(m, a, 12, NULL), 8);
    larder_plan_destroy(failed);
    larder_plan_destroy(plan);
    OK(larder_planner_end(m->planner, seq));
}

static void test_tiers_of_two_ranks(void** state) {
    replica* m = *state;
    int32_t t[MAX_TOKENS];
    for (int32_t i = 0; i < 6; ++i) { /* 6 * 8 blocks over 24: the arenas overflow */
        prompt(t, i);
        serve(m, t, 33, 0);
    }
    for (int32_t i = 0; i < 6; ++i) {
        prompt(t, i);
        serve(m, t, 33, 32);
    }
    /* Sharing: a second prompt that differs late. */
    t[30] = 7;
    serve(m, t, 33, 30);
}

static void test_a_worker_dies(void** state) {
    replica* m = *state;
    int32_t a[MAX_TOKENS], b[MAX_TOKENS];
    prompt(a, 1);
    prompt(b, 2);
    serve(m, a, 33, 0);
    larder_plan* plan = NULL;
    OK(larder_planner_flush(m->planner, &plan));
    carry_out(m, plan);

    /* It dies with a plan in hand. */
    larder_seq open = begin(m, b, 12);
    plan = compute(m, open, b, 12);
    send_plan(m, 0, plan);
    stop_worker(&m->ranks[1], 1);
    assert_int_equal(take_report(m, 0), LARDER_PENDING);
    OK(larder_planner_rank_dead(m->planner, 1));
    larder_plan_destroy(plan);
    larder_kv_seq_info info = LARDER_KV_SEQ_INFO_INIT;
    assert_int_equal(larder_planner_seq_get_info(m->planner, open, &info), LARDER_E_PEER_DEAD);
    assert_int_equal(larder_planner_commit(m->planner, open, b, 1, &plan), LARDER_E_PEER_DEAD);
    larder_kv_query q = LARDER_KV_QUERY_INIT;
    q.tokens = a;
    q.n_tokens = 33;
    larder_kv_match_info found = LARDER_KV_MATCH_INFO_INIT;
    assert_int_equal(larder_planner_match(m->planner, &q, &found), LARDER_E_PEER_DEAD);
    OK(larder_planner_end(m->planner, open));
    larder_kv_info all = LARDER_KV_INFO_INIT;
    OK(larder_planner_get_info(m->planner, &all));
    assert_int_equal(all.n_free, N_BLOCKS); /* nothing is held for the dead, and no block is half there */

    /* A new one on the same directory. Until it has told what it has, nothing is found. */
    start_worker(m, 1);
    OK(larder_planner_rank_alive(m->planner, 1));
    assert_int_equal(larder_planner_rank_alive(m->planner, 1), LARDER_E_STATE);
    assert_int_equal(matched(m, a, 33, NULL), 0);
    const request ask = {ASK_INVENTORY, 0, 0, 0};
    answer n;
    assert_true(write_all(m->ranks[1].to, &ask, sizeof ask) && read_all(m->ranks[1].from, &n, sizeof n));
    unsigned char* bytes = malloc(n.n);
    assert_true(read_all(m->ranks[1].from, bytes, n.n));
    bytes[70] ^= 1;
    assert_int_equal(larder_planner_import_inventory(m->planner, 1, bytes, n.n), LARDER_E_CORRUPT);
    bytes[70] ^= 1;
    OK(larder_planner_import_inventory(m->planner, 1, bytes, n.n));
    free(bytes);
    serve(m, a, 33, 32);
    serve(m, b, 33, 0);
}

int main(int argc, char** argv) {
    if (argc == 4 && !strcmp(argv[1], "--worker")) return worker_main((uint32_t)atoi(argv[2]), argv[3]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_matchable_when_all_have_succeeded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tiers_of_two_ranks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_worker_dies, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
