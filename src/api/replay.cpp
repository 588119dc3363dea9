#include "larder/replay.h"

#include "api/guard.h"
#include "store/policy/policy.h"
#include "store/record_replay.h"
#include "store/replay.h"

using namespace larder;

larder_status larder_policy_get(uint32_t index, larder_policy_info* out) noexcept {
    const PolicyRow* row = policy_row(index);
    if (!row) return fail(LARDER_E_NOT_FOUND, "index", "the policy table has no row %u", index);
    larder_policy_info info = LARDER_POLICY_INFO_INIT;
    info.policy = row->policy;
    info.name = row->name;
    info.description = row->description;
    info.online = row->online;
    return write_struct(out, info, "larder_policy_info");
}

larder_status larder_replay_run(larder_context* context, const larder_replay_trace* trace,
                                const larder_replay_options* options, larder_replay_result* out_result) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(trace);
    LARDER_API_NONNULL(options);
    LARDER_API_NONNULL(out_result);
    larder_replay_trace t;
    LARDER_TRY(read_options(trace, t, "larder_replay_trace"));
    LARDER_TRY(check_reserved(t.reserved0, "reserved0"));
    larder_replay_options o;
    LARDER_TRY(read_options(options, o, "larder_replay_options"));
    larder_replay_result result;
    LARDER_TRY(replay(*context, t, o, result));
    return write_struct(out_result, result, "larder_replay_result");
    LARDER_API_END
}

larder_status larder_replay_record(larder_context* context, const char* path, larder_recorded_fn fn, void* ctx,
                                   larder_record_report* out_report) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(context, context);
    LARDER_API_NONNULL(path);
    LARDER_API_NONNULL(out_report);
    larder_record_report report = LARDER_RECORD_REPORT_INIT;
    const larder_status status = replay_record(*context, path, fn, ctx, report);
    LARDER_TRY(status);
    LARDER_TRY(write_struct(out_report, report, "larder_record_report"));
    return status;
    LARDER_API_END
}
