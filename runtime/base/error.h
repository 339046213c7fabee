/* error.h: the one table of error codes, and the caller-owned message that goes with a failure.
 *
 * Any process. A fallible function returns 0 (or a count) or one of the negative SHOVE_E* codes
 * below, and fills a struct shove_error with a sentence: what failed, where, what to do. Foreign
 * codes (librdkafka, LMDB, errno, Lua) are translated in the file that called the library. Codes
 * cross between control and worker as numbers, so their values are explicit and never reused. The
 * short name is what Lua code sees as the third return value of a failed operation, and what logs
 * print.
 */
#ifndef SHOVE_BASE_ERROR_H
#define SHOVE_BASE_ERROR_H

#include <stddef.h>

/* X(code, value, short name, sentence) */
#define SHOVE_ERROR_TABLE(X)                                                                       \
    X(SHOVE_ENOMEM, -1, "ENOMEM", "out of memory")                                                 \
    X(SHOVE_EINVAL, -2, "EINVAL", "invalid argument")                                              \
    X(SHOVE_EAGAIN, -3, "EAGAIN", "no room or nothing there now, try again later")                 \
    X(SHOVE_ENOTOPIC, -4, "ENOTOPIC", "the topic does not exist")                                  \
    X(SHOVE_ETOOLARGE, -5, "ETOOLARGE", "the message is larger than the broker accepts")           \
    X(SHOVE_ETIMEOUT, -6, "ETIMEOUT", "the broker did not answer in time")                         \
    X(SHOVE_EUNREACHABLE, -7, "EUNREACHABLE", "the broker cannot be reached")                      \
    X(SHOVE_EAUTH, -8, "EAUTH", "the broker refused the credentials")                              \
    X(SHOVE_EDENIED, -9, "EDENIED", "the broker refused permission")                               \
    X(SHOVE_ENOSPACE, -10, "ENOSPACE", "no space left on the device")                              \
    X(SHOVE_EREADONLY, -11, "EREADONLY", "the file or folder cannot be written")                   \
    X(SHOVE_EDAMAGED, -12, "EDAMAGED", "the file is damaged or not ours")                          \
    X(SHOVE_EBUSY, -13, "EBUSY", "held by another process")                                        \
    X(SHOVE_ECLOSED, -14, "ECLOSED", "closed, or shutting down")                                   \
    X(SHOVE_ECONFIG, -15, "ECONFIG", "the configuration is wrong")                                 \
    X(SHOVE_EUSAGE, -16, "EUSAGE", "wrong usage")                                                  \
    X(SHOVE_ECORRUPT, -17, "ECORRUPT", "data that fails its checks")                               \
    X(SHOVE_EFATAL, -18, "EFATAL", "the client failed and must be rebuilt")                        \
    X(SHOVE_EOFFSET, -19, "EOFFSET", "no committed offset, or it is out of range")                 \
    X(SHOVE_EUNSUPPORTED, -20, "EUNSUPPORTED", "this broker cannot do that")                       \
    X(SHOVE_EREVOKED, -21, "EREVOKED", "the partition is no longer owned")                         \
    X(SHOVE_EIO, -22, "EIO", "input or output failed")                                             \
    X(SHOVE_EBROKER, -23, "EBROKER", "the broker refused the request")                             \
    X(SHOVE_ENOPARTITION, -24, "ENOPARTITION", "the topic has no such partition")                  \
    X(SHOVE_EBACKLOG, -25, "EBACKLOG", "too much waits for the broker already, try again later")

#define SHOVE_ERROR_ENUM(code, value, name, sentence) code = (value),
enum shove_error_code { SHOVE_OK = 0, SHOVE_ERROR_TABLE(SHOVE_ERROR_ENUM) };
#undef SHOVE_ERROR_ENUM

#define SHOVE_ERROR_TEXT_SIZE 1024

/* Filled by the callee on failure, untouched on success. `text` is always NUL-terminated. */
struct shove_error {
    int code;
    char text[SHOVE_ERROR_TEXT_SIZE];
};

/* Sets code and formatted text; `error` may be NULL. Returns `code`, so that `return
 * shove_error_set(...)` reads well. */
int shove_error_set(struct shove_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " in front of the text that is there. Returns error->code. */
int shove_error_prefix(struct shove_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* "ENOTOPIC" for SHOVE_ENOTOPIC; "EUNKNOWN" for a number that is not in the table (it may come from
 * a worker). */
const char *shove_error_name(int code);

/* The table's sentence, never NULL. */
const char *shove_error_sentence(int code);

#endif
