/* SPDX-License-Identifier: Apache-2.0
 *
 * What became void, and when: so that a change need not look for every copy of the old fact.
 *
 * A fact remembers the stamp of its making; a change notes a later one under the ino that it is
 * about. Inos share places: two of one place void each other's facts, which costs a question more
 * than needed and nothing else. Marks are set by the remote thread, and read by all.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum stamp_kind {
    STAMP_NAMES,   /* of a directory: its names, one by one and listed */
    STAMP_LOOKUPS, /* of a directory: what its listing says of names; more is known, and was lost */
    STAMP_ATTR,    /* of a node: what a listing says of its attributes */
    STAMP_KINDS,
};

enum { STAMP_PLACES = 4096 };

struct stamps {
    _Atomic uint64_t now; /* any thread, atomic */
    _Atomic uint64_t marks[STAMP_KINDS][STAMP_PLACES];
};

static inline uint32_t stamp_place(uint64_t ino)
{
    return (uint32_t)(ino * UINT64_C(0x9e3779b97f4a7c15) >> 52);
}

/* For a fact that is being made; no two have the same, so it also says which of two is newer. */
static inline uint64_t stamp_new(struct stamps *stamps)
{
    return atomic_fetch_add(&stamps->now, 1) + 1;
}

static inline void stamp_mark(struct stamps *stamps, enum stamp_kind kind, uint64_t ino)
{
    atomic_store(&stamps->marks[kind][stamp_place(ino)], stamp_new(stamps));
}

static inline bool stamp_holds(struct stamps *stamps, enum stamp_kind kind, uint64_t ino,
                               uint64_t made)
{
    return atomic_load(&stamps->marks[kind][stamp_place(ino)]) <= made;
}
