/* exit_code.h: from an error of a start-up or an operator command to the process's exit code.
 * Control and cli. */
#ifndef SHOVE_CONTROL_EXIT_CODE_H
#define SHOVE_CONTROL_EXIT_CODE_H

#include "base/error.h"
#include "core/tally.h"

/* 64 wrong usage; 78 the script or configuration is wrong (credentials and rights are
 * configuration); 69 the broker, or the file that stands for it, cannot be used; 1 anything else.
 */
static inline int shove_exit_code_for(int code) {
    switch (code) {
    case 0:
        return 0;
    case SHOVE_EUSAGE:
        return SHOVE_EXIT_USAGE;
    case SHOVE_ECONFIG:
    case SHOVE_EAUTH:
    case SHOVE_EDENIED:
    case SHOVE_ENOTOPIC:
    case SHOVE_ENOPARTITION:
        return SHOVE_EXIT_CONFIG;
    case SHOVE_EUNREACHABLE:
    case SHOVE_ETIMEOUT:
    case SHOVE_EBUSY:
    case SHOVE_EDAMAGED:
    case SHOVE_EREADONLY:
    case SHOVE_ENOSPACE:
    case SHOVE_EIO:
        return SHOVE_EXIT_UNAVAILABLE;
    default:
        return 1;
    }
}

#endif
