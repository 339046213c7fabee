/* json_reader.c: typed fields out of a JSON document that is not trusted. Control and cli.
 *
 * Types are strict and numbers have ranges. Two liberties, because Lua makes the documents: an
 * empty list may arrive as {}, and a whole number may arrive as 1e+15. After the first failure
 * every function does nothing and returns something harmless, so callers read field after field and
 * check `rc` where it matters.
 */
#include "control/json_reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 2^53: a double beyond it is no integer that anybody wrote. */
#define WHOLE_MAX 9007199254740992.0

/* --- Failure */

void shove_json_fail(struct shove_json_reader *reader, const char *key, const char *format, ...) {
    if (reader->rc < 0)
        return;
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    reader->rc = shove_error_set(reader->error, SHOVE_ECONFIG, "%s is malformed: %s%s%.80s: %s",
                                 reader->what, reader->path,
                                 reader->path[0] != '\0' && key[0] != '\0' ? "." : "", key, text);
}

/* For failures of core/topology, whose words are for the user. */
void shove_json_fail_at_line(struct shove_json_reader *reader) {
    if (reader->rc < 0)
        return;
    reader->rc = SHOVE_ECONFIG;
    if (reader->error != NULL)
        reader->error->code = SHOVE_ECONFIG;
    if (reader->at != NULL)
        shove_error_prefix(reader->error, "%s", reader->at);
}

static void fail_memory(struct shove_json_reader *reader) {
    if (reader->rc == 0)
        reader->rc = shove_error_set(reader->error, SHOVE_ENOMEM, "out of memory while reading %s",
                                     reader->what);
}

const char *shove_json_type_name(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "something else";
}

/* --- Values */

/* The value of a key; NULL when it is absent or null. A required one that is not there is a
 * failure. */
json_t *shove_json_get(struct shove_json_reader *reader, const json_t *object, const char *key,
                       bool is_required) {
    json_t *value = reader->rc == 0 ? json_object_get(object, key) : NULL;
    if (value != NULL && !json_is_null(value))
        return value;
    if (is_required)
        shove_json_fail(reader, key, "it is missing");
    return NULL;
}

char *shove_json_copy_text(struct shove_json_reader *reader, const char *text) {
    char *copy = strdup(text);
    if (copy == NULL)
        fail_memory(reader);
    return copy;
}

/* gives a copy; NULL when absent or after a failure. */
char *shove_json_get_text(struct shove_json_reader *reader, const json_t *object, const char *key,
                          bool is_required) {
    json_t *value = shove_json_get(reader, object, key, is_required);
    if (value == NULL)
        return NULL;
    if (!json_is_string(value)) {
        shove_json_fail(reader, key, "expected a string, got %s", shove_json_type_name(value));
        return NULL;
    }
    return shove_json_copy_text(reader, json_string_value(value));
}

static bool is_whole(double number) {
    return number >= -WHOLE_MAX && number <= WHOLE_MAX && (double)(int64_t)number == number;
}

int64_t shove_json_to_whole(struct shove_json_reader *reader, const json_t *value, const char *key,
                            int64_t min, int64_t max) {
    int64_t number;
    if (json_is_integer(value)) {
        number = json_integer_value(value);
    } else if (json_is_real(value) && is_whole(json_real_value(value))) {
        number = (int64_t)json_real_value(value);
    } else {
        shove_json_fail(reader, key, "expected a whole number, got %s",
                        json_is_real(value) ? "a fraction" : shove_json_type_name(value));
        return min;
    }
    if (number < min || number > max) {
        shove_json_fail(reader, key, "%lld is not in the range %lld to %lld", (long long)number,
                        (long long)min, (long long)max);
        return min;
    }
    return number;
}

int64_t shove_json_get_whole(struct shove_json_reader *reader, const json_t *object,
                             const char *key, int64_t min, int64_t max) {
    json_t *value = shove_json_get(reader, object, key, true);
    return value != NULL ? shove_json_to_whole(reader, value, key, min, max) : min;
}

double shove_json_get_number(struct shove_json_reader *reader, const json_t *object,
                             const char *key, double min, double max) {
    json_t *value = shove_json_get(reader, object, key, true);
    if (value == NULL)
        return max;
    if (!json_is_number(value)) {
        shove_json_fail(reader, key, "expected a number, got %s", shove_json_type_name(value));
        return max;
    }
    double number = json_number_value(value);
    if (!(number > min && number <= max)) {
        shove_json_fail(reader, key, "%g is not in the range above %g, up to %g", number, min, max);
        return max;
    }
    return number;
}

uint32_t shove_json_get_count(struct shove_json_reader *reader, const json_t *object,
                              const char *key, uint32_t min) {
    return (uint32_t)shove_json_get_whole(reader, object, key, min, UINT32_MAX);
}

bool shove_json_get_bool(struct shove_json_reader *reader, const json_t *object, const char *key,
                         bool is_required) {
    json_t *value = shove_json_get(reader, object, key, is_required);
    if (value == NULL)
        return false;
    if (!json_is_boolean(value))
        shove_json_fail(reader, key, "expected a boolean, got %s", shove_json_type_name(value));
    return json_is_true(value);
}

/* Index of the text in `names`; `absent` when the key is not there. */
int shove_json_get_choice(struct shove_json_reader *reader, const json_t *object, const char *key,
                          const char *const *names, int count, int absent) {
    json_t *value = shove_json_get(reader, object, key, absent < 0);
    if (value == NULL)
        return absent < 0 ? 0 : absent;
    for (int i = 0; json_is_string(value) && i < count; i++) {
        if (names[i] != NULL && strcmp(json_string_value(value), names[i]) == 0)
            return i;
    }
    if (json_is_string(value))
        shove_json_fail(reader, key, "'%.60s' is not one of its values", json_string_value(value));
    else
        shove_json_fail(reader, key, "expected a string, got %s", shove_json_type_name(value));
    return 0;
}

/* Number of elements; an empty object is an empty list, which is how Lua may have written it. */
size_t shove_json_get_list(struct shove_json_reader *reader, const json_t *object, const char *key,
                           bool is_required, json_t **list) {
    *list = shove_json_get(reader, object, key, is_required);
    if (*list == NULL || (json_is_object(*list) && json_object_size(*list) == 0))
        return 0;
    if (!json_is_array(*list) || json_array_size(*list) > UINT32_MAX) {
        shove_json_fail(reader, key, "expected a list, got %s", shove_json_type_name(*list));
        return 0;
    }
    return json_array_size(*list);
}

/* gives zeroed memory for `count` elements; NULL after a failure or when there are none. */
void *shove_json_new_array(struct shove_json_reader *reader, size_t count, size_t element_size) {
    void *array = reader->rc == 0 && count > 0 ? calloc(count, element_size) : NULL;
    if (array == NULL && reader->rc == 0 && count > 0)
        fail_memory(reader);
    return array;
}

void shove_json_refuse_unknown(struct shove_json_reader *reader, json_t *object,
                               const char *const *known) {
    const char *key;
    json_t *value;
    if (reader->rc < 0)
        return;
    json_object_foreach(object, key, value) {
        size_t i = 0;
        while (known[i] != NULL && strcmp(known[i], key) != 0)
            i++;
        if (known[i] == NULL) {
            shove_json_fail(reader, key, "this key is not known");
            return;
        }
    }
}
