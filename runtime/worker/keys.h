/* keys.h: the keys of messages that `shove publish` is about to send, by the key function of their
 * topic. Worker only.
 */
#ifndef SHOVE_WORKER_KEYS_H
#define SHOVE_WORKER_KEYS_H

#include "ipc/channel.h"
#include "worker/host.h"

/* Answers a SHOVE_SUBMIT_KEYS with a SHOVE_NOTE_KEY for each of its bodies. */
void shove_keys_answer(struct shove_host *host, const struct shove_submit *entry);

#endif
