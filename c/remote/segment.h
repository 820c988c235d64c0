/* SPDX-License-Identifier: Apache-2.0
 *
 * 64 MiB of one layer of a file's bytes: a cache file's descriptor, and which bytes of it count.
 *
 *      base     bytes of the stored object, in blocks of 64 KiB; shared, never changed in place
 *      write    bytes that the guest wrote, in pages of 4 KiB; sparse, and of full length
 *
 * A segment is counted: its content's table holds one reference and each read that uses the
 * descriptor another, so that a segment that is dropped meanwhile keeps its descriptor until then.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../api.h"

/* As powers of two. */
enum { SEGMENT_SHIFT = 26, BLOCK_SHIFT = 16, PAGE_SHIFT = 12 };
_Static_assert(OVFS_SEGMENT == 1 << SEGMENT_SHIFT && OVFS_BLOCK == 1 << BLOCK_SHIFT &&
                   OVFS_PAGE == 1 << PAGE_SHIFT,
               "the same as the control plane's");

struct segment {
    _Atomic uint32_t refs; /* any thread, atomic */
    uint32_t index;        /* constant: it begins at index << SEGMENT_SHIFT */
    int fd;                /* constant; ours */
    atomic_bool may_wait;  /* any thread, atomic: preadv2(RWF_NOWAIT) does not work on it */
    bool memory_fs;        /* constant: a read never waits for a device */
    enum ovfs_layer layer; /* constant */
    uint64_t present[];    /* under the content's lock: a bit for each unit */
};

/* Takes fd over, on failure too. Counted once. NULL: no memory. */
struct segment *segment_new(enum ovfs_layer layer, uint32_t index, int fd);
struct segment *segment_ref(struct segment *segment);
void segment_unref(struct segment *segment); /* NULL is allowed */

/* Bytes that one bit stands for, as a power of two. */
static inline unsigned segment_unit_shift(enum ovfs_layer layer)
{
    return layer == OVFS_LAYER_BASE ? BLOCK_SHIFT : PAGE_SHIFT;
}

/* The rest: offsets are within the segment. */

/* Whether the byte at `offset` is present; *end: where that ends, at most `limit`. */
bool segment_run(const struct segment *segment, uint32_t offset, uint32_t limit, uint32_t *end);

/* Mark the units from `first` to before `last`. */
void segment_mark(struct segment *segment, uint32_t first, uint32_t last, bool present);

static inline bool segment_has(const struct segment *segment, uint32_t unit)
{
    return segment->present[unit / 64] >> unit % 64 & 1;
}
