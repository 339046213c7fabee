/* log.c: log lines. Any process, any thread after setup.
 *
 * A line is built in a buffer on the caller's stack and leaves in one write(2), so lines of control
 * and its workers, which share one standard error, do not mix. Everything a line carries may come
 * from a message or a handler: control bytes are escaped (nobody drives a terminal through a log),
 * bytes that are not UTF-8 are shown as escapes in text and as U+FFFD in JSON, and what does not
 * fit is cut and marked "...", never the structure around it: `limit` keeps back the room that
 * closing quotes, braces and the line end will need.
 *
 * Nothing is allocated, so running out of memory can be logged. A reader that does not read (a full
 * pipe that somebody made non-blocking) costs at most a short wait, then the line.
 */
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/utf8.h"

#define LINE_MAX_BYTES 8192
#define VALUE_MAX_BYTES 4096 /* one field, as written: leaves room for others */
#define MESSAGE_MAX_BYTES 2048
#define NAME_MAX_BYTES 128
#define FIELD_LEAST_BYTES                                                                          \
    (NAME_MAX_BYTES + 64) /* with less room left, a field would be all name and mark */
#define PAIRS_MAX 32
#define WRITE_WAIT_MS 100

struct line {
    char text[LINE_MAX_BYTES];
    size_t size;
    size_t limit; /* what may be written so far; the rest is kept for closing */
};

enum escape_style { ESCAPE_BARE, ESCAPE_QUOTED, ESCAPE_JSON };

static struct {
    enum shove_log_format format;
    enum shove_log_level threshold;
    const char *source;
    bool is_terminal; /* and the format is AUTO */
    bool has_colours;
} settings = {SHOVE_LOG_AUTO, SHOVE_LOG_INFO, NULL, false, false};

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static const char *const level_colours[] = {"\033[2m", "\033[32m", "\033[33m", "\033[1;31m"};
static const char *const format_names[] = {"auto", "plain", "json"};

/* --- Building a line */

static bool put_bytes(struct line *line, const char *bytes, size_t size) {
    if (size > line->limit - line->size)
        return false;
    memcpy(line->text + line->size, bytes, size);
    line->size += size;
    return true;
}

static bool put(struct line *line, const char *text) {
    return put_bytes(line, text, strlen(text));
}

static void put_colour(struct line *line, const char *colour) {
    if (settings.has_colours)
        put(line, colour);
}

/* A control character as it may be shown; `out` holds 8 bytes. C1 controls (U+0080 to U+009F)
 * reach terminals too. */
static size_t escape_control(unsigned code, enum escape_style style, char *out) {
    switch (code) {
    case '\n':
        return (size_t)sprintf(out, "\\n");
    case '\t':
        return (size_t)sprintf(out, "\\t");
    case '\r':
        return (size_t)sprintf(out, "\\r");
    default:
        return (size_t)sprintf(out, style == ESCAPE_JSON ? "\\u%04x" : "\\x%02x", code & 0xFF);
    }
}

/* How the character at `text` is written; returns its size in `out` (8 bytes), and what was read
 * through `taken`. */
static size_t escape_character(const char *text, size_t size, enum escape_style style, char *out,
                               size_t *taken) {
    unsigned char first = (unsigned char)text[0];
    size_t length = shove_utf8_character(text, size);
    *taken = length > 0 ? length : 1;
    if (length == 0)
        return (size_t)sprintf(out, style == ESCAPE_JSON ? "\xEF\xBF\xBD" : "\\x%02x", first);
    if (length == 1 && (first < 0x20 || first == 0x7F))
        return escape_control(first, style, out);
    if (length == 2 && first == 0xC2 && (unsigned char)text[1] < 0xA0)
        return escape_control((unsigned char)text[1], style, out);
    size_t at = 0;
    if (style != ESCAPE_BARE && (first == '"' || first == '\\'))
        out[at++] = '\\';
    memcpy(out + at, text, length);
    return at + length;
}

/* Writes `text` escaped, at most `max_bytes` of output, ending in "..." when it was cut. */
static void put_escaped(struct line *line, const char *text, enum escape_style style,
                        size_t max_bytes) {
    static const char mark[] = "...";
    size_t room = line->limit - line->size;
    size_t budget = room < max_bytes ? room : max_bytes;
    size_t size = strlen(text);
    size_t start = line->size;
    size_t cut_at = start; /* the last place from which the mark still fits */
    while (size > 0) {
        char escaped[8];
        size_t taken;
        size_t width = escape_character(text, size, style, escaped, &taken);
        if (line->size - start + sizeof mark - 1 <= budget)
            cut_at = line->size;
        if (line->size - start + width > budget) {
            line->size = cut_at;
            if (sizeof mark - 1 <= budget)
                put(line, mark);
            return;
        }
        put_bytes(line, escaped, width);
        text += taken;
        size -= taken;
    }
}

/* --- Text lines */

/* Quotes are needed where a reader, or a program that splits on spaces, would otherwise not find
 * the end. */
static bool needs_quotes(const char *text) {
    if (text[0] == '\0')
        return true;
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte <= ' ' || byte >= 0x7F || byte == '"' || byte == '=' || byte == '\\')
            return true;
    }
    return false;
}

static void put_text_time(struct line *line, int64_t wall_ms) {
    char text[32];
    if (!settings.is_terminal) {
        shove_clock_format(wall_ms, text);
        put(line, text);
        return;
    }
    /* A person at a terminal reads his own clock. */
    time_t when = (time_t)(wall_ms / 1000);
    struct tm local;
    localtime_r(&when, &local);
    strftime(text, sizeof text, "%H:%M:%S", &local);
    put_colour(line, "\033[2m");
    put(line, text);
    put_colour(line, "\033[0m");
}

static void put_text_head(struct line *line, enum shove_log_level level, const char *message) {
    put_text_time(line, shove_clock_wall_ms());
    put(line, " ");
    put_colour(line, level_colours[level]);
    char name[8];
    snprintf(name, sizeof name, "%-5s", level_names[level]);
    put(line, name);
    put_colour(line, "\033[0m");
    put(line, " ");
    if (settings.source != NULL) {
        put_colour(line, "\033[2m");
        put_escaped(line, settings.source, ESCAPE_BARE, 64);
        put_colour(line, "\033[0m");
        put(line, ": ");
    }
    put_escaped(line, message, ESCAPE_BARE, MESSAGE_MAX_BYTES);
}

static void put_text_pair(struct line *line, const char *name, const char *value) {
    if (line->limit - line->size < FIELD_LEAST_BYTES)
        return;
    line->limit -= 1 + 4; /* closing quote, colour reset */
    put(line, "  ");
    put_colour(line, "\033[2m");
    put_escaped(line, name, ESCAPE_BARE, NAME_MAX_BYTES);
    put(line, "=");
    line->limit += 4;
    put_colour(line, "\033[0m");
    if (needs_quotes(value)) {
        put(line, "\"");
        put_escaped(line, value, ESCAPE_QUOTED, VALUE_MAX_BYTES);
        line->limit += 1;
        put(line, "\"");
    } else {
        line->limit += 1;
        put_escaped(line, value, ESCAPE_BARE, VALUE_MAX_BYTES);
    }
}

/* --- JSON lines */

static bool is_own_name(const char *name) {
    return strcmp(name, "time") == 0 || strcmp(name, "level") == 0 || strcmp(name, "source") == 0 ||
           strcmp(name, "message") == 0;
}

/* `,"name":"value"`; `suffix` is added to the name. */
static void put_json_pair(struct line *line, const char *name, const char *suffix,
                          const char *value, size_t max_bytes) {
    line->limit -= 1; /* the closing quote */
    put(line, line->size > 1 ? ",\"" : "\"");
    put_escaped(line, name, ESCAPE_JSON, NAME_MAX_BYTES);
    put(line, suffix);
    put(line, "\":\"");
    put_escaped(line, value, ESCAPE_JSON, max_bytes);
    line->limit += 1;
    put(line, "\"");
}

/* A field may not stand in for one of the line's own: an underscore tells them apart. */
static void put_json_field(struct line *line, const char *name, const char *value) {
    if (line->limit - line->size < FIELD_LEAST_BYTES)
        return;
    put_json_pair(line, name, is_own_name(name) ? "_" : "", value, VALUE_MAX_BYTES);
}

static void put_json_head(struct line *line, enum shove_log_level level, const char *message) {
    char time_text[25];
    shove_clock_format(shove_clock_wall_ms(), time_text);
    put(line, "{");
    put_json_pair(line, "time", "", time_text, sizeof time_text);
    put_json_pair(line, "level", "", level_names[level], 8);
    if (settings.source != NULL)
        put_json_pair(line, "source", "", settings.source, 64);
    put_json_pair(line, "message", "", message, MESSAGE_MAX_BYTES);
}

/* --- Leaving */

static void write_line(const char *text, size_t size) {
    while (size > 0) {
        ssize_t written = write(STDERR_FILENO, text, size);
        if (written >= 0) {
            text += written;
            size -= (size_t)written;
            continue;
        }
        if (errno == EINTR)
            continue;
        struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
        if (errno != EAGAIN || poll(&ready, 1, WRITE_WAIT_MS) <= 0)
            return;
    }
}

void shove_log_pairs(enum shove_log_level level, const char *message, const char *const *names,
                     const char *const *values, unsigned count) {
    if (!shove_log_is_on(level))
        return;
    if (level > SHOVE_LOG_ERROR)
        level = SHOVE_LOG_ERROR;
    int saved_errno = errno;
    bool is_json = settings.format == SHOVE_LOG_JSON;
    struct line line = {.limit = LINE_MAX_BYTES - 2}; /* "}" and the line end */
    if (is_json)
        put_json_head(&line, level, message);
    else
        put_text_head(&line, level, message);
    for (unsigned i = 0; i < count; i++) {
        const char *value = values[i] != NULL ? values[i] : "";
        if (is_json)
            put_json_field(&line, names[i], value);
        else
            put_text_pair(&line, names[i], value);
    }
    line.limit = LINE_MAX_BYTES;
    put(&line, is_json ? "}\n" : "\n");
    write_line(line.text, line.size);
    errno = saved_errno;
}

void shove_log_fields(enum shove_log_level level, const char *message, ...) {
    if (!shove_log_is_on(level))
        return;
    const char *names[PAIRS_MAX];
    const char *values[PAIRS_MAX];
    unsigned count = 0;
    va_list arguments;
    va_start(arguments, message);
    while (count < PAIRS_MAX) {
        names[count] = va_arg(arguments, const char *);
        if (names[count] == NULL)
            break;
        values[count] = va_arg(arguments, const char *);
        count++;
    }
    va_end(arguments);
    shove_log_pairs(level, message, names, values, count);
}

void shove_log(enum shove_log_level level, const char *format, ...) {
    if (!shove_log_is_on(level))
        return;
    int saved_errno = errno;
    char message[MESSAGE_MAX_BYTES + 64]; /* more than is shown, so that the cut is marked */
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    errno = saved_errno;
    shove_log_pairs(level, wanted < 0 ? format : message, NULL, NULL, 0);
}

/* --- Setup */

void shove_log_setup(enum shove_log_format format, enum shove_log_level threshold,
                     const char *source) {
    const char *no_color = getenv("NO_COLOR");
    const char *terminal = getenv("TERM");
    settings.format = format;
    settings.threshold = threshold;
    settings.source = source;
    settings.is_terminal = format == SHOVE_LOG_AUTO && isatty(STDERR_FILENO);
    settings.has_colours = settings.is_terminal && (no_color == NULL || no_color[0] == '\0') &&
                           (terminal == NULL || strcmp(terminal, "dumb") != 0);
    tzset();
}

const char *shove_log_format_name(void) {
    return format_names[settings.format];
}

int shove_log_format_parse(const char *name, enum shove_log_format *out) {
    for (unsigned i = 0; i < sizeof format_names / sizeof format_names[0]; i++) {
        if (strcmp(name, format_names[i]) == 0) {
            *out = (enum shove_log_format)i;
            return 0;
        }
    }
    return SHOVE_EINVAL;
}

bool shove_log_is_on(enum shove_log_level level) {
    return level >= settings.threshold;
}
