/* SPDX-License-Identifier: Apache-2.0
 *
 * The file systems met below the root: each with a real descriptor, which open_by_handle_at and
 * syncfs need, for as long as the guest knows a node on it (a mount that is held open cannot be
 * unmounted).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct mount {
    int mnt_id;          /* constant while nodes > 0: what name_to_handle_at calls mount_id */
    int fd;              /* constant while nodes > 0: real descriptor, or -1: could not be opened */
    uint64_t dev;        /* constant while nodes > 0: stx_dev as makedev */
    int64_t fs_type;     /* constant while nodes > 0: statfs's f_type */
    bool handles;        /* constant while nodes > 0: nodes here are found by handle */
    bool ino_handles;    /* constant while nodes > 0: handle_at_ino finds the number in a handle */
    bool nowait;         /* constant while nodes > 0: RWF_NOWAIT reads work */
    bool memory_fs;      /* constant while nodes > 0: tmpfs, ramfs */
    bool steady_ino;     /* constant while nodes > 0: an inode in use shares its number with none */
    uint32_t nodes;      /* under the table's lock: known nodes on it; 0: a free entry */
    _Atomic bool warned; /* any thread, atomic: the log has the line about missing handles */
    _Atomic uint64_t slow_until_ns; /* inline writes were throttled: use the ring until then */
};

struct mount_table;

int mount_table_new(struct mount_table **out);
void mount_table_free(struct mount_table *table);

/* Any thread, all of these. */

/* The mount that `fd` (O_PATH is enough) lies on, one node counted on it: index, or -errno.
 * may_handle: whether this daemon can open handles at all. A mount met for the first time costs
 * some system calls, made without the table's lock. Only a directory or a regular file is opened
 * for its descriptor, never a FIFO or a device; a mount that consists of such a thing has none. */
int mount_enter(struct mount_table *table, int fd, int mnt_id, bool may_handle);
/* Count one more node on a mount that the caller knows a node of. */
void mount_count_node(struct mount_table *table, uint32_t index);
void mount_leave(struct mount_table *table, uint32_t index); /* a node of it is gone */
/* The index of a known mount, or -1. Nothing is counted: it may go as soon as this returns, so
 * compare mnt_id again once a node on it is pinned. */
int mount_find(struct mount_table *table, int mnt_id);
/* The entry; its constants stand while the caller has a node of it pinned. */
struct mount *mount_at(struct mount_table *table, uint32_t index);
/* Whether mount_sync reaches what lies there; the caller need not have a node of it pinned. */
bool mount_is_open(struct mount_table *table, uint32_t index);
/* Write back every file system that could be opened. Blocks. 0 or the first -errno. */
int mount_sync(struct mount_table *table);
uint32_t mount_count(struct mount_table *table);
/* Ask the kernel whether anything has been mounted or unmounted on this host since it was asked. */
void mount_look(struct mount_table *table);
uint32_t mount_epoch(const struct mount_table *table); /* another number once a look saw that */
