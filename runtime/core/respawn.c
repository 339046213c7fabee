/* respawn.c: see respawn.h. Pure. */
#include "core/respawn.h"

#include "base/error.h"

bool shove_respawn_is_open(uint32_t failures) {
    return failures >= SHOVE_RESPAWN_BREAKER_FAILURES;
}

int64_t shove_respawn_delay_ms(uint32_t failures) {
    if (shove_respawn_is_open(failures))
        return SHOVE_RESPAWN_BREAKER_MS;
    return (int64_t)SHOVE_RESPAWN_FIRST_MS << (failures > 1 ? failures - 1 : 0);
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
