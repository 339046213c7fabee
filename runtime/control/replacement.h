/* replacement.h: what becomes of an app that has no worker left, because those that are started in
 * the place of one that died or was spent do not come as far as taking messages. Control only.
 *
 * It is what happens when the script on disk is broken while the app still runs what it loaded
 * before: after a reload that failed, say. Nothing is handled then. They are tried again and again,
 * so that a mistake that is mended within a minute costs no more than that minute; after that the
 * app drains, because who watches over it can do more than an app that waits for ever. What it had
 * is in the broker.
 */
#ifndef SHOVE_CONTROL_REPLACEMENT_H
#define SHOVE_CONTROL_REPLACEMENT_H

#include "control/state.h"

/* Some worker takes messages. */
bool shove_replacement_is_staffed(const struct shove_control *control);

/* It has said that it cannot load the script, and will end. */
void shove_replacement_refused(struct shove_worker *worker, const char *text, size_t size);

/* Why no worker comes up, where none does. */
void shove_replacement_note(struct shove_control *control, const char *text, size_t size);

/* It has ended, or could not be started; its state is still that of before. */
void shove_replacement_ended(const struct shove_worker *worker);

/* Gives up when it is time to; called a few times a second. */
void shove_replacement_watch(struct shove_control *control);

void shove_replacement_release(struct shove_control *control);

#endif
