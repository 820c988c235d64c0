/* SPDX-License-Identifier: Apache-2.0 */
#include "open_cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../clock.h"

enum { WAYS = 4, SETS_MAX = 512 };

struct set {
    pthread_mutex_t lock;           /* guards what follows; held for a few memory accesses */
    _Atomic uint64_t nodeids[WAYS]; /* 0: free; also read without the lock, see open_cache_drop */
    uint64_t put_ns[WAYS];
    int fds[WAYS];
} __attribute__((aligned(64)));

struct open_cache {
    uint32_t mask;          /* constant: sets - 1 */
    _Atomic uint32_t count; /* any thread, atomic */
    struct set *sets;       /* constant; NULL: nothing is kept */
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
    for (uint32_t i = 0; i < sets; i++)
        pthread_mutex_init(&cache->sets[i].lock, NULL);
    return 0;
}

void open_cache_free(struct open_cache *cache)
{
    if (!cache)
        return;
    open_cache_clear(cache);
    for (uint32_t i = 0; cache->sets && i <= cache->mask; i++)
        pthread_mutex_destroy(&cache->sets[i].lock);
    free(cache->sets);
    free(cache);
}

uint32_t open_cache_count(struct open_cache *cache)
{
    return atomic_load_explicit(&cache->count, memory_order_relaxed);
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

/* Under the set's lock. Empties a way and returns its descriptor. */
static int take_out(struct open_cache *cache, struct set *set, unsigned way)
{
    atomic_store_explicit(&set->nodeids[way], 0, memory_order_relaxed);
    atomic_fetch_sub_explicit(&cache->count, 1, memory_order_relaxed);
    return set->fds[way];
}

static bool may_have(const struct set *set, uint64_t nodeid)
{
    bool found = false;

    for (unsigned way = 0; way < WAYS; way++)
        found |= node_at(set, way) == nodeid;
    return found;
}

/* Close what there is of a node; of all, where it is 0. How many there were. */
static unsigned empty(struct open_cache *cache, struct set *set, uint64_t nodeid)
{
    int fds[WAYS];
    unsigned count = 0;

    pthread_mutex_lock(&set->lock);
    for (unsigned way = 0; way < WAYS; way++)
        if (node_at(set, way) != 0 && (nodeid == 0 || node_at(set, way) == nodeid))
            fds[count++] = take_out(cache, set, way);
    pthread_mutex_unlock(&set->lock);
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
    return count;
}

int open_cache_take(struct open_cache *cache, uint64_t nodeid)
{
    struct set *set = set_of(cache, nodeid);
    uint64_t now;
    int fd = -1;

    if (!set || !may_have(set, nodeid))
        return -1;
    now = clock_ns();
    pthread_mutex_lock(&set->lock);
    for (unsigned way = 0; way < WAYS && fd < 0; way++)
        if (node_at(set, way) == nodeid && now - set->put_ns[way] < OPEN_CACHE_NS)
            fd = take_out(cache, set, way);
    pthread_mutex_unlock(&set->lock);
    return fd;
}

/* A free way, else the oldest. Under the set's lock. */
static unsigned way_for_one_more(const struct set *set)
{
    unsigned oldest = 0;

    for (unsigned way = 0; way < WAYS; way++) {
        if (node_at(set, way) == 0)
            return way;
        if (set->put_ns[way] < set->put_ns[oldest])
            oldest = way;
    }
    return oldest;
}

void open_cache_put(struct open_cache *cache, uint64_t nodeid, int fd)
{
    struct set *set = set_of(cache, nodeid);
    uint64_t now = clock_ns();
    unsigned way;
    int displaced = -1;

    if (!set) {
        close(fd);
        return;
    }
    pthread_mutex_lock(&set->lock);
    way = way_for_one_more(set);
    if (node_at(set, way) != 0)
        displaced = take_out(cache, set, way);
    set->fds[way] = fd;
    set->put_ns[way] = now;
    atomic_store_explicit(&set->nodeids[way], nodeid, memory_order_relaxed);
    pthread_mutex_unlock(&set->lock);
    atomic_fetch_add_explicit(&cache->count, 1, memory_order_relaxed);
    if (displaced >= 0)
        close(displaced);
}

/* Whoever put one here had the node pinned, so its node cannot be gone before that is seen here:
 * the look without the lock finds it. */
void open_cache_drop(struct open_cache *cache, uint64_t nodeid)
{
    struct set *set = set_of(cache, nodeid);

    if (set && may_have(set, nodeid))
        empty(cache, set, nodeid);
}

uint32_t open_cache_clear(struct open_cache *cache)
{
    uint32_t cleared = 0;

    for (uint32_t i = 0; cache->sets && i <= cache->mask; i++)
        cleared += empty(cache, &cache->sets[i], 0);
    return cleared;
}
