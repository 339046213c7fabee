/* delivery.h: one message from the moment it is taken until it is closed. Control only. */
#ifndef SHOVE_CONTROL_DELIVERY_H
#define SHOVE_CONTROL_DELIVERY_H

#include "control/state.h"
#include "core/hop_headers.h"

/* From a pool; NULL when out of memory. The ledger entry is not linked. */
struct shove_delivery *shove_delivery_new(struct shove_control *control,
                                          struct shove_partition *partition);

/* Gives back the bytes and the struct. The ledger entry must be closed or abandoned. takes. */
void shove_delivery_free(struct shove_control *control, struct shove_delivery *delivery);

/* True, and nothing more happens to it in this epoch, when its partition is being given up: it
 * stays open for the next owner. */
bool shove_delivery_shelve_if_revoking(struct shove_delivery *delivery);

/* Closes the slot (an orphan has none) and frees the delivery. Step 7 of a message's life. takes.
 */
void shove_delivery_close(struct shove_control *control, struct shove_delivery *delivery);

/* A record with what shove's own headers say of it, as read from a partition. */
struct shove_incoming {
    const struct shove_record *record;
    struct shove_hop_info info;
    size_t original_headers_size; /* prefix of record->headers */
    struct shove_buffer *death;   /* JSON for a dead-letter handler; NULL: none */
};

size_t shove_delivery_size_bytes(const struct shove_incoming *incoming);

/* Writes envelope and parts to `out`, which holds shove_delivery_size_bytes. */
void shove_delivery_write(const struct shove_delivery *delivery,
                          const struct shove_incoming *incoming, uint8_t *out);

/* Gives it memory of its own, written as above. 0 or SHOVE_ENOMEM. */
int shove_delivery_keep(struct shove_delivery *delivery, const struct shove_incoming *incoming);

/* What a delivery whose bytes were written takes in memory, itself and in arena or heap. */
size_t shove_delivery_held_bytes(const struct shove_delivery *delivery);

/* The envelope of a delivery whose bytes were written (arena or heap). Borrows. */
const struct shove_envelope *shove_delivery_envelope(const struct shove_delivery *delivery);

/* The parts behind an envelope, as a record (borrows; originals only in `headers`) and the message
 * id. */
void shove_envelope_parts(const struct shove_envelope *envelope, struct shove_record *record,
                          struct shove_text *id);

/* The message as it was taken, its own headers only. Borrows the bytes, which were written. */
struct shove_record shove_delivery_record(const struct shove_delivery *delivery);

/* "orders/3@1042": how log lines name a message, by its source position. Returns `out`. */
#define SHOVE_PLACE_SIZE 320
const char *shove_delivery_place(const struct shove_delivery *delivery, char out[SHOVE_PLACE_SIZE]);

/* Of envelope and parts together. */
size_t shove_envelope_size_bytes(const struct shove_envelope *envelope);

/* Moves the bytes out of the arena into memory of their own, so that they do not hold arena room. 0
 * or SHOVE_ENOMEM. */
int shove_delivery_detach(struct shove_delivery *delivery);

/* Gives back the arena block or heap block, and the home when it was the last of a retired one. */
void shove_delivery_drop_bytes(struct shove_delivery *delivery);
void shove_home_release_if_idle(struct shove_home *home);

void shove_delivery_pool_release(struct shove_control *control);

#endif
