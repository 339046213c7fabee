/* listen_address.c: see listen_address.h. Pure. */
#include "core/listen_address.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define LOOPBACK "127.0.0.1"
#define PORT_MAX 65535

static bool is_port(const char *text) {
    const size_t digits = strspn(text, "0123456789");
    return digits > 0 && digits < SHOVE_PORT_SIZE && text[digits] == '\0' &&
           strtol(text, NULL, 10) <= PORT_MAX;
}

/* Where the host is in `text`, brackets left out, and the port behind it. False: neither form. */
static bool split(const char *text, const char **host, size_t *host_size, const char **port) {
    const char *colon = strrchr(text, ':');
    *host = text;
    *host_size = colon ? (size_t)(colon - text) : 0;
    *port = colon ? colon + 1 : text;
    if (*host_size == 0)
        return true;
    if (text[0] != '[')
        return memchr(text, ':', *host_size) == NULL; /* else an IPv6 address without brackets */
    *host = text + 1;
    *host_size -= 2;
    return colon - text > 2 && colon[-1] == ']';
}

int shove_listen_address_parse(const char *text, struct shove_listen_address *out,
                               struct shove_error *error) {
    const char *host;
    const char *port;
    size_t host_size;
    if (!split(text, &host, &host_size, &port) || !is_port(port) || host_size >= SHOVE_HOST_SIZE)
        return shove_error_set(error, SHOVE_EUSAGE,
                               "'%s' is not an address to listen at: PORT or HOST:PORT (8080, "
                               "0.0.0.0:8080, [::1]:8080), port 0 for any that is free",
                               text);
    if (host_size == 0) {
        host = LOOPBACK;
        host_size = strlen(LOOPBACK);
    }
    memcpy(out->host, host, host_size);
    out->host[host_size] = '\0';
    memcpy(out->port, port, strlen(port) + 1);
    return 0;
}
