/* SPDX-License-Identifier: Apache-2.0 */
#include "open_cache.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../clock.h"

enum { WAYS = 3, SETS_MAX = 512 };

/* No thread waits for another here: who wants what is in a way claims it, which one can only, and
 * who does not get it does without. */
static const uint64_t CLAIMED = UINT64_MAX;

struct set {
    _Atomic uint64_t nodeids[WAYS]; /* 0: free; CLAIMED: one thread's, who owns its fd and time */
    _Atomic uint64_t put_ns[WAYS]; /* others read it to find the oldest, which may be out of date */
    int fds[WAYS];
} __attribute__((aligned(64))); /* one cache line */

struct open_cache {
    uint32_t mask;    /* constant: sets - 1 */
    struct set *sets; /* constant; NULL: nothing is kept */
};

int open_cache_new(uint32_t limit, struct open_cache **out)
{
    struct open_cache *cache = calloc(1, sizeof(*cache));
    uint32_t sets = SETS_MAX;

    *out = cache;
    if (!cache)
        return -ENOMEM;
    if (limit < WAYS)
        return 0;
    while (sets * WAYS > limit)
        sets /= 2;
    cache->sets = aligned_alloc(64, sets * sizeof(*cache->sets));
    if (!cache->sets)
        return -ENOMEM;
    memset(cache->sets, 0, sets * sizeof(*cache->sets));
    cache->mask = sets - 1;
    return 0;
}

void open_cache_free(struct open_cache *cache)
{
    if (!cache)
        return;
    open_cache_clear(cache);
    free(cache->sets);
    free(cache);
}

/* Node ids are dense in their low bits, which spreads them well. NULL: nothing is kept. */
static struct set *set_of(const struct open_cache *cache, uint64_t nodeid)
{
    return cache->sets ? &cache->sets[nodeid & cache->mask] : NULL;
}

static uint64_t node_at(const struct set *set, unsigned way)
{
    return atomic_load_explicit(&set->nodeids[way], memory_order_relaxed);
}

static uint64_t put_at(const struct set *set, unsigned way)
{
    return atomic_load_explicit(&set->put_ns[way], memory_order_relaxed);
}

/* Whether the way was as expected, and is the caller's now, until it is set. */
static bool claim(struct set *set, unsigned way, uint64_t expected)
{
    return atomic_compare_exchange_strong_explicit(&set->nodeids[way], &expected, CLAIMED,
                                                   memory_order_acquire, memory_order_relaxed);
}

/* Let a claimed way go: to a node, or free with 0. */
static void set_to(struct set *set, unsigned way, uint64_t nodeid)
{
    atomic_store_explicit(&set->nodeids[way], nodeid, memory_order_release);
}

uint32_t open_cache_count(struct open_cache *cache)
{
    uint32_t count = 0;

    for (uint32_t i = 0; cache->sets && i <= cache->mask; i++)
        for (unsigned way = 0; way < WAYS; way++)
            count += node_at(&cache->sets[i], way) != 0;
    return count;
}

int open_cache_take(struct open_cache *cache, uint64_t nodeid)
{
    struct set *set = set_of(cache, nodeid);

    for (unsigned way = 0; set && way < WAYS; way++) {
        bool is_fresh;
        int fd;

        if (node_at(set, way) != nodeid || !claim(set, way, nodeid))
            continue;
        is_fresh = clock_ns() - put_at(set, way) < OPEN_CACHE_NS;
        fd = set->fds[way];
        set_to(set, way, 0);
        if (is_fresh)
            return fd;
        close(fd);
    }
    return -1;
}

/* A free way, else the oldest. */
static unsigned way_for_one_more(const struct set *set)
{
    unsigned oldest = 0;

    for (unsigned way = 0; way < WAYS; way++) {
        if (node_at(set, way) == 0)
            return way;
        if (put_at(set, way) < put_at(set, oldest))
            oldest = way;
    }
    return oldest;
}

void open_cache_put(struct open_cache *cache, uint64_t nodeid, int fd)
{
    struct set *set = set_of(cache, nodeid);
    int left_over = fd;

    if (set) {
        unsigned way = way_for_one_more(set);
        uint64_t there = node_at(set, way);

        if (there != CLAIMED && claim(set, way, there)) {
            left_over = there != 0 ? set->fds[way] : -1;
            set->fds[way] = fd;
            atomic_store_explicit(&set->put_ns[way], clock_ns(), memory_order_relaxed);
            set_to(set, way, nodeid);
        }
    }
    if (left_over >= 0)
        close(left_over);
}

/* Close what there is of a node; of all, where it is 0. How many there were. */
static uint32_t empty(struct set *set, uint64_t nodeid)
{
    uint32_t count = 0;

    for (unsigned way = 0; way < WAYS; way++) {
        uint64_t there = node_at(set, way);
        int fd;

        if (there == 0 || there == CLAIMED || (nodeid != 0 && there != nodeid) ||
            !claim(set, way, there))
            continue;
        fd = set->fds[way];
        set_to(set, way, 0);
        close(fd);
        count++;
    }
    return count;
}

/* Whoever put one here had the node pinned, so its node cannot be gone before that is seen here.
 * One that is claimed is on its way out: only a taker has it back, and that has the node pinned. */
void open_cache_drop(struct open_cache *cache, uint64_t nodeid)
{
    struct set *set = set_of(cache, nodeid);

    if (set)
        empty(set, nodeid);
}

uint32_t open_cache_clear(struct open_cache *cache)
{
    uint32_t cleared = 0;

    for (uint32_t i = 0; cache->sets && i <= cache->mask; i++)
        cleared += empty(&cache->sets[i], 0);
    return cleared;
}
