/* The prefix index through the C ABI: keys against vectors that were made by another implementation, answers, refusals.
 */
#include "support/cmocka.h"

#include <string.h>

#include "larder/prefix.h"

static larder_context* context;

static int set_up(void** state) {
    (void)state;
    larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
    o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
    return larder_context_create(&o, &context);
}

static int tear_down(void** state) {
    (void)state;
    return larder_context_destroy(context);
}

static void assert_key(const larder_key* k, const char* hex) {
    static const char digits[] = "0123456789abcdef";
    char text[65] = {0};
    for (int i = 0; i < 32; ++i) {
        text[2 * i] = digits[k->bytes[i] >> 4];
        text[2 * i + 1] = digits[k->bytes[i] & 15];
    }
    assert_string_equal(text, hex);
}

/* docs/formats/keys.md: these may never change. */
static void keys_are_frozen(void** state) {
    (void)state;
    larder_prefix_scope s = LARDER_PREFIX_SCOPE_INIT;
    larder_key plain_root, root, keys[4];
    assert_int_equal(larder_prefix_root(&s, &plain_root), LARDER_OK);
    assert_key(&plain_root, "c89687028d28ca7124e1d067b8047af754a83c55aa397c32654cc7a30552c7d2");
    for (int i = 0; i < 32; ++i) s.identity.bytes[i] = (uint8_t)i;
    s.tenant_key = (larder_span){"0123456789abcdef", 16};
    s.adapter = (larder_span){"lora", 4};
    s.salt = (larder_span){"salt", 4};
    assert_int_equal(larder_prefix_root(&s, &root), LARDER_OK);
    assert_key(&root, "d369590db30fd30a6a7ca8687360f798d609c65af6f1c497bc0ae0c15ae89495");

    int32_t tokens[50];
    for (int i = 0; i < 50; ++i) tokens[i] = i;
    larder_prefix_tokens t = LARDER_PREFIX_TOKENS_INIT;
    t.block_tokens = 16;
    t.tokens = tokens;
    t.n_tokens = 50;
    uint64_t n = 0;
    assert_int_equal(larder_prefix_keys(&plain_root, &t, keys, 4, &n), LARDER_OK);
    assert_int_equal(n, 3);
    assert_key(&keys[0], "f091d449351cb457006c4d06bbfb7d046e37c4c53cf359f9a3e026c9c9d56f26");
    assert_key(&keys[1], "34c8cb520576bb811934be29374a2c9ba42c12beaec00468be1ec42e7e2b17f0");
    assert_key(&keys[2], "f952160fb6992df1f56ba392e90a55c2e876efe531a296be26dabf78b2745ca5");

    larder_prefix_extra extra = {8, 20, {0}};
    memset(extra.digest, 7, sizeof extra.digest);
    const larder_prefix_salted salted = {40, 4, {"x", 1}};
    t.extras = &extra;
    t.n_extras = 1;
    t.salted = &salted;
    t.n_salted = 1;
    assert_int_equal(larder_prefix_keys(&root, &t, keys, 4, &n), LARDER_OK);
    assert_key(&keys[0], "bda6a6c728ce005b1e71fc4ffe5a1db9704e554f6ff52bf899808b800e1f3c42");
    assert_key(&keys[1], "4d599d200f8f18ce14f0da52070cab57bf2fbf81c7fab564a6d4401f3bd6ccd3");
    assert_key(&keys[2], "190b2f4ccf7a1bdb34fbf5f9f8dd2966fb94745128d8787d9879de7fce03c9e4");

    /* In two calls, the second from the second block on. */
    larder_key again[2];
    t.tokens = tokens + 16;
    t.n_tokens = 34;
    t.first_position = 16;
    assert_int_equal(larder_prefix_keys(&keys[0], &t, again, 2, NULL), LARDER_OK);
    assert_memory_equal(again, keys + 1, sizeof again);
}

static void bad_keys(void** state) {
    (void)state;
    larder_prefix_scope s = LARDER_PREFIX_SCOPE_INIT;
    larder_key k;
    assert_int_equal(larder_prefix_root(&s, NULL), LARDER_E_INVALID);
    s.tenant_key = (larder_span){"short", 5};
    assert_int_equal(larder_prefix_root(&s, &k), LARDER_E_RANGE);
    s.tenant_key = (larder_span){NULL, 16};
    assert_int_equal(larder_prefix_root(&s, &k), LARDER_E_INVALID);
    s.tenant_key = (larder_span){NULL, 0};
    s.reserved0 = 1;
    assert_int_equal(larder_prefix_root(&s, &k), LARDER_E_INVALID);

    const int32_t tokens[4] = {1, 2, 3, 4};
    larder_prefix_tokens t = LARDER_PREFIX_TOKENS_INIT;
    uint64_t n = 0;
    t.tokens = tokens;
    t.n_tokens = 4;
    assert_int_equal(larder_prefix_keys(&k, &t, &k, 1, &n), LARDER_E_RANGE);
    t.block_tokens = 2;
    assert_int_equal(larder_prefix_keys(&k, &t, &k, 1, &n), LARDER_E_BUFFER_TOO_SMALL);
    assert_int_equal(n, 2);
    assert_int_equal(larder_prefix_keys(&k, &t, NULL, 0, &n), LARDER_E_BUFFER_TOO_SMALL);
    assert_int_equal(larder_prefix_keys(NULL, &t, &k, 1, &n), LARDER_E_INVALID);
    t.first_position = 1;
    assert_int_equal(larder_prefix_keys(&k, &t, &k, 1, &n), LARDER_E_INVALID);
    t.first_position = 0;
    const int32_t negative[4] = {1, 2, -3, 4};
    t.tokens = negative;
    assert_int_equal(larder_prefix_keys(&k, &t, &k, 1, &n), LARDER_E_INVALID);
    t.tokens = tokens;
    const larder_prefix_extra extras[2] = {{4, 2, {0}}, {2, 1, {0}}}, empty = {1, 0, {0}},
                              endless = {5, UINT64_MAX, {0}};
    t.extras = extras;
    t.n_extras = 2;
    assert_int_equal(larder_prefix_keys(&k, &t, &k, 1, &n), LARDER_E_INVALID);
    t.n_extras = 1;
    t.extras = &empty;
    assert_int_equal(larder_prefix_keys(&k, &t, &k, 1, &n), LARDER_E_INVALID);
    t.extras = &endless;
    assert_int_equal(larder_prefix_keys(&k, &t, &k, 1, &n), LARDER_E_INVALID);
    t.extras = NULL;
    assert_int_equal(larder_prefix_keys(&k, &t, &k, 1, &n), LARDER_E_INVALID);
}

static void options_and_nulls(void** state) {
    (void)state;
    larder_prefix* p = (larder_prefix*)1;
    larder_prefix_options o = LARDER_PREFIX_OPTIONS_INIT;
    assert_int_equal(larder_prefix_create(context, &o, NULL), LARDER_E_INVALID);
    o.block_tokens = 12;
    assert_int_equal(larder_prefix_create(context, &o, &p), LARDER_E_INVALID);
    assert_null(p);
    o.block_tokens = 8192;
    assert_int_equal(larder_prefix_create(context, &o, &p), LARDER_E_RANGE);
    o.block_tokens = 0;
    o.flags = 2;
    assert_int_equal(larder_prefix_create(context, &o, &p), LARDER_E_TOO_NEW);
    o.flags = 0;
    o.max_entries = UINT64_MAX;
    assert_int_equal(larder_prefix_create(context, &o, &p), LARDER_E_RANGE);
    assert_int_equal(larder_prefix_create(context, NULL, &p), LARDER_OK);
    larder_prefix_info info = LARDER_PREFIX_INFO_INIT;
    assert_int_equal(larder_prefix_get_info(p, &info), LARDER_OK);
    assert_int_equal(info.block_tokens, 16);

    larder_prefix_query q = LARDER_PREFIX_QUERY_INIT;
    larder_prefix_match_info m = LARDER_PREFIX_MATCH_INFO_INIT;
    larder_prefix_block b;
    larder_prefix_published made;
    const larder_key k = {{1}};
    uint64_t n;
    const uint64_t nobody = 7;
    assert_int_equal(larder_prefix_match(p, NULL, &b, sizeof b, 1, &m), LARDER_E_INVALID);
    assert_int_equal(larder_prefix_match(p, &q, &b, sizeof b, 1, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_prefix_match(p, &q, &b, 8, 1, &m), LARDER_E_INVALID);
    assert_int_equal(larder_prefix_match(p, &q, NULL, 0, 0, &m), LARDER_E_INVALID);
    q.n_keys = 1;
    assert_int_equal(larder_prefix_match(p, &q, &b, sizeof b, 1, &m), LARDER_E_INVALID);
    q.n_keys = 0;
    q.n_next = 17;
    assert_int_equal(larder_prefix_match(p, &q, &b, sizeof b, 1, &m), LARDER_E_RANGE);
    assert_int_equal(larder_prefix_lookup(p, &k, &b), LARDER_MISS);
    assert_int_equal(larder_prefix_pin(p, &nobody, 1), LARDER_E_STALE);
    assert_int_equal(larder_prefix_unpin(p, &nobody, 1), LARDER_E_STALE);
    assert_int_equal(larder_prefix_touch(p, &nobody, 1), LARDER_OK);
    assert_int_equal(larder_prefix_add(p, nobody, LARDER_PREFIX_IN_ARENA, 1), LARDER_E_STALE);
    assert_int_equal(larder_prefix_add(p, nobody, 3, 1), LARDER_E_INVALID);
    assert_int_equal(larder_prefix_drop(p, nobody, LARDER_PREFIX_IN_HOST, NULL), LARDER_E_STALE);
    assert_int_equal(larder_prefix_drop(p, nobody, 0, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_prefix_remove(p, nobody, &b, 1, &n), LARDER_E_STALE);
    assert_int_equal(larder_prefix_remove(p, nobody, &b, 0, &n), LARDER_E_RANGE);
    assert_int_equal(larder_prefix_candidates(p, 16, &b, 1, &n), LARDER_E_INVALID);
    assert_int_equal(larder_prefix_candidates(p, LARDER_PREFIX_IN_FILE, &b, 1, &n), LARDER_OK);
    assert_int_equal(n, 0);
    assert_int_equal(larder_prefix_children(p, &k, 0, 0, &b, 1, &n), LARDER_MISS);
    assert_int_equal(larder_prefix_children(p, NULL, 0, 0, &b, 1, &n), LARDER_E_INVALID);
    assert_int_equal(larder_prefix_children(p, NULL, nobody, 0, &b, 1, &n), LARDER_E_STALE);
    assert_int_equal(larder_prefix_describe(p, nobody, NULL, NULL, NULL, 0, NULL), LARDER_E_STALE);
    assert_int_equal(larder_prefix_set_tag(p, nobody, 1), LARDER_E_STALE);
    assert_int_equal(larder_prefix_publish(p, &k, nobody, NULL, 1, 0, &made, &n), LARDER_E_INVALID);
    larder_prefix_item item = {k, NULL, 16, 0, LARDER_PREFIX_IN_ARENA, 0, 5};
    assert_int_equal(larder_prefix_publish(p, &k, nobody, &item, 1, 0, &made, &n), LARDER_E_STALE);
    item.residency = 3;
    assert_int_equal(larder_prefix_publish(p, &k, 0, &item, 1, 0, &made, &n), LARDER_E_INVALID);
    item.residency = 1;
    item.n_tokens = 17;
    assert_int_equal(larder_prefix_publish(p, &k, 0, &item, 1, 0, &made, &n), LARDER_E_INVALID);
    item.n_tokens = 16;
    item.flags = 2;
    assert_int_equal(larder_prefix_publish(p, &k, 0, &item, 1, 0, &made, &n), LARDER_E_TOO_NEW);
    larder_prefix_destroy(p);
    larder_prefix_destroy(NULL);
}

static larder_prefix_item item_of(uint8_t name, const int32_t* tokens, uint32_t n_tokens, uint32_t residency) {
    larder_prefix_item i = {{{name}}, tokens, n_tokens, 0, residency, 0, name};
    return i;
}

static void events_and_exports(void** state) {
    (void)state;
    larder_prefix_options o = LARDER_PREFIX_OPTIONS_INIT;
    larder_prefix* p = NULL;
    o.block_tokens = 4;
    o.n_events = 3;
    assert_int_equal(larder_prefix_create(context, &o, &p), LARDER_E_INVALID);
    o.n_events = 1u << 25;
    assert_int_equal(larder_prefix_create(context, &o, &p), LARDER_E_RANGE);
    o.n_events = 4;
    assert_int_equal(larder_prefix_create(context, &o, &p), LARDER_OK);
    const larder_key root = {{99}};
    larder_event e[8];
    larder_prefix_published made[2];
    uint64_t n = 0, cursor = 0, position = 0;
    assert_int_equal(larder_prefix_events_read(p, &cursor, e, sizeof *e, 8, &n), LARDER_OK);
    assert_int_equal(n, 0);
    const larder_prefix_item items[2] = {item_of(1, NULL, 4, LARDER_PREFIX_IN_ARENA),
                                         item_of(2, NULL, 2, LARDER_PREFIX_IN_ARENA)};
    assert_int_equal(larder_prefix_publish(p, &root, 0, items, 2, 0, made, &n), LARDER_OK);
    assert_int_equal(larder_prefix_set_tag(p, made[1].block.entry, 7), LARDER_OK);
    assert_int_equal(larder_prefix_add(p, made[1].block.entry, LARDER_PREFIX_IN_FILE, 5), LARDER_OK);
    assert_int_equal(larder_prefix_add(p, made[1].block.entry, LARDER_PREFIX_IN_FILE, 6), LARDER_OK); /* no event */
    assert_int_equal(larder_prefix_events_read(p, &cursor, e, sizeof *e, 8, &n), LARDER_OK);
    assert_int_equal(n, 3);
    assert_int_equal(cursor, 3);
    for (int i = 0; i < 3; ++i) {
        assert_int_equal(e[i].sequence, i + 1);
        assert_int_equal(e[i].kind, i < 2 ? LARDER_EVENT_PUBLISHED : LARDER_EVENT_PLACED);
        assert_memory_equal(&e[i].key, &items[i ? 1 : 0].key, 32);
        assert_memory_equal(&e[i].parent, i ? &items[0].key : &root, 32);
        assert_int_equal(e[i].entry, made[i ? 1 : 0].block.entry);
        assert_int_equal(e[i].depth, i ? 1 : 0);
        assert_int_equal(e[i].n_tokens, i ? 2 : 4);
        assert_int_equal(e[i].places, i < 2 ? LARDER_PREFIX_IN_ARENA : LARDER_PREFIX_IN_ARENA | LARDER_PREFIX_IN_FILE);
        assert_int_equal(e[i].places_before, i < 2 ? 0 : LARDER_PREFIX_IN_ARENA);
        assert_int_equal(e[i].tag, i < 2 ? 0 : 7);
    }
    assert_int_equal(larder_prefix_drop(p, made[1].block.entry, LARDER_PREFIX_IN_ARENA, NULL), LARDER_OK);
    assert_int_equal(larder_prefix_drop(p, made[1].block.entry, LARDER_PREFIX_IN_FILE, NULL), LARDER_OK);
    assert_int_equal(larder_prefix_events_read(p, &cursor, e, sizeof *e, 1, &n), LARDER_OK);
    assert_int_equal(n, 1);
    assert_int_equal(e[0].kind, LARDER_EVENT_PLACED);
    assert_int_equal(e[0].places, LARDER_PREFIX_IN_FILE);
    assert_int_equal(larder_prefix_events_read(p, &cursor, e, sizeof *e, 1, &n), LARDER_OK);
    assert_int_equal(e[0].kind, LARDER_EVENT_REMOVED);
    assert_int_equal(e[0].places_before, LARDER_PREFIX_IN_FILE);
    assert_int_equal(e[0].places, 0);

    /* Of five events the log keeps four: a reader that has none behind it is lost, and finds its way by a snapshot. */
    uint64_t late = 0;
    assert_int_equal(larder_prefix_events_read(p, &late, e, sizeof *e, 8, &n), LARDER_E_STALE);
    assert_int_equal(late, 0);
    assert_int_equal(n, 0);
    assert_int_equal(larder_prefix_events_snapshot(p, &position, &late, e, sizeof *e, 1, &n), LARDER_OK);
    assert_int_equal(n, 1);
    assert_int_equal(late, 5);
    assert_int_equal(e[0].sequence, 0);
    assert_memory_equal(&e[0].key, &items[0].key, 32);
    late = 1;
    assert_int_equal(larder_prefix_events_read(p, &late, e, sizeof *e, 8, &n), LARDER_OK);
    assert_int_equal(n, 4);

    /* Bad calls. */
    late = 6;
    assert_int_equal(larder_prefix_events_read(p, &late, e, sizeof *e, 8, &n), LARDER_E_RANGE);
    assert_int_equal(larder_prefix_events_read(p, &late, e, 4, 8, &n), LARDER_E_INVALID);
    assert_int_equal(larder_prefix_events_read(p, NULL, e, sizeof *e, 8, &n), LARDER_E_INVALID);
    assert_int_equal(larder_prefix_events_read(p, &late, NULL, sizeof *e, 8, &n), LARDER_E_INVALID);
    assert_int_equal(larder_prefix_events_snapshot(p, &position, &late, e, sizeof *e, 0, &n), LARDER_E_RANGE);
    assert_int_equal(larder_prefix_events_snapshot(p, NULL, &late, e, sizeof *e, 8, &n), LARDER_E_INVALID);
    position = 1u << 20;
    assert_int_equal(larder_prefix_events_snapshot(p, &position, &late, e, sizeof *e, 8, &n), LARDER_E_RANGE);
    assert_int_equal(larder_prefix_verify(p), LARDER_OK);
    larder_prefix_destroy(p);

    /* Exports and imports have their own test; here what is refused. */
    const larder_index_sink no_sink = {NULL, NULL};
    const larder_index_source no_source = {NULL, NULL};
    assert_int_equal(larder_prefix_create(context, NULL, &p), LARDER_OK);
    assert_int_equal(larder_prefix_export(p, 1, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_prefix_export(p, 1, &no_sink), LARDER_E_INVALID);
    assert_int_equal(larder_prefix_import(p, NULL, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_prefix_import(p, &no_source, NULL), LARDER_E_INVALID);
    larder_prefix_destroy(p);

    /* Without a log there are snapshots only. */
    assert_int_equal(larder_prefix_create(context, NULL, &p), LARDER_OK);
    late = 0;
    position = 0;
    assert_int_equal(larder_prefix_events_read(p, &late, e, sizeof *e, 8, &n), LARDER_E_STATE);
    assert_int_equal(larder_prefix_events_snapshot(p, &position, &late, e, sizeof *e, 8, &n), LARDER_OK);
    assert_int_equal(n, 0);
    larder_prefix_destroy(p);
}

/* One chain of three blocks and a tail, by the caller's own keys. */
static void a_life(void** state) {
    (void)state;
    larder_prefix_options o = LARDER_PREFIX_OPTIONS_INIT;
    larder_prefix* p = NULL;
    o.block_tokens = 4;
    o.max_entries = 6;
    assert_int_equal(larder_prefix_create(context, &o, &p), LARDER_OK);
    const larder_key root = {{99}};
    const int32_t tokens[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};
    larder_prefix_item items[4] = {
        item_of(1, tokens, 4, LARDER_PREFIX_IN_ARENA), item_of(2, tokens + 4, 4, LARDER_PREFIX_IN_ARENA),
        item_of(3, tokens + 8, 4, LARDER_PREFIX_IN_ARENA), item_of(4, tokens + 12, 2, LARDER_PREFIX_IN_ARENA)};
    larder_prefix_published made[4], more;
    uint64_t n = 0;
    assert_int_equal(larder_prefix_publish(p, &root, 0, items, 4, 1, made, &n), LARDER_OK);
    assert_int_equal(n, 4);
    for (int i = 0; i < 4; ++i) {
        assert_int_equal(made[i].outcome, LARDER_PREFIX_NEW);
        assert_int_equal(made[i].block.depth, i);
        assert_int_equal(made[i].block.location[0], i + 1);
    }
    /* Nothing follows a tail; the budget is six entries with the root. */
    const larder_prefix_item late = item_of(5, NULL, 4, LARDER_PREFIX_IN_ARENA);
    assert_int_equal(larder_prefix_publish(p, &root, made[3].block.entry, &late, 1, 0, &more, &n), LARDER_E_STATE);
    assert_int_equal(larder_prefix_publish(p, &root, made[0].block.entry, &late, 1, 0, &more, &n), LARDER_OK);
    const larder_prefix_item too_many = item_of(6, NULL, 4, LARDER_PREFIX_IN_ARENA);
    assert_int_equal(larder_prefix_publish(p, &root, made[0].block.entry, &too_many, 1, 0, &more, &n),
                     LARDER_E_NOSPACE);
    /* The same again elsewhere, and the same again here. */
    larder_prefix_item again = item_of(2, tokens + 4, 4, LARDER_PREFIX_IN_HOST);
    assert_int_equal(larder_prefix_publish(p, &root, made[0].block.entry, &again, 1, 0, &more, &n), LARDER_OK);
    assert_int_equal(more.outcome, LARDER_PREFIX_JOINED);
    assert_int_equal(more.block.residency, LARDER_PREFIX_IN_ARENA | LARDER_PREFIX_IN_HOST);
    again.location = 1000;
    assert_int_equal(larder_prefix_publish(p, &root, made[0].block.entry, &again, 1, 0, &more, &n), LARDER_OK);
    assert_int_equal(more.outcome, LARDER_PREFIX_DUPLICATE);
    assert_int_equal(more.block.location[1], 2);
    /* A key under another parent is a mistake of the caller. */
    assert_int_equal(larder_prefix_publish(p, &root, 0, &again, 1, 0, &more, &n), LARDER_E_INVALID);

    const larder_key keys[3] = {{{1}}, {{2}}, {{3}}};
    larder_prefix_query q = LARDER_PREFIX_QUERY_INIT;
    q.root = root;
    q.keys = keys;
    q.n_keys = 3;
    const int32_t next[3] = {13, 14, 15};
    q.next_tokens = next;
    q.n_next = 3;
    larder_prefix_block found[3];
    larder_prefix_match_info m = LARDER_PREFIX_MATCH_INFO_INIT;
    assert_int_equal(larder_prefix_match(p, &q, found, sizeof *found, 3, &m), LARDER_OK);
    assert_int_equal(m.n_blocks, 3);
    assert_int_equal(m.n_partial_tokens, 2);
    assert_int_equal(m.partial.entry, made[3].block.entry);
    const uint8_t touched[4] = {0, 0, 0, 1};
    q.no_partial = touched;
    q.flags = LARDER_PREFIX_PEEK;
    larder_prefix_match_info none = LARDER_PREFIX_MATCH_INFO_INIT;
    assert_int_equal(larder_prefix_match(p, &q, NULL, 0, 0, &none), LARDER_OK);
    assert_int_equal(none.n_blocks, 3);
    assert_int_equal(none.n_partial_tokens, 0);

    /* Twice pinned: by publish and by match. */
    larder_prefix_block gone[8];
    assert_int_equal(larder_prefix_remove(p, made[0].block.entry, gone, 8, &n), LARDER_E_BUSY);
    assert_int_equal(n, 1);
    assert_int_equal(gone[0].location[0], 5);
    const uint64_t pinned[4] = {made[0].block.entry, made[1].block.entry, made[2].block.entry, made[3].block.entry};
    assert_int_equal(larder_prefix_unpin(p, pinned, 4), LARDER_OK);
    assert_int_equal(larder_prefix_drop(p, pinned[3], LARDER_PREFIX_IN_ARENA, NULL), LARDER_E_BUSY);
    assert_int_equal(larder_prefix_unpin(p, pinned, 4), LARDER_OK);
    assert_int_equal(larder_prefix_unpin(p, pinned, 1), LARDER_E_STATE);
    assert_int_equal(larder_prefix_drop(p, pinned[2], LARDER_PREFIX_IN_ARENA, NULL), LARDER_E_BUSY);
    assert_int_equal(larder_prefix_candidates(p, LARDER_PREFIX_IN_ARENA, gone, 8, &n), LARDER_OK);
    assert_int_equal(n, 1);
    assert_int_equal(gone[0].entry, pinned[3]);
    assert_int_equal(larder_prefix_remove(p, pinned[0], gone, 2, &n), LARDER_PARTIAL);
    assert_int_equal(gone[0].entry, pinned[3]);
    assert_int_equal(gone[1].entry, pinned[2]);
    assert_int_equal(larder_prefix_remove(p, pinned[0], gone, 2, &n), LARDER_OK);
    assert_int_equal(gone[0].residency, LARDER_PREFIX_IN_ARENA | LARDER_PREFIX_IN_HOST);
    assert_int_equal(larder_prefix_remove(p, pinned[0], gone, 2, &n), LARDER_E_STALE);
    larder_prefix_info info = LARDER_PREFIX_INFO_INIT;
    assert_int_equal(larder_prefix_get_info(p, &info), LARDER_OK);
    assert_int_equal(info.n_entries, 0);
    assert_int_equal(info.n_roots, 0);
    assert_int_equal(larder_prefix_verify(p), LARDER_OK);
    larder_prefix_destroy(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(keys_are_frozen), cmocka_unit_test(bad_keys),
                                       cmocka_unit_test(options_and_nulls), cmocka_unit_test(events_and_exports),
                                       cmocka_unit_test(a_life)};
    return cmocka_run_group_tests_name("prefix", tests, set_up, tear_down);
}
