/* A remote tier in a directory, such as one on a file server: the smallest useful plug-in.
 *
 * A value is a file named by its key: 16 bytes of our own (a magic and the length), then the value. It is written under
 * another name and renamed, so that nobody ever reads half of one. The work is done in check(), one item after another,
 * until the caller's patience is over. Settings: directory=PATH (it must exist). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "larder/plugin/remote_v1.h"

enum { HEAD_BYTES = 16 };
static const uint64_t max_value_bytes = 1u << 30, magic = 0x3152444c;

struct remote {
    const larder_remote_host_v1* host;
    int directory;
    unsigned next_name; /* of files being written; atomic */
    uint64_t n_foreign; /* atomic */
};

struct request {
    larder_remote_batch_v1 batch;
    uint64_t deadline_ns; /* 0: not posted yet */
    uint32_t n_done;
};

static larder_status failed(const larder_remote_host_v1* host, larder_status status, int error, const char* message) {
    host->fail(host->ctx, status, error, message);
    return status;
}

static int32_t score(void) {
    return 1;
}

static larder_status dir_open(const larder_remote_host_v1* host, const larder_remote_setting_v1* settings,
                              uint32_t n_settings, void** out) {
    if (n_settings != 1 || strcmp(settings[0].name, "directory") != 0)
        return failed(host, LARDER_E_INVALID, 0, "one setting is needed: directory");
    struct remote* r = host->alloc(host->ctx, sizeof *r, sizeof(void*));
    if (!r) return failed(host, LARDER_E_NOMEM, 0, "no memory for a remote");
    *r = (struct remote){host, open(settings[0].value, O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0, 0};
    if (r->directory >= 0) return *out = r, LARDER_OK;
    const int error = errno;
    host->free(host->ctx, r, sizeof *r, sizeof(void*));
    return failed(host, LARDER_E_INVALID, error, "the setting 'directory' names nothing that can be opened");
}

static void dir_close(void* remote) {
    struct remote* r = remote;
    close(r->directory);
    r->host->free(r->host->ctx, r, sizeof *r, sizeof(void*));
}

static void caps(void* remote, larder_remote_caps_v1* out) {
    (void)remote;
    *out = (larder_remote_caps_v1){out->struct_size, 65536, max_value_bytes, 0, 0, 1, {0}};
}

static void counters(void* remote, larder_remote_counters_v1* out) {
    struct remote* r = remote;
    *out = (larder_remote_counters_v1){out->struct_size, LARDER_OK, 1, 0};
    out->n_foreign = __atomic_load_n(&r->n_foreign, __ATOMIC_RELAXED);
}

static larder_status register_memory(void* remote, void* base, uint64_t n_bytes, uint64_t* out_region) {
    (void)remote, (void)base, (void)n_bytes;
    return *out_region = 0, LARDER_OK;
}

static void unregister_memory(void* remote, uint64_t region) {
    (void)remote, (void)region;
}

static void name_of(const larder_key* key, char out[80]) {
    for (int i = 0; i < 32; ++i) sprintf(out + 2 * i, "%02x", key->bytes[i]);
}

static larder_status status_of(int error) {
    if (error == ENOENT) return LARDER_MISS;
    if (error == ENOSPC || error == EDQUOT) return LARDER_E_NOSPACE;
    return error == EACCES || error == EPERM || error == EROFS ? LARDER_E_PERMISSION : LARDER_E_IO;
}

/* Read or write all of n bytes; 0, or errno. */
static int transfer(int fd, int to_file, void* data, uint64_t n, uint64_t position) {
    for (char* p = data; n;) {
        const ssize_t done = to_file ? pwrite(fd, p, n, (off_t)position) : pread(fd, p, n, (off_t)position);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return done ? errno : EIO;
        p += done, position += (uint64_t)done, n -= (uint64_t)done;
    }
    return 0;
}

static larder_status put(struct remote* r, const larder_remote_item_v1* item) {
    char name[80], temporary[80];
    uint64_t head[2] = {magic, 0}, now = r->host->now_ns(r->host->ctx);
    for (uint32_t i = 0; i < item->n_pieces; ++i) head[1] += item->pieces[i].n_bytes;
    if (head[1] > max_value_bytes) return failed(r->host, LARDER_E_RANGE, 0, "the value is too large");
    snprintf(temporary, sizeof temporary, "new-%ld-%u-%llx", (long)getpid(),
             __atomic_fetch_add(&r->next_name, 1, __ATOMIC_RELAXED), (unsigned long long)now);
    name_of(&item->key, name);
    const int fd = openat(r->directory, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return failed(r->host, status_of(errno), errno, "a value cannot be written");
    int error = transfer(fd, 1, head, HEAD_BYTES, 0);
    uint64_t position = HEAD_BYTES;
    for (uint32_t i = 0; i < item->n_pieces && !error; position += item->pieces[i++].n_bytes)
        error = transfer(fd, 1, item->pieces[i].data, item->pieces[i].n_bytes, position);
    if (close(fd) != 0 && !error) error = errno;
    if (!error && renameat(r->directory, temporary, r->directory, name) != 0) error = errno;
    if (!error) return LARDER_OK;
    unlinkat(r->directory, temporary, 0);
    return failed(r->host, status_of(error), error, "a value cannot be written");
}

static larder_status get(struct remote* r, larder_remote_item_v1* item) {
    char name[80];
    uint64_t head[2];
    struct stat facts;
    name_of(&item->key, name);
    const int fd = openat(r->directory, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? LARDER_MISS : failed(r->host, status_of(errno), errno, "no value can be read");
    int error = fstat(fd, &facts) != 0 || transfer(fd, 0, head, HEAD_BYTES, 0) != 0 || head[0] != magic ||
                head[1] != (uint64_t)facts.st_size - HEAD_BYTES;
    if (error) {
        close(fd);
        __atomic_fetch_add(&r->n_foreign, 1, __ATOMIC_RELAXED);
        return failed(r->host, LARDER_E_CORRUPT, 0, "a file is not what was put under its name");
    }
    item->n_bytes = head[1];
    uint64_t at = item->offset;
    for (uint32_t i = 0; i < item->n_pieces && at < head[1] && !error; at += item->pieces[i++].n_bytes) {
        const uint64_t left = head[1] - at, n = item->pieces[i].n_bytes;
        error = transfer(fd, 0, item->pieces[i].data, n < left ? n : left, at + HEAD_BYTES);
    }
    close(fd);
    return error ? failed(r->host, LARDER_E_IO, error, "a value cannot be read") : LARDER_OK;
}

static larder_status run_one(struct remote* r, uint32_t op, larder_remote_item_v1* item) {
    char name[80];
    if (op == LARDER_REMOTE_PUT) return put(r, item);
    if (op == LARDER_REMOTE_GET) return get(r, item);
    name_of(&item->key, name);
    const int done =
        op == LARDER_REMOTE_EXISTS ? faccessat(r->directory, name, R_OK, 0) : unlinkat(r->directory, name, 0);
    return done == 0 ? LARDER_OK : status_of(errno);
}

static larder_status prepare(void* remote, const larder_remote_batch_v1* batch, void** out) {
    struct remote* r = remote;
    struct request* q = r->host->alloc(r->host->ctx, sizeof *q, sizeof(void*));
    if (!q) return failed(r->host, LARDER_E_NOMEM, 0, "no memory for a request");
    *q = (struct request){*batch, 0, 0};
    *out = q;
    return LARDER_OK;
}

static larder_status post(void* remote, void* request, uint64_t timeout_ns) {
    struct remote* r = remote;
    struct request* q = request;
    if (q->deadline_ns && q->n_done < q->batch.n_items)
        return failed(r->host, LARDER_E_STATE, 0, "the request is under way");
    q->deadline_ns = r->host->now_ns(r->host->ctx) + (timeout_ns < INT64_MAX ? timeout_ns : INT64_MAX);
    q->n_done = 0;
    return LARDER_OK;
}

static larder_status check(void* remote, void* request, uint64_t wait_ns) {
    struct remote* r = remote;
    struct request* q = request;
    if (!q->deadline_ns) return failed(r->host, LARDER_E_STATE, 0, "the request was not posted");
    const uint64_t begin = r->host->now_ns(r->host->ctx);
    for (uint64_t now = begin; q->n_done < q->batch.n_items; now = r->host->now_ns(r->host->ctx)) {
        if (q->n_done && now - begin > wait_ns) return LARDER_PENDING;
        larder_remote_item_v1* item = &q->batch.items[q->n_done++];
        item->n_bytes = 0;
        item->status = now >= q->deadline_ns ? LARDER_E_TIMEOUT : run_one(r, q->batch.op, item);
    }
    return LARDER_OK;
}

static void release(void* remote, void* request) {
    struct remote* r = remote;
    r->host->free(r->host->ctx, request, sizeof(struct request), sizeof(void*));
}

__attribute__((visibility("default"))) const larder_remote_table_v1* larder_remote_plugin_v1(void) {
    static const larder_remote_table_v1 table = {
        1,        sizeof table,    "directory",       score,   dir_open, dir_close, caps,
        counters, register_memory, unregister_memory, prepare, post,     check,     release,
    };
    return &table;
}
