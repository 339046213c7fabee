/* groups.c: see groups.h. Control only, loop's thread. */
#include "control/groups.h"

#include <stdlib.h>
#include <string.h>

#include "control/status.h"

/* False: out of memory. */
static bool refresh(struct shove_control *control) {
    if (control->groups_text && control->now_ms - control->groups_text_ms < SHOVE_GROUPS_FRESH_MS)
        return true;
    shove_groups_release(control);
    json_t *groups = shove_status_groups(control);
    control->groups_text = groups ? json_dumps(groups, JSON_COMPACT) : NULL;
    json_decref(groups);
    if (!control->groups_text)
        return false;
    control->groups_text_size = strlen(control->groups_text);
    control->groups_text_ms = control->now_ms;
    return true;
}

static void give_back(struct shove_worker *worker) {
    if (worker->groups_block != SHOVE_ARENA_NONE)
        shove_arena_give(worker->home->arena, worker->groups_block);
    worker->groups_block = SHOVE_ARENA_NONE;
}

void shove_groups_answer(struct shove_worker *worker) {
    struct shove_control *control = worker->control;
    struct shove_home *home = worker->home;
    if (!worker->wants_groups || shove_channel_submit_room(home->channel) == 0 || !refresh(control))
        return;
    give_back(worker);
    worker->groups_block = shove_arena_take(home->arena, control->groups_text_size);
    if (worker->groups_block == SHOVE_ARENA_NONE)
        return;
    memcpy(home->bytes + worker->groups_block, control->groups_text, control->groups_text_size);
    worker->wants_groups = !shove_channel_submit(
        home->channel, &(struct shove_submit){.type = SHOVE_SUBMIT_GROUPS,
                                              .generation = (uint32_t)control->groups_text_size,
                                              .arena_offset = worker->groups_block});
    shove_channel_flush(home->channel);
}

void shove_groups_forget_worker(struct shove_worker *worker) {
    give_back(worker);
    worker->wants_groups = false;
}

void shove_groups_release(struct shove_control *control) {
    free(control->groups_text);
    control->groups_text = NULL;
}
