/* run_dir.h: where the sockets of running shoves are, and who may be there. Control and cli.
 *
 * A folder of the user's own: $XDG_RUNTIME_DIR/shove, or /tmp/shove-UID where that is not set. It
 * has mode 0700, and nothing in it is used unless it belongs to this user and nobody else can enter
 * it: that is what keeps others from a running shove. A socket is called PID.sock.
 */
#ifndef SHOVE_CONTROL_RUN_DIR_H
#define SHOVE_CONTROL_RUN_DIR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define SHOVE_SOCKET_PATH_SIZE 108 /* of sockaddr_un.sun_path */

/* Writes the folder's path; with `creates` it is made where it is missing. SHOVE_EIO when it is
 * missing or cannot be made, SHOVE_EDENIED when it is not this user's alone. */
int shove_run_dir(bool creates, char out[SHOVE_SOCKET_PATH_SIZE], struct shove_error *error);

/* The path of a process's socket in `folder`. SHOVE_EIO when it is longer than a socket's may be.
 */
int shove_run_socket_path(const char *folder, long pid, char out[SHOVE_SOCKET_PATH_SIZE],
                          struct shove_error *error);

#endif
