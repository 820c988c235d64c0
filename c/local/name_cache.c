/* SPDX-License-Identifier: Apache-2.0 */
#include "name_cache.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "../hash.h"

enum { ENTRIES = 1 << 15 }; /* 1 MiB, of which only what is used is ever touched */

struct entry {
    _Atomic uint64_t check, nodeid, ino, birth;
};

struct name_cache {
    uint64_t seed;         /* constant */
    struct entry *entries; /* constant */
};

int name_cache_new(struct name_cache **out)
{
    struct name_cache *cache = calloc(1, sizeof(*cache));

    *out = cache;
    if (!cache)
        return -ENOMEM;
    cache->seed = hash_seed();
    cache->entries = calloc(ENTRIES, sizeof(*cache->entries));
    return cache->entries ? 0 : -ENOMEM;
}

void name_cache_free(struct name_cache *cache)
{
    if (!cache)
        return;
    free(cache->entries);
    free(cache);
}

static struct entry *entry_of(const struct name_cache *cache, uint64_t key)
{
    return &cache->entries[key % ENTRIES];
}

static uint64_t check_of(uint64_t key, const struct name_guess *guess)
{
    return hash_mix(hash_mix(hash_mix(key, guess->nodeid), guess->ino), guess->birth);
}

uint64_t name_key(const struct name_cache *cache, uint64_t dir, const char *name, size_t len,
                  uint32_t epoch)
{
    return hash_name(hash_mix(cache->seed + epoch, dir), name, len);
}

bool name_cache_get(const struct name_cache *cache, uint64_t key, struct name_guess *out)
{
    struct entry *entry = entry_of(cache, key);

    out->nodeid = atomic_load_explicit(&entry->nodeid, memory_order_relaxed);
    out->ino = atomic_load_explicit(&entry->ino, memory_order_relaxed);
    out->birth = atomic_load_explicit(&entry->birth, memory_order_relaxed);
    return out->nodeid != 0 &&
           atomic_load_explicit(&entry->check, memory_order_relaxed) == check_of(key, out);
}

void name_cache_put(struct name_cache *cache, uint64_t key, const struct name_guess *guess)
{
    struct entry *entry = entry_of(cache, key);

    atomic_store_explicit(&entry->nodeid, guess->nodeid, memory_order_relaxed);
    atomic_store_explicit(&entry->ino, guess->ino, memory_order_relaxed);
    atomic_store_explicit(&entry->birth, guess->birth, memory_order_relaxed);
    atomic_store_explicit(&entry->check, check_of(key, guess), memory_order_relaxed);
}

void name_cache_drop(struct name_cache *cache, uint64_t key)
{
    struct name_guess guess;

    if (name_cache_get(cache, key, &guess))
        atomic_store_explicit(&entry_of(cache, key)->nodeid, 0, memory_order_relaxed);
}

uint64_t name_birth(const struct statx *stx)
{
    uint64_t device = makedev(stx->stx_dev_major, stx->stx_dev_minor);
    uint64_t born = stx->stx_mask & STATX_BTIME
                        ? (uint64_t)stx->stx_btime.tv_sec * 1000000000u + stx->stx_btime.tv_nsec
                        : 0;

    return hash_mix(device, born);
}
