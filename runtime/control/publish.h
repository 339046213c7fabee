/* publish.h: publishes of handlers: asked by a worker, done by control's producer, answered when
 * acknowledged. */
#ifndef SHOVE_CONTROL_PUBLISH_H
#define SHOVE_CONTROL_PUBLISH_H

#include "control/state.h"

/* A NOTE_PUBLISH. 0 when it is answered sooner or later, be it with a refusal; SHOVE_ECORRUPT when
 * its sizes do not add up, SHOVE_EBACKLOG when the worker does not look at what it is answered. */
int shove_publish_asked(struct shove_worker *worker, const struct shove_note *note,
                        const uint8_t *payload);

/* True: no notes are to be read for now, since so much waits for a transport that makes progress.
 */
bool shove_publish_waits(const struct shove_control *control);

/* The transport's answer. */
void shove_publish_answered(struct shove_control *control, struct shove_publish_request *request,
                            int code);

/* Offers what the transport had no room for. */
void shove_publish_round(struct shove_control *control);

/* Delivers answers that found the submit ring full. */
void shove_publish_answer_waiting(struct shove_worker *worker);

/* The worker died: nobody waits for its answers. */
void shove_publish_forget_worker(struct shove_worker *worker);

#endif
