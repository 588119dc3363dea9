/* The smallest user: makes a context, asks for a wrong thing, prints what the library says. */
#include <larder/larder.h>
#include <stdio.h>

int main(void) {
    larder_context* context = NULL;
    larder_error_info error = LARDER_ERROR_INFO_INIT;
    if (larder_version() != LARDER_VERSION_HEX) return 1;
    if (larder_context_create(NULL, &context) != LARDER_OK) return 2;
    if (larder_context_set_u64(context, 9999, 1) != LARDER_E_NOT_FOUND) return 3;
    if (larder_last_error(&error) != LARDER_OK || error.status != LARDER_E_NOT_FOUND) return 4;
    if (larder_context_destroy(context) != LARDER_OK) return 5;
    printf("larder %s: %s\n", larder_version_string(), error.message);
    return 0;
}
