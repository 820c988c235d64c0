/* SPDX-License-Identifier: Apache-2.0
 *
 * Open files and directories: what FUSE calls fh.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "slab.h"

struct dir_buf;
struct listing;
struct ovfs_content;

struct handle {
    struct slab_slot slot;
    uint64_t nodeid; /* constant: the node it was opened on */
    int fd;          /* constant; closed at pin 0 after RELEASE; -1 for a remote one */
    int flags;       /* constant: O_ACCMODE, O_APPEND, O_DIRECT as opened on the host, or all
                      * the guest's flags for a remote one */
    uint64_t ino;    /* constant; remote: ino of the node */
    struct ovfs_content *content; /* constant; remote files: counted */
    bool is_dir;                  /* constant */
    bool nowait;                  /* constant: preadv2(RWF_NOWAIT) works on its file system */
    bool memory_fs;               /* constant: tmpfs or ramfs: a read never waits for a device */
    bool published;               /* set by handle_id before others can pin it */
    uint32_t mount;               /* constant: index in the mount table */
    pthread_mutex_t lock;         /* guards what follows; held for one getdents at most */
    struct dir_buf *dir;     /* under lock; NULL until the first READDIR; one malloc, freed here */
    struct listing *listing; /* under lock; remote directories: counted; NULL likewise */
};

/* Table of a plane; any thread. */
struct handle_table;
/* on_destroy (may be NULL): called without locks when a handle is freed. */
int handle_table_new(void (*on_destroy)(struct handle *handle, void *context), void *context,
                     struct handle_table **out);
void handle_table_free(struct handle_table *table);

/* Takes fd over (closes it on failure too). Returns it pinned, or NULL: -ENFILE. No fh names it
 * yet: the caller fills in what is constant, then asks for its id. */
struct handle *handle_new(struct handle_table *table, uint64_t nodeid, int fd);
/* The fh for the reply. From the first call on the guest may use it. */
uint64_t handle_id(struct handle_table *table, struct handle *handle);
/* NULL: not held, or of another node. The caller answers EBADF. */
struct handle *handle_pin(struct handle_table *table, uint64_t fh, uint64_t nodeid);
void handle_unpin(struct handle_table *table, struct handle *handle);
/* RELEASE, or an OPEN that failed after handle_new: no new pins; the descriptor closes when the
 * last request on it ends. The caller keeps its pin. */
void handle_release(struct handle_table *table, struct handle *handle);
void handle_release_all(struct handle_table *table);
void handle_each(struct handle_table *table, void (*visit)(struct handle *handle, void *context),
                 void *context);
uint32_t handle_count(struct handle_table *table);
