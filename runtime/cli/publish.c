/* publish.c: sending messages, and what became of them. Cli. */
#include "cli/publish.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/lines.h"
#include "cli/report.h"
#include "core/hop_headers.h"

#define TURN_EVERY 256u /* messages between two looks at the loop */
#define PROGRESS_MS 1000
#define JSON_FLAGS (JSON_DECODE_ANY | JSON_ALLOW_NUL)

/* --- Answers */

void shove_publish_produced(void *ctx, const struct shove_produced *result) {
    struct shove_publishing *publishing = ctx;
    uint64_t number = (uint64_t)(uintptr_t)result->opaque;
    if (result->code == 0) {
        if (publishing->acknowledged < SHOVE_PUBLISH_FEW)
            publishing->few[publishing->acknowledged] =
                (struct shove_acknowledgement){number, result->partition, result->offset};
        publishing->acknowledged++;
        return;
    }
    if (publishing->refused++ == 0 || number < publishing->refused_number) {
        publishing->refused_number = number;
        shove_error_set(&publishing->stop, result->code, "%s %" PRIu64 " was not acknowledged: %s",
                        publishing->word, number, shove_client_refusal(result));
    }
}

static void show_progress(struct shove_publishing *publishing) {
    int64_t now_ms = shove_clock_mono_ms();
    if (publishing->is_quiet || now_ms - publishing->progress_ms < PROGRESS_MS ||
        !isatty(STDERR_FILENO))
        return;
    publishing->progress_ms = now_ms;
    publishing->has_progress_line = true;
    fprintf(stderr, "\rsent %" PRIu64 ", acknowledged %" PRIu64 " ", publishing->sent,
            publishing->acknowledged);
}

static void clear_progress(struct shove_publishing *publishing) {
    if (publishing->has_progress_line)
        fputs("\r\033[K", stderr);
}

/* --- Sending */

static int refuse_json(const struct shove_publishing *publishing, uint64_t number,
                       const uint8_t *body, size_t size, const json_error_t *why,
                       struct shove_error *error) {
    if (body != NULL && size >= 3 && memcmp(body, "\xEF\xBB\xBF", 3) == 0)
        return shove_error_set(error, SHOVE_EINVAL,
                               "%s %" PRIu64 " begins with a byte order mark, which is no JSON: "
                               "save the file without it (--raw sends bytes as they are)",
                               publishing->word, number);
    return shove_error_set(error, SHOVE_EINVAL,
                           "%s %" PRIu64 " is not valid JSON, column %d: %s (--raw sends bytes "
                           "as they are)",
                           publishing->word, number, why->column, why->text);
}

static int check_body(const struct shove_publishing *publishing, uint64_t number,
                      const uint8_t *body, size_t size, struct shove_error *error) {
    if (size > publishing->most_bytes)
        return shove_error_set(error, SHOVE_ETOOLARGE,
                               "%s %" PRIu64 " is larger than %zu bytes, the most that a consumer "
                               "of '%s' takes (max_message_size)",
                               publishing->word, number, publishing->most_bytes, publishing->topic);
    if (!publishing->checks_json)
        return 0;
    json_error_t why;
    json_t *value = json_loadb((const char *)body, size, JSON_FLAGS, &why);
    /* Integers beyond 64 bits are valid too; as reals they pass, but reals take longer to read. */
    if (value == NULL && json_error_code(&why) == json_error_numeric_overflow)
        value = json_loadb((const char *)body, size, JSON_FLAGS | JSON_DECODE_INT_AS_REAL, &why);
    if (value == NULL)
        return refuse_json(publishing, number, body, size, &why, error);
    json_decref(value);
    return 0;
}

static int build_headers(struct shove_publishing *publishing) {
    char id[SHOVE_UUID_SIZE + 1];
    shove_uuid_next(&publishing->ids, shove_clock_wall_ms(), id);
    struct shove_hop_info info;
    shove_hop_info_init(&info);
    info.message_id = (struct shove_text){id, SHOVE_UUID_SIZE};
    publishing->headers.size = publishing->user_headers_size;
    shove_hop_headers_append(&publishing->headers, &info);
    if (publishing->headers.is_failed)
        return shove_error_set(&publishing->stop, SHOVE_ENOMEM, "out of memory building headers");
    return 0;
}

/* Lets answers in; false when the input should not go on. */
static bool goes_on(struct shove_publishing *publishing) {
    if (publishing->sent % TURN_EVERY == 0) {
        shove_client_turn(&publishing->client);
        show_progress(publishing);
    }
    if (publishing->client.is_interrupted && publishing->stop.code == 0)
        shove_error_set(&publishing->stop, SHOVE_ECLOSED, "interrupted");
    return publishing->stop.code == 0;
}

/* What sends returns 0, or a code with publishing->stop set when the input should not go on. */
static int send_record(struct shove_publishing *publishing, const struct shove_keyed *message) {
    int code = build_headers(publishing);
    if (code != 0)
        return code;
    struct shove_produce what = {
        .topic = publishing->topic,
        .partition = publishing->partition,
        .record = {.key = message->key,
                   .key_size = message->key_size,
                   .payload = message->body,
                   .payload_size = message->body_size,
                   .headers = publishing->headers.data,
                   .headers_size = publishing->headers.size,
                   .timestamp_ms = -1,
                   .offset = -1},
        .opaque = (void *)(uintptr_t)message->number,
    };
    struct shove_error error;
    code = shove_client_produce(&publishing->client, &what, &error);
    if (code == SHOVE_ECLOSED || code == SHOVE_ETIMEOUT)
        return shove_error_set(&publishing->stop, code, "%s", error.text);
    if (code != 0)
        return shove_error_set(&publishing->stop, code, "%s %" PRIu64 " was refused: %s",
                               publishing->word, message->number, error.text);
    publishing->sent++;
    return goes_on(publishing) ? 0 : publishing->stop.code;
}

/* Everything whose key is asked for. */
static int send_keyed(struct shove_publishing *publishing) {
    struct shove_keys *keys = publishing->keys;
    struct shove_keyed message;
    struct shove_error error;
    int found = 0;
    while (keys != NULL && (found = shove_keys_next(keys, &message, &error)) == 1) {
        int code = send_record(publishing, &message);
        if (code != 0)
            return code;
    }
    if (found == SHOVE_ECLOSED || (found < 0 && !keys->is_loaded))
        publishing->stop = error;
    else if (found < 0)
        shove_error_set(&publishing->stop, found, "%s %" PRIu64 ": %s", publishing->word,
                        message.number, error.text);
    return found;
}

/* Sends it, or has its key computed: then send_keyed sends it. */
static int send_message(struct shove_publishing *publishing, uint64_t number, const uint8_t *body,
                        size_t size) {
    struct shove_error error;
    if (check_body(publishing, number, body, size, &error) != 0) {
        int code = send_keyed(publishing);
        if (code == 0)
            publishing->stop = error;
        return publishing->stop.code;
    }
    if (publishing->keys == NULL) {
        const char *key = publishing->key;
        const struct shove_keyed message = {number, body, size, (const uint8_t *)key,
                                            key != NULL ? strlen(key) : 0};
        return send_record(publishing, &message);
    }
    if (shove_keys_add(publishing->keys, number, body, size))
        return 0;
    int code = send_keyed(publishing);
    if (code == 0)
        shove_keys_add(publishing->keys, number, body, size); /* it has all the room now */
    return code;
}

void shove_publish_arguments(struct shove_publishing *publishing, char **bodies, int count) {
    for (int i = 0; i < count; i++) {
        if (send_message(publishing, (uint64_t)i + 1, (const uint8_t *)bodies[i],
                         strlen(bodies[i])) != 0)
            return;
    }
    send_keyed(publishing);
}

/* Nothing but JSON's white space: also what an empty line is in a file with "\r\n". */
static bool is_blank(const uint8_t *line, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
            return false;
    }
    return true;
}

/* Everything in the buffer. */
static int send_lines(struct shove_publishing *publishing, struct shove_lines *lines) {
    const uint8_t *line;
    size_t size;
    int found;
    while ((found = shove_lines_next(lines, &line, &size)) == 1) {
        if (publishing->skips_empty && is_blank(line, size)) {
            publishing->skipped++;
            continue;
        }
        int code = send_message(publishing, lines->number, line, size);
        if (code != 0)
            return code;
    }
    if (found < 0)
        return send_message(publishing, lines->number, NULL, publishing->most_bytes + 1);
    return send_keyed(publishing);
}

void shove_publish_input(struct shove_publishing *publishing) {
    struct shove_lines lines;
    if (shove_lines_init(&lines, STDIN_FILENO, publishing->most_bytes, &publishing->stop) != 0)
        return;
    if (isatty(STDIN_FILENO) && !publishing->is_quiet)
        fputs("reading one message per line from the terminal; Ctrl-D ends\n", stderr);
    while (send_lines(publishing, &lines) == 0 && !lines.is_at_end) {
        if (shove_client_wait_input(&publishing->client, STDIN_FILENO, &publishing->stop) != 0 ||
            shove_lines_fill(&lines, &publishing->stop) != 0)
            break;
        if (!goes_on(publishing))
            break;
    }
    shove_lines_release(&lines);
}

/* --- The end */

static int by_number(const void *a, const void *b) {
    const struct shove_acknowledgement *left = a;
    const struct shove_acknowledgement *right = b;
    return left->number < right->number ? -1 : left->number > right->number;
}

static void print_acknowledged(struct shove_publishing *publishing) {
    uint64_t count = publishing->acknowledged;
    double seconds = (double)(shove_clock_mono_ms() - publishing->started_ms) / 1000.0;
    printf("acknowledged %" PRIu64 " message%s to %s", count, count == 1 ? "" : "s",
           publishing->topic);
    if (count > SHOVE_PUBLISH_FEW)
        printf(" in %.2f s (%.0f/s)", seconds, (double)count / (seconds > 0.001 ? seconds : 0.001));
    else if (count > 0) {
        qsort(publishing->few, count, sizeof *publishing->few, by_number);
        for (uint64_t i = 0; i < count; i++)
            printf("%s partition %d offset %lld", i == 0 ? ":" : ",", publishing->few[i].partition,
                   (long long)publishing->few[i].offset);
    }
    if (publishing->skipped > 0)
        printf("; %" PRIu64 " empty line%s skipped", publishing->skipped,
               publishing->skipped == 1 ? "" : "s");
    putchar('\n');
}

int shove_publish_finish(struct shove_publishing *publishing) {
    struct shove_error error;
    int code = shove_client_settle(&publishing->client, 0, &error);
    if (code != 0 && publishing->stop.code == 0)
        publishing->stop = error;
    clear_progress(publishing);
    if (!publishing->is_quiet)
        print_acknowledged(publishing);
    if (publishing->stop.code == 0)
        return 0;
    uint64_t open = publishing->sent - publishing->acknowledged;
    if (publishing->sent == 0)
        shove_error_set(&error, publishing->stop.code, "%s; nothing was published",
                        publishing->stop.text);
    else if (open > 0)
        shove_error_set(&error, publishing->stop.code,
                        "%s; stopped there: %" PRIu64 " sent, %" PRIu64 " acknowledged",
                        publishing->stop.text, publishing->sent, publishing->acknowledged);
    else
        shove_error_set(&error, publishing->stop.code,
                        "%s; stopped there: all %" PRIu64 " sent before are acknowledged",
                        publishing->stop.text, publishing->sent);
    return shove_report_stop(&error);
}
