/* SPDX-License-Identifier: Apache-2.0
 *
 * What a directory held at one time: made once, then only read, counted by those who read it (the
 * node, and each open directory that is going through it).
 *
 *      items:  | ino, attr, where its name lies | ...       in the order of READDIR
 *      table:  hash of a name -> index into items + 1       open addressing
 *      names:  one after the other
 *
 * All of it is one allocation.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../api.h"

struct listed {
    uint64_t ino; /* 0: a name without a node */
    struct ovfs_attr attr;
    uint64_t attr_until_ns;
    size_t name_at;
    uint16_t name_len;
};

struct listing {
    _Atomic uint32_t refs; /* any thread, atomic */
    uint32_t count;
    uint32_t mask; /* of the table's size */
    uint64_t seed;
    uint64_t parent_ino;
    uint64_t until_ns;
    uint64_t stamp; /* of when it was made */
    uint32_t *table;
    char *names;
    struct listed items[];
};

/* Counted once. NULL with *err -ENOMEM, or -EINVAL: a name cannot be one. */
struct listing *listing_new(uint32_t count, const struct ovfs_entry *entries, const char *names,
                            const uint16_t *name_lens, uint64_t now_ns, int *err);
struct listing *listing_ref(struct listing *listing);
void listing_unref(struct listing *listing); /* NULL is allowed */

const struct listed *listing_find(const struct listing *listing, const char *name, size_t len);

static inline const char *listing_name(const struct listing *listing, const struct listed *listed)
{
    return listing->names + listed->name_at;
}

/* d_ino of an entry, also of one without a node: then a number of its name. */
uint64_t listing_ino(const struct listing *listing, const struct listed *listed);
