/* SPDX-License-Identifier: Apache-2.0
 * Description: the set of notes keeps each once, in order, through growth and reuse. */
#include "notes.h"

#include "check.h"

static void each_is_kept_once_and_in_order(struct notes *notes, uint32_t count)
{
    struct note note;

    for (int round = 0; round < 2; round++) /* the second time nothing is new */
        for (uint32_t i = 0; i < count; i++)
            CHECK(notes_add(notes, i / 2, i % 2));
    CHECK(notes_left(notes) == count);
    for (uint32_t i = 0; i < count; i++) {
        CHECK(notes_take(notes, &note));
        CHECK(note.ino == i / 2 && note.note == i % 2);
    }
    CHECK(!notes_take(notes, &note));
    notes_clear(notes);
    CHECK(notes_left(notes) == 0);
}

static void what_was_taken_can_come_again(struct notes *notes)
{
    struct note note;

    CHECK(notes_add(notes, 1, 0) && notes_add(notes, 2, 0));
    CHECK(notes_take(notes, &note) && note.ino == 1);
    CHECK(notes_add(notes, 1, 0) && notes_add(notes, 2, 0));
    CHECK(notes_take(notes, &note) && note.ino == 2);
    CHECK(notes_take(notes, &note) && note.ino == 1);
    CHECK(!notes_take(notes, &note));
    notes_clear(notes);
}

int main(void)
{
    struct notes notes = {0};

    each_is_kept_once_and_in_order(&notes, 10);
    each_is_kept_once_and_in_order(&notes, 100000); /* more than is kept for the next time */
    each_is_kept_once_and_in_order(&notes, 1000);
    what_was_taken_can_come_again(&notes);
    notes_free(&notes);
    return 0;
}
