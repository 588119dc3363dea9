/** @file stats.h
 *  @brief Statistics: one list, three forms (struct, JSON, Prometheus text).
 */
#ifndef LARDER_STATS_H
#define LARDER_STATS_H

#include "larder/context.h"

LARDER_EXTERN_C_BEGIN

/** X(name, kind, help): counters only grow (COUNTER), gauges go up and down (GAUGE). Units are the name's last word, or
 * a count. New entries are appended. */
#define LARDER_STATS_MAP(X)                                                                                            \
    X(jobs_submitted, COUNTER, "jobs made")                                                                            \
    X(jobs_completed, COUNTER, "jobs finished, whatever their status")                                                 \
    X(jobs_failed, COUNTER, "jobs finished with an error")                                                             \
    X(jobs_cancelled, COUNTER, "jobs that ended by cancel")                                                            \
    X(slab_bytes, GAUGE, "memory held by the slab pools")                                                              \
    X(slab_huge_bytes, GAUGE, "the part of slab_bytes asked for as huge pages")                                        \
    X(arena_blocks_total, GAUGE, "blocks of all arenas")                                                               \
    X(arena_blocks_used, GAUGE, "blocks with at least one reference")                                                  \
    X(arena_allocs, COUNTER, "blocks handed out")                                                                      \
    X(arena_alloc_failures, COUNTER, "requests that met a full arena")                                                 \
    X(arena_cow_copies, COUNTER, "blocks copied before a write because they were shared")                              \
    X(prefix_queries, COUNTER, "prefix matches asked of a prefix index")                                               \
    X(prefix_blocks_queried, COUNTER, "full blocks asked for")                                                         \
    X(prefix_blocks_hit, COUNTER, "full blocks found")                                                                 \
    X(prefix_blocks_published, COUNTER, "blocks published")                                                            \
    X(prefix_blocks_deduplicated, COUNTER, "published blocks that were there already")                                 \
    X(prefix_blocks_removed, COUNTER, "blocks unpublished")                                                            \
    X(kv_tokens_queried, COUNTER, "tokens of matched prompts")                                                         \
    X(kv_tokens_hit_arena, COUNTER, "tokens served from the arena")                                                    \
    X(kv_tokens_hit_host, COUNTER, "tokens served from the host tier")                                                 \
    X(kv_tokens_hit_file, COUNTER, "tokens served from the file tier")                                                 \
    X(kv_tokens_committed, COUNTER, "tokens that an engine computed and committed")                                    \
    X(kv_sequences, GAUGE, "open sequences")                                                                           \
    X(kv_leases, GAUGE, "open leases")                                                                                 \
    X(kv_evicted_blocks, COUNTER, "arena blocks taken back by policy")                                                 \
    X(store_puts, COUNTER, "objects offered to the store")                                                             \
    X(store_gets, COUNTER, "objects asked for")                                                                        \
    X(store_hits_host, COUNTER, "objects found in the host tier")                                                      \
    X(store_hits_file, COUNTER, "objects found in the file tier")                                                      \
    X(store_misses, COUNTER, "objects not found")                                                                      \
    X(store_evictions, COUNTER, "objects evicted from a tier")                                                         \
    X(store_rejections, COUNTER, "objects not admitted")                                                               \
    X(store_corruptions, COUNTER, "records that failed their checksum or identity")                                    \
    X(store_host_bytes, GAUGE, "bytes in the host tier")                                                               \
    X(store_file_bytes, GAUGE, "bytes in the file tier")                                                               \
    X(store_objects, GAUGE, "objects in any tier")                                                                     \
    X(io_reads, COUNTER, "read requests")                                                                              \
    X(io_writes, COUNTER, "write requests")                                                                            \
    X(io_syncs, COUNTER, "flush requests")                                                                             \
    X(io_read_bytes, COUNTER, "bytes read from files")                                                                 \
    X(io_write_bytes, COUNTER, "bytes written to files")                                                               \
    X(io_errors, COUNTER, "failed requests")                                                                           \
    X(codec_encoded_bytes_in, COUNTER, "tensor bytes given to encoders")                                               \
    X(codec_encoded_bytes_out, COUNTER, "stream bytes made by encoders")                                               \
    X(codec_decoded_bytes_in, COUNTER, "stream bytes decoded, by the share of layers and tokens asked for")            \
    X(codec_decoded_bytes_out, COUNTER, "tensor bytes made by decoders")                                               \
    X(transfer_bytes, COUNTER, "bytes moved between tiers")                                                            \
    X(transfer_runs, COUNTER, "contiguous copies of larder_kv_compact() after merging")                                \
    X(store_leases, GAUGE, "objects held in RAM for readers")                                                          \
    X(store_reservations, GAUGE, "objects being written in place")                                                     \
    X(store_leases_expired, COUNTER, "leases and reservations that ended with their owner")                            \
    X(store_hit_bytes_host, COUNTER, "bytes served by the host tier")                                                  \
    X(store_hit_bytes_file, COUNTER, "bytes served by the file tier")                                                  \
    X(store_misses_absent, COUNTER, "misses: nothing under that key")                                                  \
    X(store_misses_coarse, COUNTER, "misses: what is there is coarser than asked for")                                 \
    X(store_misses_damaged, COUNTER, "misses: what was read did not hold, or could not be read")                       \
    X(store_gets_retry, COUNTER, "gets that met an object being put")                                                  \
    X(store_gets_identity, COUNTER, "gets refused: of another layout or tenant")                                       \
    X(store_gets_failed, COUNTER, "gets refused or failed: any other error")                                           \
    X(store_rejected_room, COUNTER, "puts refused: no tier had room")                                                  \
    X(store_rejected_quota, COUNTER, "puts refused: the tenant's quota")                                               \
    X(store_rejected_failure, COUNTER, "puts refused: no memory, or the file tier failed")                             \
    X(store_unwritten, COUNTER, "objects in RAM that found no room in the file tier")                                  \
    X(store_over_endurance, COUNTER, "objects that the file tier did not take for its budget of writing")              \
    X(store_host_added, COUNTER, "objects that came into the host tier")                                               \
    X(store_host_evicted, COUNTER, "objects that left the host tier for room")                                         \
    X(store_host_over_quota, COUNTER, "objects that left the host tier for their tenant's quota")                      \
    X(store_host_removed, COUNTER, "objects that left the host tier because somebody said so")                         \
    X(store_host_replaced, COUNTER, "objects that left the host tier for finer ones")                                  \
    X(store_host_lost, COUNTER, "objects that left the host tier because their bytes had changed")                     \
    X(store_file_added, COUNTER, "objects that came into the file tier")                                               \
    X(store_file_evicted, COUNTER, "objects that left the file tier for room")                                         \
    X(store_file_over_quota, COUNTER, "objects that left the file tier for their tenant's quota")                      \
    X(store_file_removed, COUNTER, "objects that left the file tier because somebody said so")                         \
    X(store_file_replaced, COUNTER, "objects that left the file tier for finer ones")                                  \
    X(store_file_lost, COUNTER, "objects that left the file tier because it failed, or their bytes had changed")       \
    X(store_put_bytes, COUNTER, "bytes put")                                                                           \
    X(store_file_put_bytes, COUNTER, "bytes of objects that came into the file tier")                                  \
    X(store_reinserted_bytes, COUNTER, "bytes of objects written again when their segment went")                       \
    X(store_promoted, COUNTER, "objects brought from the file tier into the host tier")                                \
    X(store_moved, COUNTER, "objects moved between tiers by request")                                                  \
    X(store_dirty_bytes, GAUGE, "bytes in the host tier that wait to be written")                                      \
    X(store_pinned, GAUGE, "objects with pins")                                                                        \
    X(store_hits_remote, COUNTER, "objects found in the remote tier")                                                  \
    X(store_hit_bytes_remote, COUNTER, "bytes that gets read from the remote tier")

/** A snapshot. Fields are in the order of LARDER_STATS_MAP. */
typedef struct larder_stats {
    uint32_t struct_size;
    uint32_t version; /**< raised when a field changes its meaning; 1 */
#define LARDER_STATS_FIELD(name, kind, help) uint64_t name;
    LARDER_STATS_MAP(LARDER_STATS_FIELD)
#undef LARDER_STATS_FIELD
} larder_stats;

/** Read all statistics. Counters are summed over threads without stopping them: each is exact once its writers are
 * still.
 *  @param out  the caller sets struct_size (the struct may be older or newer).
 *  @return LARDER_OK; LARDER_E_INVALID.  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_context_stats(larder_context* context, larder_stats* out) LARDER_NOEXCEPT;

typedef int32_t larder_stats_format;
enum { LARDER_STATS_JSON = 1, LARDER_STATS_PROMETHEUS = 2 };

/** Statistics as text: one JSON object, or Prometheus exposition text with the prefix "larder_".
 *  @param buffer   receives NUL-terminated text; may be NULL when capacity is 0 (to ask for the size).
 *  @param out_n_bytes  receives the length without the NUL; may be NULL.
 *  @return LARDER_OK; LARDER_E_BUFFER_TOO_SMALL (out_n_bytes is set, buffer holds nothing useful); LARDER_E_INVALID
 * (format, context).
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_context_stats_text(larder_context* context, larder_stats_format format, char* buffer,
                                                   uint64_t capacity, uint64_t* out_n_bytes) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
