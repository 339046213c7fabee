/* json.c: see json.h. Worker only.
 *
 * One pass over the text, which makes Lua's values as it goes: most of what a small message costs
 * is making its values, and an index or a tree in between would cost as much again. The grammar is
 * RFC 8259's; UTF-8 is not looked at, as in lua-cjson.
 *
 * The one thing a single pass does not know is how large a table will be. Messages of a topic are
 * alike, so the n-th table of a text is made as large as the n-th of the text before it was.
 *
 * A function that reads something takes where it begins and gives where it ended, or NULL if it
 * leaves the text to cjson. Errors of Lua jump over these frames: nothing is owned by one. */
#include "worker/json.h"

#include <lauxlib.h>
#include <locale.h>
#include <lua.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Longer texts are cjson's, so that what a reader keeps for them is bounded. */
#define TEXT_MAX ((size_t)256 * 1024)
/* cjson's bound is 1,000: what is nested deeper than this is left to it. */
#define DEPTH_MAX 500
/* A table, a key and a value for each level. */
#define STACK_SLOTS 3
/* Longer numbers are cjson's. */
#define NUMBER_MAX 64
#define TABLES_KEPT 64
#define TABLE_SIZE_MAX 255

struct shove_json {
    locale_t locale; /* "C": a script may have set another */
    char *unescaped; /* TEXT_MAX bytes, made for the first escape */
    uint8_t table_sizes[TABLES_KEPT];
};

struct reader {
    lua_State *L;
    struct shove_json *json;
    const char *end;
    unsigned depth;
    unsigned tables; /* begun so far */
};

static const char *push_value(struct reader *reader, const char *at);

struct shove_json *shove_json_new(void) {
    struct shove_json *json = calloc(1, sizeof *json);
    if (json == NULL) {
        return NULL;
    }
    json->locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (json->locale == (locale_t)0) {
        free(json);
        return NULL;
    }
    return json;
}

void shove_json_free(struct shove_json *json) {
    if (json != NULL) {
        freelocale(json->locale);
        free(json->unescaped);
        free(json);
    }
}

static inline const char *skip_space(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) {
        at++;
    }
    return at;
}

static inline bool is_at(const char *at, const char *end, char c) {
    return at < end && *at == c;
}

static const char *push_word(struct reader *reader, const char *at, const char *word, size_t size) {
    if ((size_t)(reader->end - at) < size || memcmp(at, word, size) != 0) {
        return NULL;
    }
    if (word[0] == 'n') {
        lua_pushlightuserdata(reader->L, NULL);
    } else {
        lua_pushboolean(reader->L, word[0] == 't');
    }
    return at + size;
}

/* Numbers. */

/* Appends the digits at `at` to *number; rubbish if there are more than 19 in all. */
static inline const char *read_digits(const char *at, const char *end, uint64_t *number) {
    uint64_t value = *number;
    while (at < end && (unsigned)(*at - '0') <= 9) {
        value = value * 10 + (unsigned)(*at - '0');
        at++;
    }
    *number = value;
    return at;
}

static const char *read_exponent(const char *at, const char *end, int *exponent) {
    at++;
    bool is_negative = is_at(at, end, '-');
    at += is_negative || is_at(at, end, '+');
    uint64_t value = 0;
    const char *start = at;
    at = read_digits(start, end, &value);
    if (at == start || at - start > 3) {
        return NULL;
    }
    *exponent += is_negative ? -(int)value : (int)value;
    return at;
}

/* Digits up to 2^53 and a power of ten that a double holds exactly: one operation, rounded once, is
 * the nearest double (Clinger, "How to Read Floating Point Numbers Accurately", 1990, section 2).
 */
static inline bool to_double_quickly(uint64_t digits, int exponent, double *value) {
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (digits > (UINT64_C(1) << 53) || exponent < -22 || exponent > 22) {
        return false;
    }
    *value = exponent < 0 ? (double)digits / powers[-exponent] : (double)digits * powers[exponent];
    return true;
}

static bool to_double(struct reader *reader, const char *start, size_t size, double *value) {
    char text[NUMBER_MAX + 1];
    if (size > NUMBER_MAX) {
        return false;
    }
    memcpy(text, start, size);
    text[size] = '\0';
    *value = strtod_l(text, NULL, reader->json->locale);
    return isfinite(*value);
}

static const char *push_number(struct reader *reader, const char *start) {
    const char *end = reader->end;
    bool is_negative = *start == '-';
    const char *whole = start + is_negative;
    uint64_t digits = 0;
    const char *at = read_digits(whole, end, &digits);
    if (at == whole || (*whole == '0' && at > whole + 1)) {
        return NULL;
    }
    ptrdiff_t digit_count = at - whole;
    int exponent = 0;
    if (is_at(at, end, '.')) {
        const char *fraction = at + 1;
        at = read_digits(fraction, end, &digits);
        if (at == fraction) {
            return NULL;
        }
        digit_count += at - fraction;
        exponent = -(int)(at - fraction);
    }
    if (at < end && (*at | 0x20) == 'e' && (at = read_exponent(at, end, &exponent)) == NULL) {
        return NULL;
    }
    double value;
    if (digit_count <= 19 && to_double_quickly(digits, exponent, &value)) {
        value = is_negative ? -value : value;
    } else if (!to_double(reader, start, (size_t)(at - start), &value)) {
        return NULL;
    }
    lua_pushnumber(reader->L, value);
    return at;
}

/* Strings. */

/* Which of eight bytes are '"', '\\' or below ' ', each as the highest bit of its byte. It may mark
 * a byte above one that is right; the lowest mark is. */
static inline uint64_t marks(uint64_t bytes) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t quotes = bytes ^ ones * '"';
    const uint64_t backslashes = bytes ^ ones * '\\';
    const uint64_t found = ((quotes - ones) & ~quotes) | ((backslashes - ones) & ~backslashes) |
                           ((bytes - ones * ' ') & ~bytes);
    return found & ones * 0x80;
}

/* The first byte from `at` on that a string does not simply contain; `end` if there is none. */
static inline const char *skip_plain(const char *at, const char *end) {
    while (end - at >= 8) {
        uint64_t bytes;
        memcpy(&bytes, at, sizeof bytes);
        const uint64_t found = marks(bytes);
        if (found != 0) {
            return at + __builtin_ctzll(found) / 8; /* little-endian, as all that shove runs on */
        }
        at += 8;
    }
    while (at < end && *at != '"' && *at != '\\' && (unsigned char)*at >= ' ') {
        at++;
    }
    return at;
}

static const char *read_hex(const char *at, const char *end, uint32_t *unit) {
    if (end - at < 4) {
        return NULL;
    }
    *unit = 0;
    for (int i = 0; i < 4; i++) {
        unsigned digit = (unsigned)(at[i] - '0');
        if (digit > 9) {
            digit = (unsigned)((at[i] | 0x20) - 'a');
            if (digit > 5) {
                return NULL;
            }
            digit += 10;
        }
        *unit = *unit << 4 | digit;
    }
    return at + 4;
}

static char *write_utf8(char *to, uint32_t point) {
    if (point < 0x80) {
        *to++ = (char)point;
        return to;
    }
    if (point < 0x800) {
        *to++ = (char)(0xc0 | point >> 6);
    } else {
        if (point < 0x10000) {
            *to++ = (char)(0xe0 | point >> 12);
        } else {
            *to++ = (char)(0xf0 | point >> 18);
            *to++ = (char)(0x80 | (point >> 12 & 0x3f));
        }
        *to++ = (char)(0x80 | (point >> 6 & 0x3f));
    }
    *to++ = (char)(0x80 | (point & 0x3f));
    return to;
}

/* What follows \u; half of a surrogate pair alone is for cjson to refuse. */
static const char *read_unicode(const char *at, const char *end, char **to) {
    uint32_t point;
    at = read_hex(at, end, &point);
    if (at == NULL) {
        return NULL;
    }
    if (point >= 0xd800 && point <= 0xdfff) {
        uint32_t low;
        if (point > 0xdbff || !is_at(at, end, '\\') || !is_at(at + 1, end, 'u') ||
            (at = read_hex(at + 2, end, &low)) == NULL || low < 0xdc00 || low > 0xdfff) {
            return NULL;
        }
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
    }
    *to = write_utf8(*to, point);
    return at;
}

/* What follows a backslash. */
static const char *read_escape(const char *at, const char *end, char **to) {
    static const char names[] = "\"\\/bfnrt";
    static const char bytes[] = "\"\\/\b\f\n\r\t";
    if (at == end || *at == '\0') {
        return NULL;
    }
    if (*at == 'u') {
        return read_unicode(at + 1, end, to);
    }
    const char *name = strchr(names, *at);
    if (name == NULL) {
        return NULL;
    }
    *(*to)++ = bytes[name - names];
    return at + 1;
}

/* A string with an escape at `at`. What an escape stands for is never longer than the escape. */
static const char *push_escaped(struct reader *reader, const char *start, const char *at) {
    const char *end = reader->end;
    struct shove_json *json = reader->json;
    if (json->unescaped == NULL && (json->unescaped = malloc(TEXT_MAX)) == NULL) {
        return NULL;
    }
    char *to = json->unescaped;
    for (;;) {
        memcpy(to, start, (size_t)(at - start));
        to += at - start;
        if (is_at(at, end, '"')) {
            lua_pushlstring(reader->L, json->unescaped, (size_t)(to - json->unescaped));
            return at + 1;
        }
        if (!is_at(at, end, '\\')) {
            return NULL;
        }
        start = read_escape(at + 1, end, &to);
        if (start == NULL) {
            return NULL;
        }
        at = skip_plain(start, end);
    }
}

/* `start` is behind the quotation mark. */
static const char *push_string(struct reader *reader, const char *start) {
    const char *at = skip_plain(start, reader->end);
    if (!is_at(at, reader->end, '"')) {
        return push_escaped(reader, start, at);
    }
    lua_pushlstring(reader->L, start, (size_t)(at - start));
    return at + 1;
}

/* Tables. */

static const char *push_object(struct reader *reader, const char *at, unsigned *count) {
    const char *end = reader->end;
    do {
        at = skip_space(at + 1, end);
        if (!is_at(at, end, '"') || (at = push_string(reader, at + 1)) == NULL) {
            return NULL;
        }
        at = skip_space(at, end);
        if (!is_at(at, end, ':') || (at = push_value(reader, at + 1)) == NULL) {
            return NULL;
        }
        lua_rawset(reader->L, -3);
        ++*count;
        at = skip_space(at, end);
    } while (is_at(at, end, ','));
    return is_at(at, end, '}') ? at + 1 : NULL;
}

static const char *push_array(struct reader *reader, const char *at, unsigned *count) {
    const char *end = reader->end;
    do {
        at = push_value(reader, at + 1);
        if (at == NULL) {
            return NULL;
        }
        lua_rawseti(reader->L, -2, (int)++*count);
        at = skip_space(at, end);
    } while (is_at(at, end, ','));
    return is_at(at, end, ']') ? at + 1 : NULL;
}

static const char *push_table(struct reader *reader, const char *at) {
    lua_State *L = reader->L;
    if (++reader->depth > DEPTH_MAX || !lua_checkstack(L, STACK_SLOTS)) {
        return NULL;
    }
    bool is_object = *at == '{';
    uint8_t *size = &reader->json->table_sizes[reader->tables++ % TABLES_KEPT];
    unsigned count = 0;
    const char *inside = skip_space(at + 1, reader->end);
    if (is_at(inside, reader->end, is_object ? '}' : ']')) {
        lua_newtable(L);
        at = inside + 1;
    } else if (is_object) {
        lua_createtable(L, 0, *size);
        at = push_object(reader, at, &count);
    } else {
        lua_createtable(L, *size, 0);
        at = push_array(reader, at, &count);
    }
    *size = count < TABLE_SIZE_MAX ? (uint8_t)count : TABLE_SIZE_MAX;
    reader->depth--;
    return at;
}

static const char *push_value(struct reader *reader, const char *at) {
    at = skip_space(at, reader->end);
    if (at == reader->end) {
        return NULL;
    }
    switch (*at) {
    case '{':
    case '[':
        return push_table(reader, at);
    case '"':
        return push_string(reader, at + 1);
    case 't':
        return push_word(reader, at, "true", 4);
    case 'f':
        return push_word(reader, at, "false", 5);
    case 'n':
        return push_word(reader, at, "null", 4);
    default:
        return push_number(reader, at);
    }
}

bool shove_json_push(struct shove_json *json, lua_State *L, const char *text, size_t size) {
    if (size > TEXT_MAX) {
        return false;
    }
    struct reader reader = {.L = L, .json = json, .end = text + size};
    const int top = lua_gettop(L);
    const char *at = lua_checkstack(L, STACK_SLOTS) ? push_value(&reader, text) : NULL;
    if (at != NULL && skip_space(at, reader.end) == reader.end) {
        return true;
    }
    lua_settop(L, top);
    return false;
}
