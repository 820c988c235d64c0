/* SPDX-License-Identifier: Apache-2.0
 *
 * A set of (ino, note) in the order of their coming: what mailbox.c keeps of notes until they are
 * taken. The same one twice is kept once, so the set is bounded by the number of inos.
 *
 *      items:  | ino, note | ino, note | ...        count, room
 *      table:  hash -> index into items + 1         2 * room, open addressing
 *
 * Under the lock of whoever owns it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct note {
    uint64_t ino;
    uint32_t note;
};

struct notes {
    struct note *items;
    uint32_t *table;
    uint32_t count, room; /* room: 0 or a power of two */
    uint32_t taken;       /* of items, from the beginning */
};

/* False: there is no memory for one more. */
bool notes_add(struct notes *notes, uint64_t ino, uint32_t note);
/* The oldest that was not taken; false: none is left. */
bool notes_take(struct notes *notes, struct note *out);
void notes_clear(struct notes *notes);
void notes_free(struct notes *notes);

static inline uint32_t notes_left(const struct notes *notes)
{
    return notes->count - notes->taken;
}
