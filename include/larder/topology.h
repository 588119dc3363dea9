/** @file topology.h
 *  @brief Nodes of host memory and what lies where: near DRAM, the other socket's, CXL-attached memory (arXiv
 * 2507.03305).
 *
 *  A node has a size, a latency and a bandwidth; CXL memory appears as a node without processors. What processors touch
 * at random (indexes, tables, quantizers) pays latency at every read and belongs into near memory, densest first. What
 * is only streamed (cold KV blocks, experts and adapters on their way to a GPU) pays bandwidth, which adds up over
 * nodes: it is striped over the nodes without processors in proportion to their bandwidths, and takes near memory only
 * when those are full.
 *
 *  A topology is read from the system or given as text, so that plans for another machine can be made and tested here.
 * Planning is a pure function; larder_topology_bind() applies a plan to memory of this process.
 */
#ifndef LARDER_TOPOLOGY_H
#define LARDER_TOPOLOGY_H

#include "larder/context.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_topology larder_topology;

/** A node of memory. */
typedef struct larder_memory_node {
    uint32_t struct_size;
    uint32_t id;        /**< the system's number, 0 to 1023 */
    uint32_t has_cpus;  /**< 0: memory alone, such as CXL-attached memory */
    uint32_t estimated; /**< 1: the system states no latency and bandwidth; they are 10 ns per unit of its distance
                           table and 1 TB/s over that distance */
    uint64_t n_bytes;
    uint64_t free_bytes; /**< when the topology was made; n_bytes in a text that does not say */
    uint64_t latency_ns; /**< of a read by the nearest processor */
    uint64_t bandwidth_bytes_per_s;
} larder_memory_node;

#define LARDER_MEMORY_NODE_INIT                                                                                        \
    { sizeof(larder_memory_node), 0, 0, 0, 0, 0, 0, 0 }

/** Make a topology.
 *  @param text  NULL: what this system has. Otherwise one line per node, empty lines and lines from '#' on ignored:
 * "node 1 bytes 256G latency 250 bandwidth 24G", with " cpus" at the end for a node with processors and " free 200G"
 * where not all is to be had; K, M, G and T are powers of 1024. Copied.
 *  @return LARDER_OK; LARDER_E_INVALID (the text: the message names the line); LARDER_E_RANGE (no node, more than 64,
 * or a node without bytes, latency or bandwidth); LARDER_E_UNSUPPORTED (the system tells nothing of nodes);
 * LARDER_E_NOMEM.
 *  @threads internally synchronised  @blocking reads sysfs  @since 0.1 */
LARDER_API larder_status larder_topology_create(larder_context* context, const char* text,
                                                larder_topology** out_topology) LARDER_NOEXCEPT;

/** NULL is allowed.  @threads no other call on this topology may run  @since 0.1 */
LARDER_API void larder_topology_destroy(larder_topology* topology) LARDER_NOEXCEPT;

/** The nodes, nearest first (by latency, then number).
 *  @param out_nodes  [capacity], node_stride bytes apart; each one's struct_size is set by the caller
 *  @param out_n      receives the number of nodes, also with LARDER_E_BUFFER_TOO_SMALL
 *  @return LARDER_OK; LARDER_E_BUFFER_TOO_SMALL (nothing was written); LARDER_E_INVALID.
 *  @threads const  @blocking never  @since 0.1 */
LARDER_API larder_status larder_topology_nodes(const larder_topology* topology, larder_memory_node* out_nodes,
                                               uint32_t node_stride, uint32_t capacity,
                                               uint32_t* out_n) LARDER_NOEXCEPT;

typedef int32_t larder_access;
enum {
    LARDER_ACCESS_LATENCY = 1, /**< processors read it here and there */
    LARDER_ACCESS_STREAM = 2   /**< read and written in bulk, by DMA or in order */
};

/** Something that wants memory. */
typedef struct larder_memory_object {
    uint32_t struct_size;
    larder_access access;
    uint64_t n_bytes;     /**< 1 to 2^50 */
    uint64_t reads_per_s; /**< LATENCY: how often it is read; denser objects go nearer */
} larder_memory_object;

#define LARDER_MEMORY_OBJECT_INIT                                                                                      \
    { sizeof(larder_memory_object), 0, 0, 0 }

/** Bytes of an object on a node. */
typedef struct larder_placement_part {
    uint32_t object;
    uint32_t node; /**< larder_memory_node::id */
    uint64_t n_bytes;
} larder_placement_part;

/** Plan where objects go. LATENCY objects fill the nodes from the nearest on, densest first, and are cut at multiples
 * of unit_bytes where a node ends, which no other plan can better in the sum of reads times latency. STREAM objects are
 * striped over what is left of the nodes without processors, in proportion to bandwidth, then over the others. An
 * object never shares a unit with another.
 *  @param objects        [n_objects], object_stride bytes apart
 *  @param unit_bytes     a power of two, 4096 to 2^30; 0: 2 MiB
 *  @param parts          [capacity]; grouped by object in order of objects, at most one per object and node
 *  @param out_n_parts    receives the number of parts, also with LARDER_E_BUFFER_TOO_SMALL
 *  @return LARDER_OK; LARDER_E_NOSPACE (together they are more than the free bytes of all nodes);
 * LARDER_E_BUFFER_TOO_SMALL; LARDER_E_RANGE (n_bytes, unit_bytes); LARDER_E_INVALID (access, NULL); LARDER_E_TOO_NEW;
 * LARDER_E_NOMEM.
 *  @threads const  @blocking never  @cost n log n  @since 0.1 */
LARDER_API larder_status larder_topology_place(const larder_topology* topology, const larder_memory_object* objects,
                                               uint32_t object_stride, uint32_t n_objects, uint64_t unit_bytes,
                                               larder_placement_part* parts, uint32_t capacity,
                                               uint32_t* out_n_parts) LARDER_NOEXCEPT;

typedef int32_t larder_bind_mode;
enum {
    LARDER_BIND_IN_ORDER = 1,   /**< the parts one behind the other: for LATENCY objects */
    LARDER_BIND_STRIPED = 2,    /**< in pieces of unit_bytes or more that alternate in proportion to the parts, at most
                                   1024    of them: for STREAM objects whose blocks shall each lie on one node */
    LARDER_BIND_INTERLEAVED = 3 /**< page by page by the system, with the system's weights where it knows weighted
                                   interleave (Linux 6.9), evenly otherwise */
};

/** Bind memory of this process to the nodes of a plan. Pages that are there already stay where they are: bind before
 * the first touch.
 *  @param address     a multiple of the system's page
 *  @param n_bytes     bytes from there on, 1 or more; the parts cover them
 *  @param parts       [n_parts] of one object; parts[i].object is not looked at
 *  @param unit_bytes  as for larder_topology_place()
 *  @return LARDER_OK; LARDER_E_NOT_FOUND (the topology or this machine has no such node; nothing was bound);
 * LARDER_E_INVALID (address, mode, parts that are fewer bytes than n_bytes, NULL); LARDER_E_PERMISSION (the process may
 * not use the node); LARDER_E_UNSUPPORTED (the system binds no memory); LARDER_E_NOMEM (too many mappings; part may be
 * bound).
 *  @threads const  @blocking system calls  @since 0.1 */
LARDER_API larder_status larder_topology_bind(const larder_topology* topology, void* address, uint64_t n_bytes,
                                              const larder_placement_part* parts, uint32_t n_parts, uint64_t unit_bytes,
                                              larder_bind_mode mode) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
