/* SPDX-License-Identifier: Apache-2.0 */
#include "notes.h"

#include <stdlib.h>
#include <string.h>

enum { ROOM_MIN = 64, ROOM_KEPT = 4096 };

/* Where in the table an item is, or belongs. There is always an empty place: room is half of it. */
static uint32_t *place(const struct notes *notes, uint64_t ino, uint32_t note)
{
    uint64_t hash = (ino ^ (uint64_t)note << 40) * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t mask = 2 * notes->room - 1;
    uint32_t at = (uint32_t)(hash >> 32) & mask;

    while (notes->table[at]) {
        const struct note *there = &notes->items[notes->table[at] - 1];

        if (there->ino == ino && there->note == note)
            break;
        at = (at + 1) & mask;
    }
    return &notes->table[at];
}

static bool grow(struct notes *notes)
{
    uint32_t room = notes->room ? 2 * notes->room : ROOM_MIN;
    struct note *items = realloc(notes->items, room * sizeof(*items));
    uint32_t *table;

    if (!items)
        return false;
    notes->items = items; /* larger than needed, should the table fail */
    table = calloc(2 * (size_t)room, sizeof(*table));
    if (!table)
        return false;
    free(notes->table);
    notes->table = table;
    notes->room = room;
    for (uint32_t i = 0; i < notes->count; i++)
        *place(notes, items[i].ino, items[i].note) = i + 1;
    return true;
}

bool notes_add(struct notes *notes, uint64_t ino, uint32_t note)
{
    uint32_t *at = NULL;

    if (notes->room > 0) {
        at = place(notes, ino, note);
        if (*at > notes->taken)
            return true;
    }
    if (notes->count == notes->room) {
        if (!grow(notes))
            return false;
        at = place(notes, ino, note);
    }
    notes->items[notes->count] = (struct note){.ino = ino, .note = note};
    *at = ++notes->count;
    return true;
}

bool notes_take(struct notes *notes, struct note *out)
{
    if (notes->taken == notes->count)
        return false;
    *out = notes->items[notes->taken++];
    return true;
}

void notes_clear(struct notes *notes)
{
    /* Memory that one flood took is given back. */
    if (notes->room > ROOM_KEPT)
        notes_free(notes);
    else if (notes->count > 0)
        memset(notes->table, 0, 2 * (size_t)notes->room * sizeof(*notes->table));
    notes->count = notes->taken = 0;
}

void notes_free(struct notes *notes)
{
    free(notes->items);
    free(notes->table);
    *notes = (struct notes){0};
}
