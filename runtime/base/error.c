/* error.c: words for failures. Any process, any thread; no state.
 *
 * Texts are cut at SHOVE_ERROR_TEXT_SIZE without splitting a UTF-8 character, because they travel
 * on as JSON and as record headers.
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* After a vsnprintf that wanted `wanted` bytes: what is in `text` (of `room` bytes) ends on a
 * whole character. Returns its length. */
static size_t trim(char *text, size_t room, int wanted) {
    if (wanted < 0) {
        text[0] = '\0';
        return 0;
    }
    if ((size_t)wanted < room)
        return (size_t)wanted;
    /* The character at the cut is incomplete unless the last bytes form one; look at the whole
     * tail. */
    size_t size = room - 1;
    for (size_t back = 1; back <= 3 && back <= size; back++) {
        unsigned char byte = (unsigned char)text[size - back];
        if ((byte & 0xC0) == 0x80)
            continue;
        if (byte >= 0xC0 && shove_utf8_character(text + size - back, back) == 0)
            size -= back;
        break;
    }
    text[size] = '\0';
    return size;
}

int shove_error_set(struct shove_error *error, int code, const char *format, ...) {
    if (error != NULL) {
        /* Formatted aside: an argument may be the error's own text. */
        char text[SHOVE_ERROR_TEXT_SIZE];
        va_list arguments;
        va_start(arguments, format);
        int wanted = vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        size_t size = trim(text, sizeof text, wanted);
        error->code = code;
        memcpy(error->text, text, size + 1);
    }
    return code;
}

int shove_error_prefix(struct shove_error *error, const char *format, ...) {
    if (error == NULL)
        return SHOVE_EINVAL;
    char text[SHOVE_ERROR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    size_t size = trim(text, sizeof text, wanted);
    wanted = snprintf(text + size, sizeof text - size, ": %s", error->text);
    size += trim(text + size, sizeof text - size, wanted);
    memcpy(error->text, text, size + 1);
    return error->code;
}

const char *shove_error_name(int code) {
    switch (code) {
    case SHOVE_OK:
        return "OK";
#define NAME_CASE(code, value, name, sentence)                                                     \
    case code:                                                                                     \
        return name;
        SHOVE_ERROR_TABLE(NAME_CASE)
#undef NAME_CASE
    default:
        return "EUNKNOWN";
    }
}

const char *shove_error_sentence(int code) {
    switch (code) {
    case SHOVE_OK:
        return "no error";
#define SENTENCE_CASE(code, value, name, sentence)                                                 \
    case code:                                                                                     \
        return sentence;
        SHOVE_ERROR_TABLE(SENTENCE_CASE)
#undef SENTENCE_CASE
    default:
        return "unknown error";
    }
}
