/* SPDX-License-Identifier: Apache-2.0 */
#include "lock.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "local.h"

/* Owners that lock at the same time; each holds a descriptor, which come from the same limit as
 * everybody's open files. */
enum { OWNERS_MAX = 4096, BUCKETS = 256 };

struct lock_table {
    pthread_mutex_t lock;   /* guards the buckets; held for memory accesses and close only */
    _Atomic uint32_t count; /* written under lock; read without it: most tables are empty */
    struct lock_owner *buckets[BUCKETS]; /* under lock */
};

int lock_table_new(struct lock_table **out)
{
    struct lock_table *table = calloc(1, sizeof(*table));

    *out = table;
    if (!table)
        return -ENOMEM;
    pthread_mutex_init(&table->lock, NULL);
    return 0;
}

void lock_table_free(struct lock_table *table)
{
    if (!table)
        return;
    lock_release_all(table);
    pthread_mutex_destroy(&table->lock);
    free(table);
}

/* By node alone, so that lock_holder_pid finds the owners of a node in one chain. */
static struct lock_owner **bucket_of(struct lock_table *table, uint64_t nodeid)
{
    return &table->buckets[(nodeid * UINT64_C(0x9e3779b97f4a7c15)) >> 56];
}

_Static_assert(BUCKETS == 256, "the hash's upper 8 bits pick the bucket");

/* Under the lock. The link that points to the entry, or to the chain's end. */
static struct lock_owner **link_of(struct lock_table *table, uint64_t nodeid, uint64_t owner)
{
    struct lock_owner **link = bucket_of(table, nodeid);

    while (*link && ((*link)->nodeid != nodeid || (*link)->owner != owner))
        link = &(*link)->next;
    return link;
}

/* Under the lock. Closing takes the locks along. */
static void unref(struct lock_owner *entry)
{
    if (--entry->users > 0)
        return;
    close(entry->fd);
    free(entry);
}

/* Under the lock. */
static void unlink_entry(struct lock_table *table, struct lock_owner **link)
{
    struct lock_owner *entry = *link;

    *link = entry->next;
    atomic_fetch_sub(&table->count, 1);
    unref(entry);
}

struct lock_owner *lock_owner_find(struct lock_table *table, uint64_t nodeid, uint64_t owner)
{
    struct lock_owner *entry;

    if (atomic_load(&table->count) == 0)
        return NULL;
    pthread_mutex_lock(&table->lock);
    entry = *link_of(table, nodeid, owner);
    if (entry)
        entry->users++;
    pthread_mutex_unlock(&table->lock);
    return entry;
}

void lock_owner_put(struct lock_table *table, struct lock_owner *owner)
{
    pthread_mutex_lock(&table->lock);
    unref(owner);
    pthread_mutex_unlock(&table->lock);
}

/* For writing where that is possible, since a write lock wants it and the owner's first lock does
 * not tell what its next will be. A running program, a read-only mount or missing rights leave
 * reading: then a write lock is EBADF, as it is for a file opened for reading. */
static int open_for_locks(struct local *local, struct inode *inode)
{
    int fd = node_open(local, inode, O_RDWR | O_NONBLOCK);

    if (fd == -EACCES || fd == -EPERM || fd == -EROFS || fd == -ETXTBSY)
        fd = node_open(local, inode, O_RDONLY | O_NONBLOCK);
    return fd == -EMFILE || fd == -ENFILE ? -ENOLCK : fd;
}

/* Put the entry in, unless another thread was quicker: then that one is used and ours goes. */
static int insert(struct lock_table *table, struct lock_owner *entry, struct lock_owner **out)
{
    struct lock_owner **link;
    int err = 0;

    pthread_mutex_lock(&table->lock);
    link = link_of(table, entry->nodeid, entry->owner);
    if (!*link && atomic_load(&table->count) >= OWNERS_MAX) {
        err = -ENOLCK;
    } else if (!*link) {
        *link = entry;
        entry->users++;
        atomic_fetch_add(&table->count, 1);
        *out = entry;
    } else {
        (*link)->users++;
        *out = *link;
    }
    if (err < 0 || *out != entry)
        unref(entry);
    pthread_mutex_unlock(&table->lock);
    return err;
}

int lock_owner_get(struct local *local, struct inode *inode, uint64_t nodeid, uint64_t owner,
                   uint32_t pid, struct lock_owner **out)
{
    struct lock_owner *entry;
    int fd;

    *out = lock_owner_find(local->locks, nodeid, owner);
    if (*out)
        return 0;
    fd = open_for_locks(local, inode);
    if (fd < 0)
        return fd;
    entry = malloc(sizeof(*entry));
    if (!entry) {
        close(fd);
        return -ENOLCK;
    }
    *entry =
        (struct lock_owner){.nodeid = nodeid, .owner = owner, .fd = fd, .pid = pid, .users = 1};
    return insert(local->locks, entry, out);
}

/* Whether the lock that was found is the entry's own: then it is not in the entry's way, and the
 * same question through its descriptor has another answer. */
static bool is_own(const struct lock_owner *entry, const struct flock *asked,
                   const struct flock *found)
{
    struct flock probe = *asked;

    probe.l_pid = 0;
    if (fcntl(entry->fd, F_OFD_GETLK, &probe) < 0)
        return false;
    return probe.l_type == F_UNLCK || probe.l_type != found->l_type ||
           probe.l_start != found->l_start || probe.l_len != found->l_len;
}

uint32_t lock_holder_pid(struct lock_table *table, uint64_t nodeid, const struct flock *asked,
                         const struct flock *found)
{
    uint32_t pid = 0;

    if (atomic_load(&table->count) == 0)
        return 0;
    pthread_mutex_lock(&table->lock);
    for (struct lock_owner *entry = *bucket_of(table, nodeid); entry && !pid; entry = entry->next)
        if (entry->nodeid == nodeid && is_own(entry, asked, found))
            pid = entry->pid;
    pthread_mutex_unlock(&table->lock);
    return pid;
}

void lock_release(struct lock_table *table, uint64_t nodeid, uint64_t owner)
{
    struct lock_owner **link;

    if (atomic_load(&table->count) == 0)
        return;
    pthread_mutex_lock(&table->lock);
    link = link_of(table, nodeid, owner);
    if (*link)
        unlink_entry(table, link);
    pthread_mutex_unlock(&table->lock);
}

void lock_release_all(struct lock_table *table)
{
    pthread_mutex_lock(&table->lock);
    for (size_t i = 0; i < BUCKETS; i++)
        while (table->buckets[i])
            unlink_entry(table, &table->buckets[i]);
    pthread_mutex_unlock(&table->lock);
}
