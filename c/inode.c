/* SPDX-License-Identifier: Apache-2.0
 *
 * 64 shards, each a linear hash table over slab indices: buckets are split and merged one at a
 * time as nodes come and go, so no request ever pays for the rehash of a large table.
 *
 *      hash:   | shard 6 | ........ bucket: low bits |
 *
 * Lock order: shard, then slab.
 */
#include "inode.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "wire_fuse.h"

enum {
    SHARD_BITS = 6,
    SHARDS = 1 << SHARD_BITS,
    BUCKETS_MIN = 16,
    BUCKETS_MAX = 1 << (32 - SHARD_BITS),
    NODES_MAX = 1 << 26,
};

struct shard {
    pthread_mutex_t lock;
    uint32_t *buckets; /* first slab index of each chain; 0: empty */
    uint32_t used;     /* buckets in use: BUCKETS_MIN or more */
    uint32_t room;     /* buckets allocated: a power of two */
    uint32_t nodes;
} __attribute__((aligned(64))); /* so that two queues share a line only if they share a shard */

struct inode_table {
    struct slab *slab;
    uint64_t seed; /* constant; random: nobody can choose names that fall into one chain */
    void (*on_destroy)(struct inode *inode, void *context);
    void *context;
    struct shard shards[SHARDS];
};

static void inode_destroy(void *slot, void *context)
{
    struct inode_table *table = context;
    struct inode *inode = slot;

    table->on_destroy(inode, table->context);
    if (inode->key_len > INODE_KEY_INLINE)
        free(inode->key_far);
}

int inode_table_new(size_t slot_size, void (*on_destroy)(struct inode *inode, void *context),
                    void *context, struct inode_table **out)
{
    struct inode_table *table = aligned_alloc(64, sizeof(*table));
    int i;

    *out = NULL;
    if (!table)
        return -ENOMEM;
    memset(table, 0, sizeof(*table));
    table->on_destroy = on_destroy;
    table->context = context;
    table->seed = hash_seed();
    for (i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&table->shards[i].lock, NULL);
        table->shards[i].used = table->shards[i].room = BUCKETS_MIN;
        table->shards[i].buckets = calloc(BUCKETS_MIN, sizeof(uint32_t));
        if (!table->shards[i].buckets)
            goto err;
    }
    if (slab_new(slot_size, NODES_MAX, inode_destroy, table, &table->slab) < 0)
        goto err;
    *out = table;
    return 0;
err:
    inode_table_free(table);
    return -ENOMEM;
}

void inode_table_free(struct inode_table *table)
{
    int i;

    if (!table)
        return;
    slab_free(table->slab);
    for (i = 0; i < SHARDS; i++) {
        free(table->shards[i].buckets);
        pthread_mutex_destroy(&table->shards[i].lock);
    }
    free(table);
}

/* ---- one shard's hash table; all of this under its lock ---- */

static struct shard *shard_of(struct inode_table *table, uint32_t hash)
{
    return &table->shards[hash >> (32 - SHARD_BITS)];
}

static uint32_t *bucket_of(struct shard *shard, uint32_t hash)
{
    /* `used` lies in (mask / 2, mask + 1]; what is beyond it has not been split off yet */
    uint32_t mask = UINT32_MAX >> __builtin_clz(shard->used - 1);
    uint32_t bucket = hash & mask;

    return &shard->buckets[bucket < shard->used ? bucket : bucket & mask >> 1];
}

/* Move what belongs into the bucket behind the last one out of the bucket it shared. Where there
 * is no memory for more buckets, chains just get longer. */
static void split_bucket(struct inode_table *table, struct shard *shard)
{
    uint32_t new = shard->used, *from, *to, index;

    if (new == shard->room) {
        uint32_t *buckets = NULL;

        if (new < BUCKETS_MAX)
            buckets = realloc(shard->buckets, 2 * (size_t) new * sizeof(*buckets));
        if (!buckets)
            return;
        shard->buckets = buckets;
        shard->room = 2 * new;
    }
    from = bucket_of(shard, new);
    shard->used++;
    to = &shard->buckets[new];
    *to = 0;
    while ((index = *from) != 0) {
        struct inode *inode = slab_at(table->slab, index);

        if (bucket_of(shard, inode->hash) == to) {
            *from = inode->next;
            inode->next = *to;
            *to = index;
        } else {
            from = &inode->next;
        }
    }
}

/* Put the last bucket's chain back behind the chain it was split from. */
static void merge_bucket(struct inode_table *table, struct shard *shard)
{
    uint32_t last = --shard->used;
    uint32_t *to = bucket_of(shard, last);
    uint32_t *buckets;

    while (*to != 0)
        to = &((struct inode *)slab_at(table->slab, *to))->next;
    *to = shard->buckets[last];
    if (shard->used > shard->room / 4 || shard->room == BUCKETS_MIN)
        return;
    buckets = realloc(shard->buckets, shard->room / 2 * sizeof(*buckets));
    if (buckets) {
        shard->buckets = buckets;
        shard->room /= 2;
    }
}

static void put_in(struct inode_table *table, struct shard *shard, struct inode *inode)
{
    uint32_t *bucket;

    if (++shard->nodes > shard->used)
        split_bucket(table, shard);
    bucket = bucket_of(shard, inode->hash);
    inode->next = *bucket;
    *bucket = slab_index(table->slab, inode);
}

static void take_out(struct inode_table *table, struct shard *shard, struct inode *inode)
{
    uint32_t index = slab_index(table->slab, inode);
    uint32_t *at = bucket_of(shard, inode->hash);
    int i;

    while (*at != index) {
        assert(*at != 0);
        at = &((struct inode *)slab_at(table->slab, *at))->next;
    }
    *at = inode->next;
    shard->nodes--;
    /* two at a time, so that an emptying table shrinks as fast as it empties */
    for (i = 0; i < 2 && shard->used > BUCKETS_MIN && shard->used / 2 > shard->nodes; i++)
        merge_bucket(table, shard);
}

static bool same_key(const struct inode *inode, uint32_t hash, const struct inode_key *key)
{
    return inode->hash == hash && inode->mount == key->mount && inode->key_type == key->type &&
           inode->key_len == key->len && memcmp(inode_key_bytes(inode), key->bytes, key->len) == 0;
}

static struct inode *search(struct inode_table *table, struct shard *shard, uint32_t hash,
                            const struct inode_key *key)
{
    uint32_t index = *bucket_of(shard, hash);

    while (index != 0) {
        struct inode *inode = slab_at(table->slab, index);

        if (same_key(inode, hash, key))
            return inode;
        index = inode->next;
    }
    return NULL;
}

/* ---- keys ---- */

static uint32_t hash_key(const struct inode_table *table, const struct inode_key *key)
{
    uint64_t kind = (uint64_t)key->mount << 32 | (uint64_t)key->type << 16 | key->len;

    return (uint32_t)(hash_name(hash_mix(table->seed, kind), key->bytes, key->len) >> 32);
}

const void *inode_key_bytes(const struct inode *inode)
{
    return inode->key_len > INODE_KEY_INLINE ? inode->key_far : inode->key;
}

/* A node of this key, not in the table yet. NULL: no memory or no slot. */
static struct inode *make(struct inode_table *table, const struct inode_key *key, uint32_t hash,
                          uint16_t type, int fd)
{
    void *far = NULL;
    struct inode *inode;

    if (key->len > INODE_KEY_INLINE && !(far = malloc(key->len)))
        return NULL;
    inode = slab_alloc(table->slab);
    if (!inode) {
        free(far);
        return NULL;
    }
    inode->hash = hash;
    inode->type = type;
    inode->mount = key->mount;
    inode->key_type = key->type;
    inode->key_len = key->len;
    if (far)
        inode->key_far = far;
    memcpy(far ? far : inode->key, key->bytes, key->len);
    atomic_store_explicit(&inode->fd, fd, memory_order_relaxed);
    return inode;
}

/* ---- nodes ---- */

struct inode *inode_pin(struct inode_table *table, uint64_t nodeid)
{
    return slab_pin(table->slab, nodeid);
}

void inode_unpin(struct inode_table *table, struct inode *inode)
{
    slab_unpin(table->slab, inode);
}

uint64_t inode_id(struct inode_table *table, const struct inode *inode)
{
    return slab_id(table->slab, inode);
}

/* Pin what was found in the shard. Cannot fail: nodes are retired under the same lock. */
static void pin_found(struct inode_table *table, struct inode *inode)
{
    struct inode *pinned = slab_pin(table->slab, slab_id(table->slab, inode));

    assert(pinned == inode);
    (void)pinned;
}

struct inode *inode_find(struct inode_table *table, const struct inode_key *key, bool count)
{
    uint32_t hash = hash_key(table, key);
    struct shard *shard = shard_of(table, hash);
    struct inode *inode;

    pthread_mutex_lock(&shard->lock);
    inode = search(table, shard, hash, key);
    if (inode) {
        pin_found(table, inode);
        inode->lookups += count;
    }
    pthread_mutex_unlock(&shard->lock);
    return inode;
}

bool inode_count_lookup(struct inode_table *table, struct inode *inode)
{
    struct shard *shard = shard_of(table, inode->hash);
    bool known;

    pthread_mutex_lock(&shard->lock);
    known = inode->lookups > 0;
    inode->lookups += known;
    pthread_mutex_unlock(&shard->lock);
    return known;
}

struct inode *inode_enter(struct inode_table *table, const struct inode_key *key, uint16_t type,
                          int fd, bool *made)
{
    uint32_t hash = hash_key(table, key);
    struct shard *shard = shard_of(table, hash);
    struct inode *inode;

    pthread_mutex_lock(&shard->lock);
    inode = search(table, shard, hash, key);
    *made = !inode;
    if (inode) {
        pin_found(table, inode);
    } else {
        inode = make(table, key, hash, type, fd);
        if (inode) {
            put_in(table, shard, inode);
            slab_publish(table->slab, inode);
        }
    }
    if (inode)
        inode->lookups++;
    pthread_mutex_unlock(&shard->lock);
    if (!inode)
        *made = false;
    return inode;
}

static void forget(struct inode_table *table, struct inode *inode, uint64_t lookups)
{
    struct shard *shard = shard_of(table, inode->hash);

    pthread_mutex_lock(&shard->lock);
    /* 0: somebody else's FORGET came first, and the node has left the table */
    if (inode->lookups > 0) {
        inode->lookups -= lookups < inode->lookups ? lookups : inode->lookups;
        if (inode->lookups == 0) {
            take_out(table, shard, inode);
            slab_retire(table->slab, inode);
        }
    }
    pthread_mutex_unlock(&shard->lock);
}

void inode_forget(struct inode_table *table, uint64_t nodeid, uint64_t lookups)
{
    struct inode *inode;

    if (nodeid == FUSE_ROOT_ID)
        return;
    inode = slab_pin(table->slab, nodeid);
    if (!inode)
        return;
    forget(table, inode, lookups);
    slab_unpin(table->slab, inode);
}

static void forget_one(void *slot, void *context)
{
    struct inode_table *table = context;

    if (slab_id(table->slab, slot) != FUSE_ROOT_ID)
        forget(table, slot, UINT64_MAX);
}

void inode_forget_all(struct inode_table *table)
{
    slab_each(table->slab, forget_one, table);
}

struct inode *inode_trylock(struct inode_table *table, uint64_t nodeid, bool *gone)
{
    return slab_trylock(table->slab, nodeid, gone);
}

void inode_unlock(struct inode_table *table, struct inode *inode)
{
    slab_unlock(table->slab, inode);
}

uint32_t inode_count(struct inode_table *table)
{
    return slab_count(table->slab);
}
