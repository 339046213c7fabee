/* run_dir.c: see run_dir.h. Control and cli. */
#include "control/run_dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int name_folder(char out[SHOVE_SOCKET_PATH_SIZE], struct shove_error *error) {
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    const int size = runtime != NULL && runtime[0] == '/'
                         ? snprintf(out, SHOVE_SOCKET_PATH_SIZE, "%s/shove", runtime)
                         : snprintf(out, SHOVE_SOCKET_PATH_SIZE, "/tmp/shove-%u", geteuid());
    if (size >= SHOVE_SOCKET_PATH_SIZE)
        return shove_error_set(error, SHOVE_EIO, "XDG_RUNTIME_DIR is too long for a socket's path");
    return 0;
}

int shove_run_dir(bool creates, char out[SHOVE_SOCKET_PATH_SIZE], struct shove_error *error) {
    struct stat status;
    int rc = name_folder(out, error);
    if (rc != 0)
        return rc;
    if (creates && mkdir(out, S_IRWXU) != 0 && errno != EEXIST)
        return shove_error_set(error, SHOVE_EIO, "cannot make the folder %s: %s", out,
                               strerror(errno));
    if (lstat(out, &status) != 0)
        return shove_error_set(error, SHOVE_EIO, "cannot look at the folder %s: %s", out,
                               strerror(errno));
    if (!S_ISDIR(status.st_mode) || status.st_uid != geteuid() ||
        (status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return shove_error_set(error, SHOVE_EDENIED,
                               "%s is not a folder that belongs to this user alone: chmod 700 it, "
                               "or set XDG_RUNTIME_DIR to one that does",
                               out);
    return 0;
}

int shove_run_socket_path(const char *folder, long pid, char out[SHOVE_SOCKET_PATH_SIZE],
                          struct shove_error *error) {
    if (snprintf(out, SHOVE_SOCKET_PATH_SIZE, "%s/%ld.sock", folder, pid) >= SHOVE_SOCKET_PATH_SIZE)
        return shove_error_set(error, SHOVE_EIO, "%s is too long for a socket's path", folder);
    return 0;
}
