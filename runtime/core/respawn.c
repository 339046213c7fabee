/* respawn.c: see respawn.h. Pure. */
#include "core/respawn.h"

#include "base/error.h"

#define WORKER_FIRST_MS 100
#define WORKER_MAX_MS 5000
#define WORKER_DOUBLINGS_MAX 6u

bool shove_respawn_is_open(uint32_t failures) {
    return failures >= SHOVE_RESPAWN_BREAKER_FAILURES;
}

int64_t shove_respawn_delay_ms(uint32_t failures) {
    if (shove_respawn_is_open(failures))
        return SHOVE_RESPAWN_BREAKER_MS;
    return (int64_t)SHOVE_RESPAWN_FIRST_MS << (failures > 1 ? failures - 1 : 0);
}

uint32_t shove_respawn_count(uint32_t failures, int64_t assigned_ms, int64_t now_ms) {
    const bool was_back = assigned_ms != 0 && now_ms - assigned_ms >= SHOVE_RESPAWN_BACK_MS;
    return was_back ? 1 : failures + 1;
}

bool shove_respawn_can_help(int code) {
    switch (code) {
    case SHOVE_EAUTH:
    case SHOVE_EDENIED:
    case SHOVE_ENOTOPIC:
    case SHOVE_ECONFIG:
    case SHOVE_EOFFSET:
    case SHOVE_EUNSUPPORTED:
    case SHOVE_EDAMAGED:
    case SHOVE_ECORRUPT:
    case SHOVE_ETOOLARGE:
        return false;
    default:
        return true;
    }
}

int64_t shove_respawn_worker_delay_ms(uint32_t failures) {
    if (failures < 2)
        return 0;
    const uint32_t doublings =
        failures - 2 < WORKER_DOUBLINGS_MAX ? failures - 2 : WORKER_DOUBLINGS_MAX;
    const int64_t delay_ms = (int64_t)WORKER_FIRST_MS << doublings;
    return delay_ms < WORKER_MAX_MS ? delay_ms : WORKER_MAX_MS;
}

bool shove_respawn_is_hopeless(uint32_t failures, int64_t without_ms) {
    return failures >= SHOVE_RESPAWN_BREAKER_FAILURES && without_ms >= SHOVE_RESPAWN_WORKERS_MS;
}
