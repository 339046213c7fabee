/* values.c: the texts a person gives for durations, sizes, times and numbers. Cli. Pure. */
#include "cli/values.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct unit {
    const char *name;
    double factor;
};

static const struct unit duration_units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60e3}, {"h", 3600e3}, {"", 1000}};
static const struct unit size_units[] = {{"KiB", 1024.0},
                                         {"MiB", 1048576.0},
                                         {"GiB", 1073741824.0},
                                         {"kB", 1e3},
                                         {"MB", 1e6},
                                         {"GB", 1e9},
                                         {"B", 1},
                                         {"", 1}};

/* A plain decimal number and one of the units. strtod alone would take "inf", "0x10" and " 5". */
static bool parse_quantity(const char *text, const struct unit *units, size_t unit_count,
                           double *out) {
    size_t digits = strspn(text, "0123456789.");
    if (digits == 0 || !isdigit((unsigned char)text[0]))
        return false;
    char *end;
    double number = strtod(text, &end);
    if (end != text + digits)
        return false;
    for (size_t i = 0; i < unit_count; i++) {
        if (strcmp(end, units[i].name) == 0) {
            *out = number * units[i].factor;
            return true;
        }
    }
    return false;
}

int shove_value_duration(const char *text, int64_t *out_ms, struct shove_error *error) {
    static const double most_ms = 100.0 * 365 * 24 * 3600e3;
    double value;
    if (!parse_quantity(text, duration_units, sizeof duration_units / sizeof *duration_units,
                        &value) ||
        value > most_ms)
        return shove_error_set(error, SHOVE_EUSAGE,
                               "'%s' is no duration: give \"500ms\", \"5s\", \"5m\", \"1h\" or a "
                               "number of seconds",
                               text);
    *out_ms = (int64_t)(value + 0.5);
    return 0;
}

int shove_value_size(const char *text, int64_t *out_bytes, struct shove_error *error) {
    double value;
    if (!parse_quantity(text, size_units, sizeof size_units / sizeof *size_units, &value) ||
        value > 1e18)
        return shove_error_set(error, SHOVE_EUSAGE,
                               "'%s' is no size: give \"512MiB\", \"2GiB\" or a number of bytes",
                               text);
    *out_bytes = (int64_t)(value + 0.5);
    return 0;
}

int shove_value_number(const char *text, int64_t least, int64_t most, int64_t *out,
                       struct shove_error *error) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    bool is_number = errno == 0 && end != text && *end == '\0' && !isspace((unsigned char)*text);
    if (is_number && value >= least && value <= most) {
        *out = value;
        return 0;
    }
    if (most == INT64_MAX || most == INT32_MAX)
        return shove_error_set(error, SHOVE_EUSAGE, "'%s' must be a whole number, at least %lld",
                               text, (long long)least);
    return shove_error_set(error, SHOVE_EUSAGE, "'%s' must be a whole number from %lld to %lld",
                           text, (long long)least, (long long)most);
}

/* "Z" or "+02:00"; what is left is NULL when it is neither. */
static const char *parse_zone(const char *text, int64_t *offset_ms) {
    if (*text == 'Z' || *text == 'z') {
        *offset_ms = 0;
        return text + 1;
    }
    if ((*text != '+' && *text != '-') || !isdigit((unsigned char)text[1]) ||
        !isdigit((unsigned char)text[2]) || text[3] != ':' || !isdigit((unsigned char)text[4]) ||
        !isdigit((unsigned char)text[5]))
        return NULL;
    int hours = (text[1] - '0') * 10 + (text[2] - '0');
    int minutes = (text[4] - '0') * 10 + (text[5] - '0');
    *offset_ms = (hours * 60 + minutes) * INT64_C(60000) * (*text == '-' ? -1 : 1);
    return hours > 23 || minutes > 59 ? NULL : text + 6;
}

static const char *parse_fraction(const char *text, int64_t *out_ms) {
    *out_ms = 0;
    if (*text != '.')
        return text;
    int64_t scale = 100;
    for (text++; isdigit((unsigned char)*text); text++, scale /= 10)
        *out_ms += (*text - '0') * scale;
    return text;
}

/* timegm takes the 31st of April for the 1st of May. */
static bool is_in_calendar(struct tm when) {
    int day = when.tm_mday;
    timegm(&when);
    return when.tm_mday == day;
}

static bool parse_rfc3339(const char *text, int64_t *out_ms) {
    struct tm when = {0};
    int64_t fraction_ms = 0;
    int64_t zone_ms = 0;
    const char *rest = strptime(text, "%Y-%m-%d", &when);
    if (rest == NULL || !is_in_calendar(when))
        return false;
    if (*rest == 'T' || *rest == 't' || *rest == ' ') {
        rest = strptime(rest + 1, "%H:%M:%S", &when);
        if (rest == NULL)
            return false;
        rest = parse_zone(parse_fraction(rest, &fraction_ms), &zone_ms);
    }
    if (rest == NULL || *rest != '\0')
        return false;
    *out_ms = (int64_t)timegm(&when) * 1000 + fraction_ms - zone_ms;
    return true;
}

int shove_value_moment(const char *text, int64_t now_ms, int64_t *out_ms,
                       struct shove_error *error) {
    int64_t ago_ms = 0;
    if (shove_value_duration(text, &ago_ms, NULL) == 0) {
        *out_ms = now_ms - ago_ms;
        return 0;
    }
    if (parse_rfc3339(text, out_ms))
        return 0;
    return shove_error_set(error, SHOVE_EUSAGE,
                           "'%s' is no moment: give how long ago (\"90s\", \"2h\") or a time like "
                           "2026-01-31T12:00:00Z",
                           text);
}
