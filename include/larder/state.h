/** @file state.h
 *  @brief State slots: what linear attention, state-space models and other recurrences carry from token to token
 * (SANA-Video; Mamba, RWKV, gated delta networks).
 *
 *  A state is state_bytes whose size does not grow with the sequence. States are forked without a copy and copied when
 * one of the sharers is about to write (copy-on-write), frozen as snapshots, added up, and checked by a checksum.
 *
 *  Adding is what makes linear attention parallel: the states of disjoint stretches of a sequence, each computed from
 * zero, add up to the state of the whole (S = sum of phi(k)^T v, z = sum of phi(k)). So a long prompt can be computed
 * in pieces, and a cached document's state joined to another's. States whose update decays or multiplies (most
 * state-space models) do not add; whether a model's do is the caller's knowledge.
 *
 *  States here belong to nobody. A sequence of an arena has its own in RECURRENT layer groups, see larder/arena.h: use
 * those when the states live and die with sequences, and this pool when they are joined, kept or handed around.
 *
 *  After creation a pool calls no allocator.
 */
#ifndef LARDER_STATE_H
#define LARDER_STATE_H

#include "larder/layout.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_states larder_states;

/** A state: an id with a generation, as larder_block is. */
typedef uint64_t larder_state;

/** Options of larder_states_create(). Zero means default; state_bytes and n_slots are required. */
typedef struct larder_states_options {
    uint32_t struct_size;
    uint32_t n_slots;     /**< states with contents of their own, 1 to 2^24 */
    uint64_t state_bytes; /**< 1 to 2^36; a multiple of the element's size when dtype is given */
    uint32_t max_states;  /**< ids, n_slots to 2^26; default 4 times n_slots: shared states take no slot */
    larder_dtype dtype;   /**< element type, F32, F16 or BF16; 0: opaque, no larder_states_add() */
} larder_states_options;

#define LARDER_STATES_OPTIONS_INIT                                                                                     \
    { sizeof(larder_states_options), 0, 0, 0, 0 }

/** Create a pool in host memory. Each slot begins at a multiple of 64 bytes.
 *  @return LARDER_OK; LARDER_E_RANGE (a field outside its bounds, or memory that does not fit an address);
 * LARDER_E_INVALID (NULL, a dtype that does not add); LARDER_E_NOMEM; LARDER_E_TOO_NEW.
 *  @threads internally synchronised  @blocking maps memory  @since 0.1 */
LARDER_API larder_status larder_states_create(larder_context* context, const larder_states_options* options,
                                              larder_states** out_states) LARDER_NOEXCEPT;

/** Destroy a pool with all its states. NULL is allowed.
 *  @threads no other call on this pool may run  @blocking unmaps memory  @since 0.1 */
LARDER_API void larder_states_destroy(larder_states* states) LARDER_NOEXCEPT;

/** Take n new states, all zero; all or none.
 *  @param out  [n]
 *  @return LARDER_OK; LARDER_E_NOSPACE (slots or ids: the field says which); LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking never  @cost clears n states  @since 0.1 */
LARDER_API larder_status larder_states_alloc(larder_states* states, uint32_t n, larder_state* out) LARDER_NOEXCEPT;

/** Give states back. Stale ids are skipped.
 *  @return LARDER_OK; LARDER_E_STALE when at least one was stale (the others are done); LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_states_free(larder_states* states, const larder_state* ids, uint32_t n) LARDER_NOEXCEPT;

/** Make n states that share the contents of one. Nothing is copied now. All or none.
 *  @param out  [n]
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_NOSPACE (ids); LARDER_E_INVALID.
 *  @threads one thread for `state`; the new ones may go to other threads  @blocking never  @since 0.1 */
LARDER_API larder_status larder_states_fork(larder_states* states, larder_state state, uint32_t n,
                                            larder_state* out) LARDER_NOEXCEPT;

/** The same, one state that can only be read, forked and added: a checkpoint.
 *  @return as larder_states_fork().  @threads as larder_states_fork()  @since 0.1 */
LARDER_API larder_status larder_states_snapshot(larder_states* states, larder_state state,
                                                larder_state* out) LARDER_NOEXCEPT;

/** The contents to read.
 *  @param out_address  borrowed until the state is next written or freed
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_INVALID.  @threads one thread per state  @blocking never  @since 0.1 */
LARDER_API larder_status larder_states_get(larder_states* states, larder_state state,
                                           const void** out_address) LARDER_NOEXCEPT;

/** The contents to write: copied first when they are shared, so that no other state sees the writes.
 *  @param out_address  borrowed until the state is freed, or forked and then written again
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_STATE (a snapshot); LARDER_E_NOSPACE (a copy is needed and no slot is
 * free; nothing has changed); LARDER_E_INVALID.
 *  @threads one thread per state  @blocking never  @cost a copy of state_bytes when shared  @since 0.1 */
LARDER_API larder_status larder_states_write(larder_states* states, larder_state state,
                                             void** out_address) LARDER_NOEXCEPT;

/** dst = dst + srcs[0] + ... + srcs[n-1], element by element. Sums are formed in fp32 in this order and rounded once to
 * the element's type, so that the result is the same on every machine.
 *  @param n  0 to 256
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_STATE (dst is a snapshot); LARDER_E_NOSPACE (as larder_states_write());
 * LARDER_E_RANGE (n); LARDER_E_UNSUPPORTED (the pool has no dtype); LARDER_E_INVALID. Nothing has changed then.
 *  @threads one thread per state  @blocking never  @cost reads n + 1 states, writes one  @since 0.1 */
LARDER_API larder_status larder_states_add(larder_states* states, larder_state dst, const larder_state* srcs,
                                           uint32_t n) LARDER_NOEXCEPT;

/** CRC32C of the contents: compare it after the state came back from elsewhere.
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_INVALID.  @threads one thread per state  @blocking never  @since 0.1 */
LARDER_API larder_status larder_states_checksum(larder_states* states, larder_state state,
                                                uint32_t* out_crc32c) LARDER_NOEXCEPT;

/** What a pool holds. */
typedef struct larder_states_state {
    uint32_t struct_size;
    uint32_t n_states;     /**< ids in use */
    uint32_t n_slots_used; /**< contents */
    uint32_t n_slots_free;
    uint64_t n_copies; /**< made because a shared state was written */
    uint64_t memory_bytes;
} larder_states_state;

#define LARDER_STATES_STATE_INIT                                                                                       \
    { sizeof(larder_states_state), 0, 0, 0, 0, 0 }

/** @return LARDER_OK; LARDER_E_INVALID.  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_states_query(larder_states* states, larder_states_state* out) LARDER_NOEXCEPT;

/** Check that every slot is free or held as often as states name it.
 *  @return LARDER_OK; LARDER_E_INTERNAL with what does not hold; LARDER_E_NOMEM.
 *  @threads no other call on this pool may run  @cost linear; allocates while it runs  @since 0.1 */
LARDER_API larder_status larder_states_verify(larder_states* states) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
