/* Memory of a store in the caller's hands: written in place, read in place. Through the C ABI. */
#include "support/cmocka.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "larder/larder.h"

enum { OBJECT = 200000, MAX_PIECES = 64 };

static larder_key key_of(uint64_t i) {
    larder_key k;
    for (int b = 0; b < 32; ++b) k.bytes[b] = (uint8_t)((i + 1) * 0x9e3779b97f4a7c15u >> (b % 8 * 8));
    return k;
}

static larder_context* make_context(void) {
    larder_context* c = NULL;
    assert_int_equal(larder_context_create(NULL, &c), LARDER_OK);
    return c;
}

static larder_store* open_store(larder_context* c, uint64_t host_bytes, const char* directory) {
    larder_store_options o = LARDER_STORE_OPTIONS_INIT;
    o.host_bytes = host_bytes;
    o.directory = directory;
    if (directory) o.file_bytes = 16 << 20, o.segment_bytes = 1 << 20;
    larder_store* s = NULL;
    assert_int_equal(larder_store_open(c, &o, &s), LARDER_OK);
    return s;
}

static unsigned char byte_of(uint64_t i, uint64_t at) {
    return (unsigned char)(i * 31 + at * 7 + (at >> 8));
}

static larder_status reserve(larder_store* s, uint64_t i, uint64_t n_bytes, int32_t owner, larder_lease* lease) {
    larder_object_meta meta = LARDER_OBJECT_META_INIT;
    larder_store_put_item item = LARDER_STORE_PUT_ITEM_INIT;
    item.key = key_of(i);
    item.meta = &meta;
    item.n_bytes = n_bytes;
    larder_status status = LARDER_E_INTERNAL;
    const larder_status all = larder_store_reserve(s, &item, sizeof item, 1, owner, lease, &status);
    if (all < 0) return all;
    assert_int_equal(all, status == LARDER_OK ? LARDER_OK : LARDER_PARTIAL);
    return status;
}

/* f over each byte of a lease; returns how many there are. */
static uint64_t each_byte(larder_store* s, larder_lease lease, uint64_t i, int write, uint64_t limit) {
    larder_piece pieces[MAX_PIECES];
    uint32_t n = 0;
    assert_int_equal(larder_store_view(s, lease, pieces, MAX_PIECES, &n), LARDER_OK);
    uint64_t at = 0;
    for (uint32_t p = 0; p < n; ++p) {
        assert_int_equal((uintptr_t)pieces[p].data % 4096, 0);
        unsigned char* bytes = pieces[p].data;
        for (uint64_t b = 0; b < pieces[p].n_bytes; ++b, ++at) {
            if (at >= limit) continue;
            if (write)
                bytes[b] = byte_of(i, at);
            else
                assert_int_equal(bytes[b], byte_of(i, at));
        }
    }
    return at;
}

static larder_object_info look_up(larder_store* s, uint64_t i) {
    const larder_key k = key_of(i);
    larder_object_info info = LARDER_OBJECT_INFO_INIT;
    assert_int_equal(larder_store_lookup(s, &k, 1, NULL, &info, sizeof info), LARDER_OK);
    return info;
}

static larder_status get(larder_store* s, uint64_t i, uint64_t n_bytes) {
    static unsigned char bytes[OBJECT];
    larder_object_want want = LARDER_OBJECT_WANT_INIT;
    larder_store_get_item item = LARDER_STORE_GET_ITEM_INIT;
    larder_store_get_result r = {0, 0, 0};
    item.key = key_of(i);
    item.want = &want;
    item.buffer = bytes;
    item.capacity = sizeof bytes;
    assert_int_equal(larder_store_get(s, &item, sizeof item, 1, &r, NULL, 0, NULL), LARDER_OK);
    if (r.status != LARDER_OK) return r.status;
    assert_int_equal(r.n_bytes, n_bytes);
    for (uint64_t b = 0; b < n_bytes; ++b) assert_int_equal(bytes[b], byte_of(i, b));
    return LARDER_OK;
}

static larder_status acquire(larder_store* s, uint64_t i, uint32_t flags, int32_t owner, larder_lease* lease) {
    const larder_object_want want = LARDER_OBJECT_WANT_INIT;
    const larder_key k = key_of(i);
    larder_status status = LARDER_E_INTERNAL;
    const larder_status all = larder_store_acquire(s, &k, 1, &want, flags, owner, lease, &status);
    return all < 0 ? all : status;
}

static larder_store_info info_of(larder_store* s) {
    larder_store_info info = LARDER_STORE_INFO_INIT;
    assert_int_equal(larder_store_info_get(s, &info), LARDER_OK);
    return info;
}

static void written_in_place(void** state) {
    (void)state;
    larder_context* c = make_context();
    larder_store* s = open_store(c, 4 << 20, NULL);
    larder_lease lease = 0, other = 7;
    assert_int_equal(reserve(s, 1, OBJECT, 0, &lease), LARDER_OK);
    assert_int_equal(info_of(s).n_reserved, 1);
    assert_int_equal(look_up(s, 1).status, LARDER_PENDING);
    assert_int_equal(look_up(s, 1).coming, LARDER_TIER_HOST);
    assert_int_equal(get(s, 1, OBJECT), LARDER_RETRY);
    assert_int_equal(reserve(s, 1, OBJECT, 0, &other), LARDER_RETRY);
    assert_int_equal(other, 0);
    assert_int_equal(larder_store_verify(s), LARDER_OK);
    assert_int_equal(each_byte(s, lease, 1, 1, OBJECT), OBJECT);
    larder_piece piece;
    uint32_t n = 0;
    assert_int_equal(larder_store_view(s, lease, &piece, 1, &n), LARDER_E_BUFFER_TOO_SMALL);
    assert_true(n > 1);
    assert_int_equal(larder_store_release(s, &lease, 1, NULL, 0), LARDER_E_STALE); /* of another kind */

    assert_int_equal(larder_store_commit(s, &lease, 1, NULL), LARDER_OK);
    assert_int_equal(get(s, 1, OBJECT), LARDER_OK);
    assert_int_equal(larder_store_commit(s, &lease, 1, NULL), LARDER_E_STALE);
    assert_int_equal(larder_store_view(s, lease, &piece, 1, &n), LARDER_E_STALE);
    assert_int_equal(reserve(s, 1, OBJECT, 0, &other), LARDER_E_EXISTS);
    assert_int_equal(info_of(s).n_reserved, 0);

    /* One that is given up leaves nothing behind. */
    const uint64_t used = info_of(s).host_used_bytes;
    assert_int_equal(reserve(s, 2, OBJECT, 0, &lease), LARDER_OK);
    assert_int_equal(larder_store_abort(s, &lease, 1), LARDER_OK);
    assert_int_equal(larder_store_abort(s, &lease, 1), LARDER_E_STALE);
    assert_int_equal(look_up(s, 2).status, LARDER_MISS);
    assert_int_equal(info_of(s).host_used_bytes, used);
    larder_store_explanation why = LARDER_STORE_EXPLANATION_INIT;
    const larder_key k = key_of(2);
    assert_int_equal(larder_store_explain(s, &k, &why), LARDER_OK);
    assert_int_equal(why.why, LARDER_ABSENT_ABORTED);
    assert_int_equal(larder_store_verify(s), LARDER_OK);
    larder_store_close(s);
    larder_context_destroy(c);
}

/* Several at one moment, or none; less than was reserved. */
static void committed_together(void** state) {
    (void)state;
    larder_context* c = make_context();
    larder_store* s = open_store(c, 4 << 20, NULL);
    enum { N = 5 };
    larder_lease leases[N];
    uint64_t sizes[N];
    for (uint64_t i = 0; i < N; ++i) {
        assert_int_equal(reserve(s, i, OBJECT, 0, &leases[i]), LARDER_OK);
        sizes[i] = i == 0 ? OBJECT : i == 1 ? 1 : 4096 * (7 * i) + i;
        each_byte(s, leases[i], i, 1, sizes[i]);
    }
    larder_lease wrong[3] = {leases[0], leases[1], leases[0]};
    assert_int_equal(larder_store_commit(s, wrong, 3, NULL), LARDER_E_STALE);
    wrong[2] = 12345;
    assert_int_equal(larder_store_commit(s, wrong, 3, NULL), LARDER_E_STALE);
    const uint64_t too_large[2] = {OBJECT, OBJECT + 1};
    assert_int_equal(larder_store_commit(s, leases, 2, too_large), LARDER_E_RANGE);
    for (uint64_t i = 0; i < N; ++i) assert_int_equal(look_up(s, i).status, LARDER_PENDING);
    assert_int_equal(larder_store_commit(s, leases, N, sizes), LARDER_OK);
    uint64_t used = 0;
    for (uint64_t i = 0; i < N; ++i) {
        assert_int_equal(get(s, i, sizes[i]), LARDER_OK);
        used += (sizes[i] + 4095) / 4096 * 4096;
    }
    assert_int_equal(info_of(s).host_used_bytes, used);
    assert_int_equal(larder_store_verify(s), LARDER_OK);
    larder_store_close(s);
    larder_context_destroy(c);
}

/* What is held stays while all else goes, and its bytes outlive its key. */
static void read_in_place(void** state) {
    (void)state;
    larder_context* c = make_context();
    larder_store* s = open_store(c, 1 << 20, NULL);
    larder_lease w = 0, r = 0, again = 0;
    assert_int_equal(acquire(s, 1, 0, 0, &r), LARDER_MISS);
    assert_int_equal(reserve(s, 1, OBJECT, 0, &w), LARDER_OK);
    assert_int_equal(acquire(s, 1, 0, 0, &r), LARDER_RETRY);
    each_byte(s, w, 1, 1, OBJECT);
    assert_int_equal(larder_store_commit(s, &w, 1, NULL), LARDER_OK);
    assert_int_equal(acquire(s, 1, 0, 0, &r), LARDER_OK);
    assert_int_equal(acquire(s, 1, LARDER_ACQUIRE_UNVERIFIED, 0, &again), LARDER_OK);
    assert_int_equal(look_up(s, 1).n_leases, 2);
    assert_int_equal(larder_store_commit(s, &r, 1, NULL), LARDER_E_STALE); /* of another kind */
    for (uint64_t i = 2; i < 40; ++i) {
        assert_int_equal(reserve(s, i, OBJECT, 0, &w), LARDER_OK);
        each_byte(s, w, i, 1, OBJECT);
        assert_int_equal(larder_store_commit(s, &w, 1, NULL), LARDER_OK);
    }
    assert_int_equal(get(s, 1, OBJECT), LARDER_OK);
    assert_int_equal(look_up(s, 2).status, LARDER_MISS);
    const larder_key k = key_of(1);
    larder_status status;
    assert_int_equal(larder_store_evict(s, &k, 1, LARDER_TIER_HOST, &status), LARDER_PARTIAL);
    assert_int_equal(status, LARDER_E_BUSY);
    assert_int_equal(larder_store_release(s, &again, 1, NULL, 0), LARDER_OK);
    assert_int_equal(larder_store_release(s, &again, 1, NULL, 0), LARDER_E_STALE);
    uint64_t dropped = 0;
    assert_int_equal(larder_store_drop_tenant(s, 0, &dropped), LARDER_OK);
    assert_int_equal(look_up(s, 1).status, LARDER_MISS);
    assert_int_equal(each_byte(s, r, 1, 0, OBJECT), OBJECT);
    assert_true(info_of(s).host_used_bytes > 0);
    assert_int_equal(larder_store_verify(s), LARDER_OK);
    assert_int_equal(larder_store_release(s, &r, 1, NULL, 0), LARDER_OK);
    assert_int_equal(info_of(s).host_used_bytes, 0);
    assert_int_equal(info_of(s).n_leases, 0);
    larder_store_close(s);
    larder_context_destroy(c);
}

static larder_queue* make_queue(larder_context* c) {
    larder_queue* q = NULL;
    assert_int_equal(larder_queue_create(c, NULL, &q), LARDER_OK);
    return q;
}

/* A lease ends with the transfer that it was tied to; what the file has is brought first. */
static void ends_with_a_job(void** state) {
    (void)state;
    char dir[] = "/tmp/larder-leases-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char path[64];
    snprintf(path, sizeof path, "%s/store", dir);
    larder_context* c = make_context();
    larder_store* s = open_store(c, 1 << 20, path);
    larder_queue* q = make_queue(c);
    larder_lease w = 0, leases[2];
    for (uint64_t i = 0; i < 20; ++i) {
        assert_int_equal(reserve(s, i, OBJECT, 0, &w), LARDER_OK);
        each_byte(s, w, i, 1, OBJECT);
        assert_int_equal(larder_store_commit(s, &w, 1, NULL), LARDER_OK);
    }
    assert_int_equal(larder_store_flush(s, NULL, 0, NULL), LARDER_OK);
    assert_int_equal(look_up(s, 0).tiers, LARDER_TIER_FILE);
    for (uint64_t i = 0; i < 2; ++i) assert_int_equal(acquire(s, i, 0, 0, &leases[i]), LARDER_OK);
    assert_int_equal(look_up(s, 0).tiers, LARDER_TIER_FILE | LARDER_TIER_HOST);
    for (uint64_t i = 0; i < 2; ++i) each_byte(s, leases[i], i, 0, OBJECT);
    larder_job job = 0;
    assert_int_equal(larder_store_release(s, leases, 2, q, 99), LARDER_E_STALE);
    assert_int_equal(info_of(s).n_leases, 2);
    assert_int_equal(larder_store_flush(s, q, 0, &job), LARDER_PENDING);
    assert_int_equal(larder_store_release(s, leases, 2, q, job), LARDER_OK);
    assert_int_equal(larder_job_wait(q, job, UINT64_MAX), LARDER_OK);
    assert_int_equal(info_of(s).n_leases, 0);
    /* A job that is over already: at once. */
    assert_int_equal(acquire(s, 1, 0, 0, &leases[0]), LARDER_OK);
    assert_int_equal(larder_store_release(s, leases, 1, q, job), LARDER_OK);
    assert_int_equal(info_of(s).n_leases, 0);
    assert_int_equal(larder_store_verify(s), LARDER_OK);
    larder_queue_destroy(q);
    larder_store_close(s);
    larder_context_destroy(c);
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

static pid_t sleeper(void) {
    const pid_t pid = fork();
    if (pid == 0) {
        for (;;) pause();
    }
    assert_true(pid > 0);
    return pid;
}

static void ends_with_its_owner(void** state) {
    (void)state;
    const pid_t pid = sleeper();
    larder_context* c = make_context();
    larder_store* s = open_store(c, 1 << 20, NULL);
    larder_lease w = 0, mine = 0, r = 0, full = 0;
    assert_int_equal(reserve(s, 1, OBJECT, pid, &w), LARDER_OK);
    assert_int_equal(reserve(s, 2, OBJECT, 0, &mine), LARDER_OK);
    each_byte(s, mine, 2, 1, OBJECT);
    assert_int_equal(larder_store_commit(s, &mine, 1, NULL), LARDER_OK);
    assert_int_equal(acquire(s, 2, 0, pid, &r), LARDER_OK);
    assert_int_equal(reserve(s, 3, 500000, pid, &full), LARDER_OK);
    uint64_t n = 9;
    assert_int_equal(larder_store_expire(s, &n), LARDER_OK);
    assert_int_equal(n, 0);
    assert_int_equal(look_up(s, 1).status, LARDER_PENDING);
    /* No room: its owner lives. */
    assert_int_equal(reserve(s, 4, 500000, 0, &mine), LARDER_E_NOSPACE);

    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(look_up(s, 1).status, LARDER_MISS);
    assert_int_equal(larder_store_commit(s, &w, 1, NULL), LARDER_E_STALE);
    assert_int_equal(reserve(s, 4, 900000, 0, &mine), LARDER_OK); /* what it held makes room */
    assert_int_equal(larder_store_release(s, &r, 1, NULL, 0), LARDER_E_STALE);
    assert_int_equal(info_of(s).n_leases, 0);
    assert_int_equal(info_of(s).n_reserved, 1);
    assert_int_equal(reserve(s, 5, OBJECT, pid, &w), LARDER_E_NOT_FOUND);
    assert_int_equal(larder_store_verify(s), LARDER_OK);
    larder_store_close(s); /* with a reservation that nobody ended */
    larder_stats stats;
    memset(&stats, 0, sizeof stats);
    stats.struct_size = sizeof stats;
    assert_int_equal(larder_context_stats(c, &stats), LARDER_OK);
    assert_int_equal(stats.store_leases_expired, 3);
    assert_int_equal(stats.store_reservations, 0);
    assert_int_equal(stats.store_host_bytes, 0);
    larder_context_destroy(c);
}

static void refused(void** state) {
    (void)state;
    char dir[] = "/tmp/larder-leases-XXXXXX";
    assert_non_null(mkdtemp(dir));
    larder_context* c = make_context();
    larder_store* s = open_store(c, 0, dir);
    larder_lease lease = 3;
    assert_int_equal(reserve(s, 1, OBJECT, 0, &lease), LARDER_E_STATE);
    assert_int_equal(acquire(s, 1, 0, 0, &lease), LARDER_E_STATE);
    larder_store_close(s);
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);

    s = open_store(c, 1 << 20, NULL);
    larder_object_meta meta = LARDER_OBJECT_META_INIT;
    larder_store_put_item item = LARDER_STORE_PUT_ITEM_INIT;
    item.meta = &meta;
    item.n_bytes = 10;
    item.data = &meta;
    larder_status status;
    assert_int_equal(larder_store_reserve(s, &item, sizeof item, 1, 0, &lease, &status), LARDER_PARTIAL);
    assert_int_equal(status, LARDER_E_INVALID);
    item.data = NULL;
    item.flags = LARDER_PUT_NO_HOST;
    assert_int_equal(larder_store_reserve(s, &item, sizeof item, 1, 0, &lease, &status), LARDER_PARTIAL);
    assert_int_equal(status, LARDER_E_INVALID);
    item.flags = 0;
    item.n_bytes = 2 << 20;
    assert_int_equal(larder_store_reserve(s, &item, sizeof item, 1, 0, &lease, &status), LARDER_PARTIAL);
    assert_int_equal(status, LARDER_E_RANGE);
    assert_int_equal(acquire(s, 1, 2, 0, &lease), LARDER_E_INVALID);
    larder_store_close(s);
    larder_context_destroy(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(written_in_place),    cmocka_unit_test(committed_together),
                                       cmocka_unit_test(read_in_place),       cmocka_unit_test(ends_with_a_job),
                                       cmocka_unit_test(ends_with_its_owner), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
