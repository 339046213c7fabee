/* report.c: how a command says that it failed, and the exit code that goes with it. Cli. */
#include "cli/report.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/log.h"
#include "base/utf8.h"
#include "control/exit_code.h"

size_t shove_report_bytes(FILE *out, const void *bytes, size_t size, size_t max_chars,
                          int keeps_lines) {
    const char *at = bytes;
    const char *end = at + size;
    size_t columns = 0;
    while (at < end) {
        if (columns >= max_chars) {
            fputs("...", out);
            return columns + 3;
        }
        unsigned char first = (unsigned char)*at;
        size_t length = shove_utf8_character(at, (size_t)(end - at));
        bool is_control = length == 1 && (first < 0x20 || first == 0x7F);
        bool is_c1 = length == 2 && first == 0xC2 && (unsigned char)at[1] < 0xA0;
        if (is_control && keeps_lines && (first == '\n' || first == '\t')) {
            fputc(first, out);
            columns++;
        } else if (length == 0 || is_control || is_c1) {
            columns += (size_t)fprintf(out, "\\x%02x", is_c1 ? (unsigned char)at[1] : first);
        } else {
            fwrite(at, 1, length, out);
            columns++;
        }
        at += length > 0 ? length : 1;
    }
    return columns;
}

static void print_failure(const char *text) {
    if (strcmp(shove_log_format_name(), "json") == 0) {
        shove_log_fields(SHOVE_LOG_ERROR, text, NULL);
        return;
    }
    fflush(stdout);
    fputs("shove: ", stderr);
    shove_report_bytes(stderr, text, strlen(text), SIZE_MAX, 1);
    fputc('\n', stderr);
}

int shove_report(int exit_code, const char *format, ...) {
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    print_failure(text);
    return exit_code;
}

int shove_report_error(const struct shove_error *error) {
    print_failure(error->text);
    return shove_exit_code_for(error->code);
}

int shove_report_stop(const struct shove_error *error) {
    bool is_away = error->code == SHOVE_EUNREACHABLE || error->code == SHOVE_ETIMEOUT;
    print_failure(error->text);
    if (error->code == SHOVE_ECONFIG)
        return SHOVE_EXIT_CONFIG;
    return is_away ? SHOVE_EXIT_UNAVAILABLE : SHOVE_EXIT_FAILURE;
}
