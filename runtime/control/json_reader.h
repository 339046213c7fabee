/* json_reader.h: typed fields out of a JSON document that is not trusted, with complaints that name
 * the path. Control and cli. Values are jansson's and borrowed from the document.
 */
#ifndef SHOVE_CONTROL_JSON_READER_H
#define SHOVE_CONTROL_JSON_READER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define SHOVE_JSON_PATH_SIZE 128

struct shove_json_reader {     /* zeroed, then `error` and `what` are set */
    struct shove_error *error; /* filled at the first failure; may be NULL */
    const char *what;          /* "the description of the app" */
    int rc;                    /* 0, or the first failure: every function below then does nothing */
    const char *at;            /* the user's line of what is being read; NULL: none */
    char path[SHOVE_JSON_PATH_SIZE]; /* of the object being read, "" at the top */
};

/* Fails with SHOVE_ECONFIG: "{what} is malformed: {path}.{key}: ...". */
void shove_json_fail(struct shove_json_reader *reader, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Fails with SHOVE_ECONFIG and the text that is in the error already, behind the user's line. */
void shove_json_fail_at_line(struct shove_json_reader *reader);

/* "an object", "a string", ... */
const char *shove_json_type_name(const json_t *value);

/* The value of a key; NULL when it is absent or null, which is a failure where it is required. */
json_t *shove_json_get(struct shove_json_reader *reader, const json_t *object, const char *key,
                       bool is_required);
/* gives a copy; NULL after a failure. */
char *shove_json_copy_text(struct shove_json_reader *reader, const char *text);
/* gives a copy; NULL when absent or after a failure. */
char *shove_json_get_text(struct shove_json_reader *reader, const json_t *object, const char *key,
                          bool is_required);
/* A whole number in [min, max]; `min` after a failure. */
int64_t shove_json_to_whole(struct shove_json_reader *reader, const json_t *value, const char *key,
                            int64_t min, int64_t max);
int64_t shove_json_get_whole(struct shove_json_reader *reader, const json_t *object,
                             const char *key, int64_t min, int64_t max);
uint32_t shove_json_get_count(struct shove_json_reader *reader, const json_t *object,
                              const char *key, uint32_t min);
/* A number above `min`, up to `max`; `max` after a failure. */
double shove_json_get_number(struct shove_json_reader *reader, const json_t *object,
                             const char *key, double min, double max);
/* false when absent or after a failure. */
bool shove_json_get_bool(struct shove_json_reader *reader, const json_t *object, const char *key,
                         bool is_required);
/* Index of the text in `names` (NULL names match nothing). `absent` is what a missing key means;
 * -1: it is required. */
int shove_json_get_choice(struct shove_json_reader *reader, const json_t *object, const char *key,
                          const char *const *names, int count, int absent);
/* Number of elements of the list; 0 when absent or after a failure. */
size_t shove_json_get_list(struct shove_json_reader *reader, const json_t *object, const char *key,
                           bool is_required, json_t **list);
/* gives zeroed memory for `count` elements; NULL after a failure or when there are none. */
void *shove_json_new_array(struct shove_json_reader *reader, size_t count, size_t element_size);
/* Fails at the first key that is not in `known` (NULL-terminated). */
void shove_json_refuse_unknown(struct shove_json_reader *reader, json_t *object,
                               const char *const *known);

#endif
