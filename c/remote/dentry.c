/* SPDX-License-Identifier: Apache-2.0 */
#include "dentry.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "stamp.h"

enum { SHARD_BITS = 6, SHARDS = 1 << SHARD_BITS, BUCKETS = 1024, SHARD_MAX = 2048 };

struct item {
    struct item *chain;         /* of the bucket */
    struct item *newer, *older; /* the clock's list */
    uint64_t hash;
    uint64_t parent;
    struct dentry dentry;
    bool recent; /* found since the clock looked */
    uint16_t len;
    char name[];
};

struct shard {
    pthread_mutex_t lock; /* guards what is here; taken alone */
    struct item *buckets[BUCKETS];
    struct item *newest, *oldest;
    uint32_t count;
} __attribute__((aligned(64)));

struct dentry_table {
    uint64_t seed;         /* constant */
    struct stamps *stamps; /* constant */
    struct shard shards[SHARDS];
};

int dentry_table_new(struct stamps *stamps, struct dentry_table **out)
{
    struct dentry_table *table = aligned_alloc(64, sizeof(*table));

    *out = table;
    if (!table)
        return -ENOMEM;
    memset(table, 0, sizeof(*table));
    table->seed = hash_seed();
    table->stamps = stamps;
    for (unsigned i = 0; i < SHARDS; i++)
        pthread_mutex_init(&table->shards[i].lock, NULL);
    return 0;
}

void dentry_table_free(struct dentry_table *table)
{
    if (!table)
        return;
    dentry_clear(table);
    for (unsigned i = 0; i < SHARDS; i++)
        pthread_mutex_destroy(&table->shards[i].lock);
    free(table);
}

static uint64_t hash_of(const struct dentry_table *table, uint64_t parent, const char *name,
                        size_t len)
{
    return hash_name(hash_mix(table->seed, parent), name, len);
}

static struct shard *shard_of(struct dentry_table *table, uint64_t hash)
{
    return &table->shards[hash >> (64 - SHARD_BITS)];
}

/* ---- under the shard's lock ---- */

/* Where the item is linked, or where it would be. */
static struct item **search(struct shard *shard, uint64_t hash, uint64_t parent, const char *name,
                            size_t len)
{
    struct item **link = &shard->buckets[hash % BUCKETS];

    for (; *link; link = &(*link)->chain) {
        const struct item *item = *link;

        if (item->hash == hash && item->parent == parent && item->len == len &&
            memcmp(item->name, name, len) == 0)
            break;
    }
    return link;
}

static void make_newest(struct shard *shard, struct item *item)
{
    item->newer = NULL;
    item->older = shard->newest;
    *(shard->newest ? &shard->newest->newer : &shard->oldest) = item;
    shard->newest = item;
}

static void leave_list(struct shard *shard, struct item *item)
{
    *(item->newer ? &item->newer->older : &shard->newest) = item->older;
    *(item->older ? &item->older->newer : &shard->oldest) = item->newer;
}

/* Returns what the caller frees without the lock. */
static struct item *take_out(struct shard *shard, struct item **link)
{
    struct item *item = *link;

    *link = item->chain;
    leave_list(shard, item);
    shard->count--;
    return item;
}

/* The oldest that nobody has asked for since it became the oldest the last time. */
static struct item *evict(struct dentry_table *table, struct shard *shard)
{
    struct item *item = shard->oldest;

    while (item->recent) {
        item->recent = false;
        leave_list(shard, item);
        make_newest(shard, item);
        item = shard->oldest;
    }
    if (item->dentry.overlay)
        stamp_mark(table->stamps, STAMP_LOOKUPS, item->parent);
    return take_out(shard, search(shard, item->hash, item->parent, item->name, item->len));
}

/* ---- */

bool dentry_find(struct dentry_table *table, uint64_t parent, const char *name, size_t len,
                 struct dentry *out)
{
    uint64_t hash = hash_of(table, parent, name, len);
    struct shard *shard = shard_of(table, hash);
    struct item *item;

    pthread_mutex_lock(&shard->lock);
    item = *search(shard, hash, parent, name, len);
    if (item) {
        item->recent = true;
        *out = item->dentry;
    }
    pthread_mutex_unlock(&shard->lock);
    return item && stamp_holds(table->stamps, STAMP_NAMES, parent, out->stamp);
}

int dentry_set(struct dentry_table *table, uint64_t parent, const char *name, size_t len,
               const struct dentry *dentry)
{
    uint64_t hash = hash_of(table, parent, name, len);
    struct shard *shard = shard_of(table, hash);
    struct item *new = malloc(sizeof(*new) + len);
    struct item *old = NULL, *evicted = NULL, **link;

    if (new) {
        *new = (struct item){.hash = hash, .parent = parent, .dentry = *dentry};
        new->len = (uint16_t)len;
        memcpy(new->name, name, len);
    }
    pthread_mutex_lock(&shard->lock);
    link = search(shard, hash, parent, name, len);
    if (*link)
        old = take_out(shard, link);
    if (new) {
        if (shard->count == SHARD_MAX)
            evicted = evict(table, shard);
        link = &shard->buckets[hash % BUCKETS];
        new->chain = *link;
        *link = new;
        make_newest(shard, new);
        shard->count++;
    }
    pthread_mutex_unlock(&shard->lock);
    free(old);
    free(evicted);
    return new ? 0 : -ENOMEM;
}

void dentry_remove(struct dentry_table *table, uint64_t parent, const char *name, size_t len)
{
    uint64_t hash = hash_of(table, parent, name, len);
    struct shard *shard = shard_of(table, hash);
    struct item **link, *item = NULL;

    pthread_mutex_lock(&shard->lock);
    link = search(shard, hash, parent, name, len);
    if (*link)
        item = take_out(shard, link);
    pthread_mutex_unlock(&shard->lock);
    free(item);
}

void dentry_clear(struct dentry_table *table)
{
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *shard = &table->shards[i];
        struct item *item;

        pthread_mutex_lock(&shard->lock);
        item = shard->newest;
        memset(shard->buckets, 0, sizeof(shard->buckets));
        shard->newest = shard->oldest = NULL;
        shard->count = 0;
        pthread_mutex_unlock(&shard->lock);
        while (item) {
            struct item *older = item->older;

            free(item);
            item = older;
        }
    }
}

uint32_t dentry_count(struct dentry_table *table)
{
    uint32_t count = 0;

    for (unsigned i = 0; i < SHARDS; i++) {
        pthread_mutex_lock(&table->shards[i].lock);
        count += table->shards[i].count;
        pthread_mutex_unlock(&table->shards[i].lock);
    }
    return count;
}
