/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6a: descriptors of nodes; the design is in node.h. Queue and pool threads.
 */
#include "node.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "handle_at.h"
#include "local.h"
#include "mount.h"
#include "open_cache.h"

enum {
    SWEEP_STEPS = 128, /* nodes looked at before giving up: bounds the time under the lock */
    SWEEP_RECENT = 32, /* second chances given in one sweep: then any node's turn has come */
    SWEEP_CLOSE = 16,  /* descriptors closed by one sweep */
    HELD_FOR_GOOD = UINT8_MAX,
};

struct node_cache {
    uint32_t limit;         /* constant */
    _Atomic uint32_t count; /* any thread, atomic: descriptors open for nodes, of all kinds */

    pthread_mutex_t lock; /* guards what follows, and inode->listed; taken last but the slab's */
    uint64_t *ids;        /* nodes whose descriptor may be taken away; some are gone already */
    uint32_t used;
    uint32_t room;
    uint32_t hand;
};

int node_cache_new(uint32_t limit, struct node_cache **out)
{
    struct node_cache *cache = calloc(1, sizeof(*cache));

    *out = cache;
    if (!cache)
        return -ENOMEM;
    cache->limit = limit > 0 ? limit : 1;
    pthread_mutex_init(&cache->lock, NULL);
    return 0;
}

void node_cache_free(struct node_cache *cache)
{
    if (!cache)
        return;
    pthread_mutex_destroy(&cache->lock);
    free(cache->ids);
    free(cache);
}

uint32_t node_cache_count(struct node_cache *cache)
{
    return atomic_load_explicit(&cache->count, memory_order_relaxed);
}

/* ---- the clock; under the cache's lock ---- */

/* Take the node under the hand off the list. The last one, which is the newest, comes in its place,
 * and the hand passes it by: it has had no time yet to be used again. */
static void unlist(struct node_cache *cache)
{
    cache->ids[cache->hand++] = cache->ids[--cache->used];
}

/* Look at the node under the hand and go on to the next one: its descriptor, where it lost it,
 * or -1. */
static int sweep_one(struct local *local, struct node_cache *cache, unsigned *recent)
{
    bool gone;
    struct inode *inode = inode_trylock(local->fs.inodes, cache->ids[cache->hand], &gone);
    int fd = -1;

    if (!inode) {
        if (gone)
            unlist(cache);
        else
            cache->hand++;
        return -1;
    }
    if (atomic_load_explicit(&inode->recent, memory_order_relaxed) && *recent < SWEEP_RECENT) {
        atomic_store_explicit(&inode->recent, 0, memory_order_relaxed);
        cache->hand++;
        ++*recent;
    } else {
        if (atomic_load_explicit(&inode->held, memory_order_relaxed) == 0)
            fd = atomic_exchange_explicit(&inode->fd, -1, memory_order_acquire);
        inode->listed = false; /* a held one comes back with node_unhold */
        unlist(cache);
    }
    inode_unlock(local->fs.inodes, inode);
    return fd;
}

/* Bring the list down to `target` nodes, as far as SWEEP_STEPS looks suffice. How many
 * descriptors are now in fds, to be closed without the lock. */
static unsigned sweep(struct local *local, uint32_t target, int fds[SWEEP_CLOSE])
{
    struct node_cache *cache = local->nodes;
    unsigned closed = 0, recent = 0, steps;

    for (steps = 0; steps < SWEEP_STEPS && cache->used > target && closed < SWEEP_CLOSE; steps++) {
        int fd;

        if (cache->hand >= cache->used)
            cache->hand = 0;
        fd = sweep_one(local, cache, &recent);
        if (fd >= 0)
            fds[closed++] = fd;
    }
    return closed;
}

static void close_all(struct node_cache *cache, const int *fds, unsigned n)
{
    unsigned i;

    for (i = 0; i < n; i++)
        close(fds[i]);
    atomic_fetch_sub_explicit(&cache->count, n, memory_order_relaxed);
}

/* Where the list cannot grow for want of memory, the node keeps its descriptor for life. */
static void append(struct node_cache *cache, uint64_t id, struct inode *inode)
{
    if (cache->used == cache->room) {
        uint32_t room = cache->room ? 2 * cache->room : 256;
        uint64_t *ids = realloc(cache->ids, room * sizeof(*ids));

        if (!ids)
            return;
        cache->ids = ids;
        cache->room = room;
    }
    cache->ids[cache->used++] = id;
    inode->listed = true;
}

/* Put a pinned node with a handle on the list; make room for it first. Pinned nodes cannot give
 * theirs up, so the limit is exceeded while requests use more nodes than that at once. */
static void list_node(struct local *local, struct inode *inode)
{
    struct node_cache *cache = local->nodes;
    int fds[SWEEP_CLOSE];
    unsigned n;

    pthread_mutex_lock(&cache->lock);
    n = sweep(local, cache->limit - 1, fds);
    if (!inode->listed)
        append(cache, inode_id(local->fs.inodes, inode), inode);
    pthread_mutex_unlock(&cache->lock);
    close_all(cache, fds, n);
}

bool node_make_room(struct local *local, int err, uint32_t keep)
{
    struct node_cache *cache = local->nodes;
    int fds[SWEEP_CLOSE];
    unsigned n;

    if (err != -EMFILE && err != -ENFILE)
        return false;
    pthread_mutex_lock(&cache->lock);
    n = sweep(local, keep, fds);
    pthread_mutex_unlock(&cache->lock);
    close_all(cache, fds, n);
    return open_cache_clear(local->opened) + n > 0;
}

int node_errno(int err)
{
    return err == -EMFILE ? -ENFILE : err;
}

/* ---- one node's descriptor ---- */

static bool has_handle(const struct inode *inode)
{
    return inode->key_type != INODE_KEY_INO;
}

void node_added(struct local *local, struct inode *inode)
{
    atomic_fetch_add_explicit(&local->nodes->count, 1, memory_order_relaxed);
    if (has_handle(inode))
        list_node(local, inode);
}

/* The descriptor the node has now: fd, or that of another thread that was quicker. */
static int settle(struct local *local, struct inode *inode, int fd)
{
    int none = -1;

    if (!atomic_compare_exchange_strong_explicit(&inode->fd, &none, fd, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        close(fd);
        return none;
    }
    atomic_fetch_add_explicit(&local->nodes->count, 1, memory_order_relaxed);
    list_node(local, inode);
    return fd;
}

void node_offer(struct local *local, struct inode *inode, int fd)
{
    if (fd >= 0)
        settle(local, inode, fd);
}

void node_gone(struct local *local, struct inode *inode)
{
    int fd = atomic_exchange_explicit(&inode->fd, -1, memory_order_acquire);

    if (fd >= 0)
        close_all(local->nodes, &fd, 1);
}

/* ENOMEM is also what the kernel says while it makes a new file with the number in the handle: an
 * instant later the handle is stale. */
static int open_by_handle(int mount_fd, void *file_handle, int flags)
{
    const struct timespec instant = {.tv_nsec = 50000};
    int tries = 20, fd;

    while ((fd = open_by_handle_at(mount_fd, file_handle, flags | O_CLOEXEC)) < 0 &&
           errno == ENOMEM && --tries > 0)
        nanosleep(&instant, NULL);
    return fd < 0 ? -errno : fd;
}

int node_open_handle(struct local *local, uint32_t mount, void *file_handle, int flags)
{
    int mount_fd = mount_at(local->mounts, mount)->fd;
    int fd = open_by_handle(mount_fd, file_handle, flags);

    if (fd < 0 && node_make_room(local, fd, flags & O_PATH ? 0 : NODE_RESERVE))
        fd = open_by_handle(mount_fd, file_handle, flags);
    return fd < 0 ? node_errno(fd) : fd;
}

static int open_key(struct local *local, const struct inode *inode, int flags)
{
    struct handle_at handle;

    handle.fh.handle_bytes = inode->key_len;
    handle.fh.handle_type = inode->key_type;
    memcpy(handle.fh.f_handle, inode_key_bytes(inode), inode->key_len);
    return node_open_handle(local, inode->mount, &handle.fh, flags);
}

int node_fd(struct local *local, struct inode *inode)
{
    int fd = atomic_load_explicit(&inode->fd, memory_order_acquire);

    if (fd >= 0) {
        /* looked at first: a store would take the cache line from the other queues each time */
        if (!atomic_load_explicit(&inode->recent, memory_order_relaxed))
            atomic_store_explicit(&inode->recent, 1, memory_order_relaxed);
        return fd;
    }
    fd = open_key(local, inode, O_PATH);
    return fd < 0 ? fd : settle(local, inode, fd);
}

bool node_has_fd(struct inode *inode)
{
    return atomic_load_explicit(&inode->fd, memory_order_acquire) >= 0;
}

void node_reopen(struct local *local, struct inode *inode)
{
    if (!node_has_fd(inode) && node_cache_count(local->nodes) < local->nodes->limit)
        node_fd(local, inode);
}

int node_path(struct local *local, struct inode *inode, char *buf)
{
    int fd = node_fd(local, inode);

    if (fd < 0)
        return fd;
    snprintf(buf, NODE_PATH, "/proc/self/fd/%d", fd);
    return 0;
}

int node_open(struct local *local, struct inode *inode, int flags)
{
    char path[NODE_PATH];
    int fd;

    /* Opening a device, a FIFO or a socket acts on the host; guests open their own. */
    if (!(flags & O_PATH) && inode->type != S_IFREG && inode->type != S_IFDIR)
        return inode->type == S_IFLNK ? -ELOOP : -ENXIO;
    flags &= ~(O_CREAT | O_EXCL | O_NOFOLLOW);
    if (has_handle(inode)) {
        fd = open_key(local, inode, flags);
        /* its last name is gone: a descriptor that is still there leads to it all the same */
        if (fd != -ESTALE || atomic_load_explicit(&inode->fd, memory_order_relaxed) < 0)
            return fd;
    }
    fd = node_path(local, inode, path);
    if (fd < 0)
        return fd;
    fd = open(path, flags | O_CLOEXEC);
    if (fd < 0 && node_make_room(local, -errno, NODE_RESERVE))
        fd = open(path, flags | O_CLOEXEC);
    return fd < 0 ? node_errno(-errno) : fd;
}

/* Change the count of holds by one; at HELD_FOR_GOOD it stays, at 0 it goes no lower. Returns
 * whether there is a hold afterwards. */
static bool count_hold(struct inode *inode, int change)
{
    uint8_t old = atomic_load_explicit(&inode->held, memory_order_relaxed);
    uint8_t new;

    do {
        new = (uint8_t)(old + change);
        if (old == HELD_FOR_GOOD || (old == 0 && change < 0))
            return old > 0;
    } while (!atomic_compare_exchange_weak_explicit(&inode->held, &old, new, memory_order_relaxed,
                                                    memory_order_relaxed));
    return new > 0;
}

void node_hold(struct local *local, struct inode *inode)
{
    count_hold(inode, 1);
    node_fd(local, inode);
}

void node_unhold(struct local *local, struct inode *inode)
{
    if (!count_hold(inode, -1) && has_handle(inode) &&
        atomic_load_explicit(&inode->fd, memory_order_relaxed) >= 0)
        list_node(local, inode);
}
