/* SPDX-License-Identifier: Apache-2.0
 *
 * POSIX record locks of the guest, held on the host's files.
 *
 * DESIGN. A lock of fcntl(2) belongs to a process; the daemon is one process, the guest has many.
 * So each (node, lock owner) that ever locks gets a descriptor of its own on the file and locks
 * with F_OFD_SETLK, whose locks belong to that descriptor: two owners in one guest and two guests
 * on one directory exclude each other, and local programs too. The descriptor closes, and all its
 * locks go, when the owner closes the file in the guest (FLUSH), as POSIX wants it.
 *
 *      lock_owner_get -> fcntl on owner->fd -> lock_owner_put       any thread
 *      lock_release: out of the table at once, closed by the last who still uses it
 *
 * The table is bounded: an owner costs a descriptor. Owners are keyed by node id, which is never
 * used twice, so a forgotten node's owners cannot be mistaken for another's.
 */
#pragma once

#include <fcntl.h>
#include <stdint.h>
#include <sys/types.h>

struct inode;
struct local;
struct lock_table;

struct lock_owner {
    uint64_t nodeid;         /* constant */
    uint64_t owner;          /* constant: the guest kernel's scrambled owner */
    int fd;                  /* constant */
    uint32_t pid;            /* constant: the guest process that locked first */
    uint32_t users;          /* under the table's lock: the table's one included */
    struct lock_owner *next; /* under the table's lock: chain of the hash bucket */
};

/* Any thread, all of these. */

int lock_table_new(struct lock_table **out); /* 0 or -ENOMEM */
void lock_table_free(struct lock_table *table);

/* The owner's entry, for use until lock_owner_put; NULL: it holds nothing here. */
struct lock_owner *lock_owner_find(struct lock_table *table, uint64_t nodeid, uint64_t owner);

/* The same, made where there is none. inode: pinned, the node of nodeid. 0, -ENOLCK where the
 * table is full, or what opening the file met. */
int lock_owner_get(struct local *local, struct inode *inode, uint64_t nodeid, uint64_t owner,
                   uint32_t pid, struct lock_owner **out);
void lock_owner_put(struct lock_table *table, struct lock_owner *owner);

/* The guest process that holds the lock which F_OFD_GETLK found in the way of `asked`, where it is
 * an owner of this table; 0 where it is not. */
uint32_t lock_holder_pid(struct lock_table *table, uint64_t nodeid, const struct flock *asked,
                         const struct flock *found);

/* FLUSH: the owner closes the file, its locks on this node go. */
void lock_release(struct lock_table *table, uint64_t nodeid, uint64_t owner);

/* The session ended: all locks go. */
void lock_release_all(struct lock_table *table);
