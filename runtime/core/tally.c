/* tally.c: from what happened to an exit code. Pure; control only.
 *
 * The gravest wins: a drain that timed out left messages unsettled, a dead worker is a bug in a
 * handler or in shove, a consumer that stopped or could not commit, or a worker that could not be
 * replaced, leaves work behind. A handler's error is a retry and never counts.
 */
#include "core/tally.h"

enum { EXIT_CLEAN = 0, EXIT_CONSUMER_ERROR = 1, EXIT_WORKER_DEATH = 2, EXIT_DRAIN_TIMEOUT = 3 };

const char *shove_death_name(enum shove_death death) {
#define DEATH_NAME(code, text) [code] = (text),
    static const char *const names[] = {SHOVE_DEATH_TABLE(DEATH_NAME)};
#undef DEATH_NAME
    return names[death];
}

int shove_verdict_exit_code(const struct shove_verdict *verdict) {
    if (verdict->has_drain_timeout)
        return EXIT_DRAIN_TIMEOUT;
    if (verdict->worker_deaths > 0)
        return EXIT_WORKER_DEATH;
    if (verdict->failed_groups > 0 || verdict->has_no_workers || verdict->has_failed_commit)
        return EXIT_CONSUMER_ERROR;
    return EXIT_CLEAN;
}
