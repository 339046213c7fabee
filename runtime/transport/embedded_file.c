/* embedded_file.c: opens the embedded broker's file, makes it when it is not there, and refuses
 * what is not ours.
 *
 * Control and cli, the loop's thread. Invariants: a file that was there is never changed unless it
 * passed every check; a file we make appears under its name only when it is whole and on disk; both
 * happen while no other process has the broker open. Who finds others in it takes their word that
 * the file is good.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/embedded_store.h"

/* Address space, not memory; the file may grow up to this. Halved as long as the system refuses. */
#define MAP_BYTES_MAX ((size_t)256 << 30)
#define MAP_BYTES_MIN ((size_t)1 << 30)
#define NEW_MAP_BYTES ((size_t)16 << 20)
#define READERS_MAX 512
#define DATABASES_MAX 16
#define PAGE_HEADER_BYTES 16
#define CHECK_BUDGET_MS 3000
#define LINKS_MAX 40 /* followed one after the other, as many as the kernel does */

/* ---- the name ---- */

/* Where a link leads; NULL with errno. What it says is relative to the folder it is in. */
static char *read_link(const char *path) {
    char target[PATH_MAX];
    ssize_t size = readlink(path, target, sizeof(target));
    if (size < 0)
        return NULL;
    const char *slash = strrchr(path, '/');
    size_t folder = target[0] != '/' && slash ? (size_t)(slash + 1 - path) : 0;
    char *out = malloc(folder + (size_t)size + 1);
    if (!out)
        return NULL;
    memcpy(out, path, folder);
    memcpy(out + folder, target, (size_t)size);
    out[folder + (size_t)size] = '\0';
    return out;
}

/* The name that is no link. The locks lie beside the name, LMDB's too: under two names for one file
 * there would be two locks, and two writers at once. gives *out. */
static int resolve(const char *path, char **out, struct shove_error *error) {
    struct stat info;
    char *name = strdup(path);
    for (int i = 0; name && i < LINKS_MAX; i++) {
        if (lstat(name, &info) < 0 || !S_ISLNK(info.st_mode)) {
            *out = name;
            return 0;
        }
        char *target = read_link(name);
        free(name);
        name = target;
    }
    if (!name)
        return shove_error_set(error, SHOVE_EUNREACHABLE, "cannot follow %s: %s", path,
                               strerror(errno));
    free(name);
    return shove_error_set(error, SHOVE_EUNREACHABLE,
                           "%s is a link that leads in a circle: remove it, or choose another name",
                           path);
}

/* ---- the environment ---- */

static int env_open(struct shove_store *store, const char *path, size_t map_bytes, unsigned flags) {
    int rc = mdb_env_create(&store->env);
    if (rc != 0)
        return rc;
    rc = mdb_env_set_mapsize(store->env, map_bytes);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(store->env, READERS_MAX);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(store->env, DATABASES_MAX);
    /* NOTLS: a reader's slot belongs to its transaction, not to a thread of the pool */
    if (rc == 0)
        rc = mdb_env_open(store->env, path, MDB_NOSUBDIR | MDB_NOTLS | flags, 0644);
    if (rc != 0) {
        mdb_env_close(store->env);
        store->env = NULL;
    }
    return rc;
}

/* The name in the folder must be on disk too, before anything is acknowledged. */
static int sync_folder(const char *path) {
    char *folder = strdup(path);
    if (!folder)
        return ENOMEM;
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = '\0';
    int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 || fsync(fd) < 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    free(folder);
    return rc == EINVAL ? 0 : rc; /* file systems that cannot sync a folder */
}

static int publish_file(const char *made, const char *path) {
    if (link(made, path) == 0) /* unlike rename, never replaces what somebody else just made */
        return unlink(made) < 0 ? errno : 0;
    if (errno != EPERM && errno != EOPNOTSUPP)
        return errno;
    return rename(made, path) < 0 ? errno : 0;
}

static int create(struct shove_store *store, struct shove_error *error) {
    char *made = malloc(strlen(store->path) + sizeof("-new"));
    if (!made)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    sprintf(made, "%s-new", store->path);
    unlink(made); /* of one who died here */
    int rc = env_open(store, made, NEW_MAP_BYTES, MDB_NOLOCK);
    if (rc != 0) {
        rc = shove_embedded_error(store, rc, "create it", error);
    } else {
        rc = shove_embedded_format_write(store, error);
        mdb_env_close(store->env);
        store->env = NULL;
        if (rc == 0) {
            int code = publish_file(made, store->path);
            if (code == 0)
                code = sync_folder(store->path);
            if (code != 0)
                rc = shove_embedded_error(store, code, "create it", error);
        }
    }
    if (rc < 0)
        unlink(made);
    free(made);
    return rc;
}

/* ---- looking before opening ---- */

static int say_readonly(const char *path, int code, struct shove_error *error) {
    return shove_error_set(
        error, SHOVE_EREADONLY,
        "%s cannot be written: %s; the embedded broker needs to: give this user the right to, or "
        "choose another place",
        path, strerror(code));
}

/* *is_there, and whether it may be ours by its first bytes. `is_thorough`: all of its pages too. */
static int look(const char *path, bool is_thorough, bool *is_there, struct shove_error *error) {
    struct stat info;
    *is_there = false;
    if (stat(path, &info) < 0) {
        if (errno == ENOENT)
            return 0;
        if (errno == EACCES)
            return say_readonly(path, errno, error);
        return shove_error_set(error, SHOVE_EUNREACHABLE, "cannot look at %s: %s", path,
                               strerror(errno));
    }
    *is_there = true;
    if (!S_ISREG(info.st_mode))
        return shove_error_set(error, SHOVE_EDAMAGED,
                               "%s is not a file: the embedded broker needs the name of one", path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && (errno == EACCES || errno == EROFS || errno == EPERM))
        return say_readonly(path, errno, error);
    if (fd < 0)
        return shove_error_set(error, SHOVE_EIO, "cannot open %s: %s", path, strerror(errno));
    int rc = is_thorough ? shove_embedded_pages_check(fd, path, CHECK_BUDGET_MS, error)
                         : shove_embedded_head_check(fd, path, error);
    close(fd);
    return rc;
}

static int look_or_create(struct shove_store *store, bool is_alone, bool may_create,
                          struct shove_error *error) {
    bool is_there;
    int rc = look(store->path, is_alone, &is_there, error);
    if (rc < 0 || is_there)
        return rc;
    if (!may_create)
        return shove_error_set(
            error, SHOVE_EUNREACHABLE,
            "there is no broker file %s yet: 'shove run' or 'shove publish' makes it", store->path);
    if (!is_alone)
        return shove_error_set(error, SHOVE_EUNREACHABLE,
                               "%s is gone while other processes still use it: stop them first",
                               store->path);
    return create(store, error);
}

/* ---- open ---- */

static int open_env(struct shove_store *store, struct shove_error *error) {
    int rc = ENOMEM;
    for (size_t bytes = MAP_BYTES_MAX; rc == ENOMEM && bytes >= MAP_BYTES_MIN; bytes /= 2)
        rc = env_open(store, store->path, bytes, 0);
    if (rc == MDB_INVALID || rc == MDB_VERSION_MISMATCH)
        return shove_error_set(
            error, SHOVE_EDAMAGED,
            "%s-lock does not fit: stop every process that uses %s, remove %s-lock, and try again",
            store->path, store->path, store->path);
    if (rc != 0)
        return shove_embedded_error(store, rc, "open it", error);
    int fd, dead;
    struct stat info;
    MDB_stat stat;
    mdb_env_get_fd(store->env, &fd);
    if (fstat(fd, &info) < 0)
        return shove_error_set(error, SHOVE_EIO, "cannot look at %s: %s", store->path,
                               strerror(errno));
    fcntl(fd, F_SETFD, FD_CLOEXEC); /* LMDB leaves this one open for programs it starts */
    store->device = info.st_dev;
    store->inode = info.st_ino;
    mdb_reader_check(store->env, &dead); /* a dead reader would keep pages from being used again */
    mdb_env_stat(store->env, &stat);
    store->part_bytes = stat.ms_psize - PAGE_HEADER_BYTES;
    return shove_embedded_format_check(store, error);
}

/* A write past the limit on file size is then an error like any other, not the end of the process.
 */
static void ignore_file_size_signal(void) {
    struct sigaction action;
    if (sigaction(SIGXFSZ, NULL, &action) == 0 && action.sa_handler == SIG_DFL) {
        action.sa_handler = SIG_IGN;
        sigaction(SIGXFSZ, &action, NULL);
    }
}

static int enter(struct shove_store *store, bool may_create, int64_t timeout_ms,
                 struct shove_error *error) {
    bool is_there, is_alone;
    /* First without leaving anything beside a file that is not ours. */
    int rc = look(store->path, false, &is_there, error);
    if (rc == 0 && !is_there && !may_create)
        rc = look_or_create(store, false, false, error);
    if (rc == 0)
        rc = shove_embedded_locks_open(store->path, &store->locks, error);
    if (rc == 0)
        rc = shove_embedded_locks_enter(store->locks, timeout_ms, &is_alone, error);
    if (rc == 0)
        rc = look_or_create(store, is_alone, may_create, error);
    if (rc == 0)
        rc = open_env(store, error);
    if (rc == 0 && is_alone)
        rc = shove_embedded_locks_share(store->locks, error);
    return rc;
}

int shove_embedded_open_file(const char *path, bool may_create, int64_t timeout_ms,
                             struct shove_store **out, struct shove_error *error) {
    struct shove_store *store = calloc(1, sizeof(*store));
    if (!store)
        return shove_error_set(error, SHOVE_ENOMEM, "out of memory");
    int rc = resolve(path, &store->path, error);
    if (rc < 0 || !store->path) {
        free(store);
        return rc;
    }
    ignore_file_size_signal();
    rc = enter(store, may_create, timeout_ms, error);
    if (rc < 0) {
        shove_embedded_free(store);
        return rc;
    }
    *out = store;
    return 0;
}

void shove_embedded_free(struct shove_store *store) {
    if (store->reader_cursor)
        mdb_cursor_close(store->reader_cursor);
    if (store->reader)
        mdb_txn_abort(store->reader);
    if (store->env)
        mdb_env_close(store->env);
    if (store->locks)
        shove_embedded_locks_close(store->locks);
    free(store->path);
    free(store);
}

int shove_embedded_check(struct shove_store *store, struct shove_error *error) {
    struct stat info;
    bool is_there = stat(store->path, &info) == 0;
    if (is_there && info.st_dev == store->device && info.st_ino == store->inode &&
        shove_embedded_locks_are_there(store->locks))
        return 0;
    return shove_error_set(
        error, SHOVE_EIO,
        "%s or %s was removed or replaced while in use; what was in it is lost with it: restart to "
        "begin with what is there now",
        store->path, shove_embedded_locks_path(store->locks));
}
