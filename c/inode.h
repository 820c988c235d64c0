/* SPDX-License-Identifier: Apache-2.0
 *
 * The nodes a guest knows: node id <-> inode, with lookup counts.
 *
 * DESIGN. A node's key is what identifies the object behind it for good (mount + file handle, or
 * mount + device + inode number while a descriptor pins it). The key's hash picks one of 64 shards;
 * a shard's lock guards its chains and the lookup counts of its nodes and is held for a few
 * memory accesses, never across a file system call. The lookup count is added before the reply is
 * published; inode_forget takes it back, also for a reply that could not be delivered.
 *
 *      in the table  <=>  lookups > 0 (the root: always)  <=>  its id can be pinned
 *
 * A node that is forgotten while requests have it pinned leaves the table at once and lives on
 * without a name until the last pin goes; a LOOKUP of the same object meanwhile makes a new node
 * with another id.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slab.h"

enum { INODE_KEY_INLINE = 32 };

struct inode_key {
    uint32_t mount; /* index in the mount table */
    uint16_t type;  /* handle type, or INODE_KEY_INO for device + inode number */
    uint8_t len;    /* bytes; 128 at most (MAX_HANDLE_SZ) */
    const void *bytes;
};

enum { INODE_KEY_INO = 0xffff };

struct inode {
    struct slab_slot slot;
    uint64_t lookups;       /* under the shard's lock */
    uint32_t next;          /* under the shard's lock: chain of the hash bucket */
    uint32_t hash;          /* constant */
    _Atomic int fd;         /* any thread, atomic: O_PATH descriptor or -1; see local/node.c */
    _Atomic uint8_t recent; /* any thread, atomic: used since the descriptor cache looked */
    _Atomic uint8_t held;   /* any thread, atomic: reasons to keep the descriptor; see node_hold */
    bool listed;            /* under the descriptor cache's lock: it is in its list */
    uint8_t key_len;        /* constant */
    uint32_t mount;         /* constant: index in the mount table */
    uint16_t key_type;      /* constant */
    uint16_t type;          /* constant: S_IFMT bits of st_mode */
    union {
        uint8_t key[INODE_KEY_INLINE]; /* constant */
        void *key_far;                 /* constant; owned: keys longer than INODE_KEY_INLINE */
    };
};

_Static_assert(sizeof(struct inode) <= 72, "a million known files must cost little");

struct inode_table;

/* slot_size: of what a backend keeps for a node; it begins with the struct inode and is zero when
 * the node is made. on_destroy: called without locks when a node is freed (close its descriptor,
 * count its mount). */
int inode_table_new(size_t slot_size, void (*on_destroy)(struct inode *inode, void *context),
                    void *context, struct inode_table **out);
void inode_table_free(struct inode_table *table); /* destroys every node, the root too */

/* Any thread, all of these. NULL: this session does not hold it; the caller answers ESTALE. */
struct inode *inode_pin(struct inode_table *table, uint64_t nodeid);
void inode_unpin(struct inode_table *table, struct inode *inode);
uint64_t inode_id(struct inode_table *table, const struct inode *inode);

/* The node of a key, pinned, one lookup added if `count`; NULL: unknown. */
struct inode *inode_find(struct inode_table *table, const struct inode_key *key, bool count);

/* Add a lookup to a pinned node. False: it has been forgotten, and no lookup counts any more. */
bool inode_count_lookup(struct inode_table *table, struct inode *inode);

/* The node of a key, found or made, pinned, one lookup added. *made: it is a new node and fd
 * (O_PATH, or -1) belongs to it; otherwise, and on failure, fd stays the caller's. The first node
 * ever made is the root. NULL: -ENFILE. */
struct inode *inode_enter(struct inode_table *table, const struct inode_key *key, uint16_t type,
                          int fd, bool *made);

/* Take lookups back; more than there are clamps at 0. At 0 the node leaves the table. The root
 * (FUSE_ROOT_ID) stays. Unknown ids are ignored. */
void inode_forget(struct inode_table *table, uint64_t nodeid, uint64_t lookups);
void inode_forget_all(struct inode_table *table); /* all but the root */

/* For the descriptor cache: see slab_trylock. */
struct inode *inode_trylock(struct inode_table *table, uint64_t nodeid, bool *gone);
void inode_unlock(struct inode_table *table, struct inode *inode);

/* The key in one piece; valid while the inode is pinned. */
const void *inode_key_bytes(const struct inode *inode);
uint32_t inode_count(struct inode_table *table);
