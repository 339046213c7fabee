/* listen_address.h: what --listen says, as a host and a port. Pure; cli and control.
 *
 *   8080, :8080            127.0.0.1, port 8080: this machine alone, unless told otherwise
 *   0.0.0.0:8080           all of IPv4
 *   [::1]:8080             IPv6
 *   localhost:0            a name; port 0: one that is free
 */
#ifndef SHOVE_CORE_LISTEN_ADDRESS_H
#define SHOVE_CORE_LISTEN_ADDRESS_H

#include "base/error.h"

#define SHOVE_HOST_SIZE 256
#define SHOVE_PORT_SIZE 6

struct shove_listen_address {
    char host[SHOVE_HOST_SIZE]; /* without brackets */
    char port[SHOVE_PORT_SIZE]; /* decimal, 0 to 65535 */
};

/* 0, or SHOVE_EUSAGE with what is allowed. */
int shove_listen_address_parse(const char *text, struct shove_listen_address *out,
                               struct shove_error *error);

#endif
