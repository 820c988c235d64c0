/* SPDX-License-Identifier: Apache-2.0 */
#include "segment.h"

#include <linux/magic.h>
#include <stdlib.h>
#include <sys/vfs.h>
#include <unistd.h>

static uint32_t units(enum ovfs_layer layer)
{
    return 1u << (SEGMENT_SHIFT - segment_unit_shift(layer));
}

static bool in_memory(int fd)
{
    struct statfs fs;

    return fstatfs(fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

struct segment *segment_new(enum ovfs_layer layer, uint32_t index, int fd)
{
    struct segment *segment = calloc(1, sizeof(*segment) + units(layer) / 8);

    if (!segment) {
        close(fd);
        return NULL;
    }
    atomic_init(&segment->refs, 1);
    segment->index = index;
    segment->fd = fd;
    segment->memory_fs = in_memory(fd);
    segment->layer = layer;
    return segment;
}

struct segment *segment_ref(struct segment *segment)
{
    atomic_fetch_add_explicit(&segment->refs, 1, memory_order_relaxed);
    return segment;
}

void segment_unref(struct segment *segment)
{
    /* acq_rel: whoever frees it has seen what the others did with it. */
    if (!segment || atomic_fetch_sub_explicit(&segment->refs, 1, memory_order_acq_rel) > 1)
        return;
    close(segment->fd);
    free(segment);
}

/* The first unit from `from` on whose bit is `value`; `limit` where there is none before it. */
static uint32_t find(const uint64_t *bits, uint32_t from, uint32_t limit, bool value)
{
    uint64_t flip = value ? 0 : UINT64_MAX;

    for (uint32_t unit = from; unit < limit; unit = (unit | 63) + 1) {
        uint64_t word = (bits[unit / 64] ^ flip) >> unit % 64;

        if (word) {
            unit += (uint32_t)__builtin_ctzll(word);
            return unit < limit ? unit : limit;
        }
    }
    return limit;
}

bool segment_run(const struct segment *segment, uint32_t offset, uint32_t limit, uint32_t *end)
{
    unsigned shift = segment_unit_shift(segment->layer);
    uint32_t unit = offset >> shift;
    uint32_t last = ((limit - 1) >> shift) + 1;
    bool present = segment_has(segment, unit);
    uint32_t found = find(segment->present, unit, last, !present) << shift;

    *end = found < limit ? found : limit;
    return present;
}

void segment_mark(struct segment *segment, uint32_t first, uint32_t last, bool present)
{
    for (uint32_t unit = first; unit < last; unit++) {
        uint64_t bit = UINT64_C(1) << unit % 64;

        if (present)
            segment->present[unit / 64] |= bit;
        else
            segment->present[unit / 64] &= ~bit;
    }
}
