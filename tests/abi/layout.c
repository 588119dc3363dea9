/* Locks the layout of public structs of version 0.1. A field may be appended; none may move. */
#include <stdio.h>

#include "larder/larder.h"

#define LOCK(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field " moved")
#define SIZE(type, bytes) _Static_assert(sizeof(type) >= (bytes) && sizeof(type) % 8 == 0, #type " shrank or lost its alignment")

SIZE(larder_key, 32);
SIZE(larder_span, 16);
LOCK(larder_span, n_bytes, 8);
SIZE(larder_allocator, 32);
LOCK(larder_allocator, ctx, 8);
LOCK(larder_allocator, alloc, 16);
LOCK(larder_allocator, free, 24);
SIZE(larder_error_info, 336);
LOCK(larder_error_info, field, 16);
LOCK(larder_error_info, message, 80);
SIZE(larder_context_options, 56);
LOCK(larder_context_options, set_mask, 4);
LOCK(larder_context_options, n_workers, 8);
LOCK(larder_context_options, allocator, 16);
LOCK(larder_context_options, log, 24);
LOCK(larder_context_options, seed, 48);
SIZE(larder_queue_options, 16);
SIZE(larder_completion, 32);
LOCK(larder_completion, user_data, 8);
LOCK(larder_completion, status, 16);
LOCK(larder_completion, n_bytes, 24);
SIZE(larder_job_error, 16);
SIZE(larder_layer_group, 80);
LOCK(larder_layer_group, layers, 8);
LOCK(larder_layer_group, n_layers, 16);
LOCK(larder_layer_group, state_bytes, 56);
LOCK(larder_layer_group, role, 76);
SIZE(larder_layout_options, 72);
LOCK(larder_layout_options, groups, 8);
LOCK(larder_layout_options, rope_base, 24);
LOCK(larder_layout_options, model_digest, 32);

int main(void) {
    /* The compiler did the work; running shows that the library fills the struct as the header lays it out. */
    larder_error_info e = LARDER_ERROR_INFO_INIT;
    if (larder_last_error(&e) != LARDER_OK || e.struct_size != sizeof e) return 1;
    printf("layouts hold\n");
    return 0;
}
