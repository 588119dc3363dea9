/* Memory that the process may not have: a status that names both numbers. Limits are read when a process first uses the
   library, so each test is a process of its own. */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/arena_bed.h"

static int create(larder_arena_options o, uint32_t n_blocks, larder_error_info* why) {
    larder_layer_group g = full_group();
    g.k_dim = g.v_dim = 128;
    larder_layout_options lo = LARDER_LAYOUT_OPTIONS_INIT;
    lo.groups = &g;
    lo.n_groups = 1;
    lo.group_stride = sizeof g;
    larder_layout* layout = NULL;
    larder_arena* a = NULL;
    if (set_up(NULL) || larder_layout_create(context, &lo, &layout) < 0) return 1;
    o.n_blocks = &n_blocks;
    o.n_block_counts = 1;
    const larder_status s = larder_arena_create(context, layout, &o, &a);
    why->struct_size = sizeof *why;
    (void)larder_last_error(why);
    larder_arena_destroy(a);
    larder_layout_destroy(layout);
    (void)larder_context_destroy(context);
    return s;
}

static void in_a_child(int (*body)(void)) {
    const pid_t pid = fork();
    if (pid == 0) _exit(body());
    int how = 0;
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), 0);
}

/* 12,288 bytes a block in each group of planes: 8 MiB and more in all, with 1 MiB allowed. */
static int locked_body(void) {
    const struct rlimit small = {1 << 20, 1 << 20};
    if (setrlimit(RLIMIT_MEMLOCK, &small) || (geteuid() == 0 && setuid(65534))) return 1;
    larder_error_info why = LARDER_ERROR_INFO_INIT;
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.flags = LARDER_ARENA_LOCKED;
    if (create(o, 700, &why) != LARDER_E_NOMEM) return 2;
    if (strcmp(why.field, "flags") || !strstr(why.message, "1048576") || !strstr(why.message, "8")) return 3;
    o.flags = 0;
    if (create(o, 700, &why) != LARDER_OK) return 4;
    o.flags = LARDER_ARENA_LOCKED;
    return create(o, 20, &why) == LARDER_OK ? 0 : 5;
}

static void locked_memory_is_limited(void** state) {
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("SKIPPED: sanitizers lock no memory\n");
    (void)locked_body;
#else
    in_a_child(locked_body);
#endif
}

static int memory_body(void) {
    larder_error_info why = LARDER_ERROR_INFO_INIT;
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    if (create(o, 1u << 27, &why) != LARDER_E_NOMEM) return 1;
    unsigned long long needs = 0, has = 0;
    if (sscanf(why.message, "the arena needs %llu bytes; this machine or its control group has %llu", &needs, &has) !=
        2)
        return 2;
    return needs > has && needs >= ((unsigned long long)12288 << 27) ? 0 : 3;
}

static void memory_of_the_machine_is_limited(void** state) {
    (void)state;
    in_a_child(memory_body);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(locked_memory_is_limited),
        cmocka_unit_test(memory_of_the_machine_is_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
