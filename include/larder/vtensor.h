/** @file vtensor.h
 *  @brief Virtual weight tensors: the experts of a base model and of many adapters in one tensor, with memory only
 * behind those that exist (ExpertWeave, arXiv 2508.17624).
 *
 *  For each layer and weight matrix there is one tensor of shape [n_slots][slot_bytes]. The base model's n_base experts
 * are slots 0 to n_base-1. Each adapter row i (1 to max_adapters) owns max_tuned slots from its first slot on, and uses
 * as many of them in a layer as it has tuned experts there. A grouped GEMM written for one tensor [n_slots, out, in]
 * runs unchanged on it: only the expert numbers that the router chose have to be rewritten, see larder_vtensor_route().
 *
 *  Every adapter begins on a page: the rows are set apart by as many slots as that takes, which costs address space and
 * no memory. So no page ever holds weights of two adapters, and a part page is left over at most once per adapter,
 * layer and matrix: mapped bytes <= bytes of the experts + one page for each of those.
 *
 *  The tensors are in host memory, or on a device that can map (larder_device_info::can_map). The weights are written
 * by the caller, to base + slot * slot_bytes. Memory that is new is zero on the host and arbitrary on a device.
 */
#ifndef LARDER_VTENSOR_H
#define LARDER_VTENSOR_H

#include "larder/device.h"

LARDER_EXTERN_C_BEGIN

typedef struct larder_vtensor larder_vtensor;

/** An adapter whose experts are mapped: an id with a generation. */
typedef uint64_t larder_vtensor_adapter;

/** Options of larder_vtensor_create(). Zero means default; the counts and slot_bytes are required. */
typedef struct larder_vtensor_options {
    uint32_t struct_size;
    uint32_t n_layers;          /**< MoE layers, 1 to 4096 */
    uint32_t n_base;            /**< experts of the base model per layer, 1 to 65536 */
    uint32_t max_adapters;      /**< rows for adapters, 1 to 65536 */
    uint32_t max_tuned;         /**< experts that an adapter tunes in one layer at most, 1 to n_base */
    uint32_t n_matrices;        /**< weight matrices of an expert (gate, up, down), 1 to 16 */
    const uint64_t* slot_bytes; /**< [n_matrices] bytes of one expert's matrix; borrowed during the call */
    uint64_t page_bytes;        /**< unit of mapping, a power of two and a multiple of the device's granularity; default
                                   2 MiB, or the granularity where that is more */
    larder_device* device;      /**< kept alive by the tensor; NULL: private host memory, in huge pages where the system
                                   gives them */
} larder_vtensor_options;

#define LARDER_VTENSOR_OPTIONS_INIT                                                                                    \
    { sizeof(larder_vtensor_options), 0, 0, 0, 0, 0, 0, 0, 0 }

/** Reserve the tensors and map the base model's experts.
 *  @return LARDER_OK; LARDER_E_INVALID (NULL arguments, page_bytes no power of two or no multiple of the granularity);
 * LARDER_E_RANGE (a count or slot_bytes outside its bounds, or more than 2^46 bytes of address space);
 * LARDER_E_UNSUPPORTED (the device cannot map); LARDER_E_NOMEM; LARDER_E_DEVICE_NOMEM; LARDER_E_DEVICE_LOST;
 * LARDER_E_TOO_NEW.
 *  @threads internally synchronised  @blocking maps memory  @since 0.1 */
LARDER_API larder_status larder_vtensor_create(larder_context* context, const larder_vtensor_options* options,
                                               larder_vtensor** out_vtensor) LARDER_NOEXCEPT;

/** Destroy the tensors with all adapters. Device work on them must be done. NULL is allowed.
 *  @threads no other call on this object may run  @blocking unmaps memory  @since 0.1 */
LARDER_API void larder_vtensor_destroy(larder_vtensor* vtensor) LARDER_NOEXCEPT;

/** One tensor: [n_slots][slot_bytes]. */
typedef struct larder_vtensor_view {
    uint32_t struct_size;
    uint32_t n_slots;       /**< base and all rows, mapped or not */
    larder_device_ptr base; /**< address of slot 0; a CPU address without a device */
    uint64_t slot_bytes;
    uint32_t first_row_slot; /**< first slot of row 1 */
    uint32_t row_slots;      /**< slots from the first of a row to the first of the next */
} larder_vtensor_view;

#define LARDER_VTENSOR_VIEW_INIT                                                                                       \
    { sizeof(larder_vtensor_view), 0, 0, 0, 0, 0 }

/** @return LARDER_OK; LARDER_E_RANGE (layer, matrix); LARDER_E_INVALID.  @threads const  @blocking never  @since 0.1 */
LARDER_API larder_status larder_vtensor_get_view(const larder_vtensor* vtensor, uint32_t layer, uint32_t matrix,
                                                 larder_vtensor_view* out) LARDER_NOEXCEPT;

/** Give an adapter a row and map memory for its experts, in every layer and matrix or in none.
 *  @param n_tuned      [n_layers] tuned experts of each layer, 0 to max_tuned
 *  @param experts      the numbers of the tuned experts, layer after layer; within a layer each at most once. The d-th
 * of a layer goes to slot first_row_slot + (row - 1) * row_slots + d.
 *  @param out_adapter  receives the id
 *  @param out_row      receives the row, 1 to max_adapters: what larder_vtensor_route() takes. Valid until the adapter
 * is unmapped.
 *  @return LARDER_OK; LARDER_E_NOSPACE (no row is free); LARDER_E_RANGE (a count or an expert number); LARDER_E_INVALID
 * (an expert twice in a layer, NULL); LARDER_E_NOMEM; LARDER_E_DEVICE_NOMEM; LARDER_E_DEVICE_LOST. Nothing has changed
 * then.
 *  @threads internally synchronised  @blocking maps memory  @since 0.1 */
LARDER_API larder_status larder_vtensor_map(larder_vtensor* vtensor, const uint32_t* n_tuned, const uint32_t* experts,
                                            larder_vtensor_adapter* out_adapter, int32_t* out_row) LARDER_NOEXCEPT;

/** Take an adapter's memory and row away. No device work may still read its slots: wait for the events of the steps
 * that used it first.
 *  @return LARDER_OK; LARDER_E_STALE; LARDER_E_NOMEM (the system could not take part of the memory back; that part
 * stays counted and is tried again when the row is needed).
 *  @threads internally synchronised  @blocking unmaps memory  @since 0.1 */
LARDER_API larder_status larder_vtensor_unmap(larder_vtensor* vtensor, larder_vtensor_adapter adapter) LARDER_NOEXCEPT;

/** Rewrite the experts that the router chose into slots: ids[t][j] becomes the slot of that expert in row rows[t],
 * which is the base model's where the adapter has not tuned it.
 *  @param rows  [n_tokens] the row of each token; 0 for the base model
 *  @param ids   [n_tokens][k] expert numbers, 0 to n_base-1; rewritten in place
 *  @return LARDER_OK; LARDER_E_RANGE (layer, an expert number or a row outside its range); LARDER_E_STALE (a row
 * without an adapter); nothing was rewritten then; LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking never  @cost about 1 ns per id  @since 0.1 */
LARDER_API larder_status larder_vtensor_route(const larder_vtensor* vtensor, uint32_t layer, const int32_t* rows,
                                              uint32_t n_tokens, uint32_t k, int32_t* ids) LARDER_NOEXCEPT;

/** The map behind larder_vtensor_route() for kernels: dst[row][expert] is a slot. Row 0 and rows without an adapter are
 * the identity.
 *  @param dst         [max_adapters + 1][row_stride]
 *  @param row_stride  entries per row, n_base at least; what is beyond n_base is left alone
 *  @return LARDER_OK; LARDER_E_RANGE (layer); LARDER_E_BUFFER_TOO_SMALL (row_stride); LARDER_E_INVALID.
 *  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_vtensor_export_routes(const larder_vtensor* vtensor, uint32_t layer, int32_t* dst,
                                                      uint32_t row_stride) LARDER_NOEXCEPT;

/** What the tensors take. */
typedef struct larder_vtensor_state {
    uint32_t struct_size;
    uint32_t n_adapters;
    uint64_t page_bytes;
    uint64_t expert_bytes;     /**< of all experts that exist, the base model's included */
    uint64_t mapped_bytes;     /**< memory behind them: expert_bytes and the rest of each last page */
    uint64_t n_boundary_pages; /**< pages that are mapped in part only to hold weights */
    uint64_t padded_bytes;     /**< what one dense tensor with max_tuned experts for each adapter here would take */
    uint64_t reserved_bytes;   /**< address space */
} larder_vtensor_state;

#define LARDER_VTENSOR_STATE_INIT                                                                                      \
    { sizeof(larder_vtensor_state), 0, 0, 0, 0, 0, 0, 0 }

/** @return LARDER_OK; LARDER_E_INVALID.  @threads internally synchronised  @blocking never  @since 0.1 */
LARDER_API larder_status larder_vtensor_query(const larder_vtensor* vtensor, larder_vtensor_state* out) LARDER_NOEXCEPT;

LARDER_EXTERN_C_END
#endif
