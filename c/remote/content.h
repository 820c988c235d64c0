/* SPDX-License-Identifier: Apache-2.0
 *
 * The bytes of one remote file, as the data plane knows them: what is in which cache file.
 *
 *      write layer    | page | page |      |      |      |  . . .        the guest's own bytes
 *      base layer     |   block     |   missing   | block|               the stored object's
 *                     0                               base_size     size
 *                                                          `- zeros -'
 *
 * DESIGN. A byte comes from the write layer if its page is present there, else, below base_size,
 * from the base layer, else it is a zero. Readers look a run of one source up under `lock`, pin its
 * segment and read without the lock. A WRITE puts its bytes into the file first and marks the pages
 * after, so a reader meets the old bytes or the new ones. Whoever replaces absent pages, moves an
 * end or seals (fill, truncate, seal) takes `change` for writing; each WRITE holds it for reading.
 *
 * Kept throughout: base_size <= size, and in a file of the write layer the bytes at or beyond
 * base_size that belong to no present page, and all beyond size, are zeros. So a write need not
 * clear the rest of its page, and growing a file changes nothing but its size.
 *
 * Lock order: change, then lock. Any thread, all of what is here.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../api.h"
#include "segment.h"

/* Segments of one layer, by index. */
struct layer {
    struct segment **segments; /* `count` of them, owned; room for `room` */
    uint32_t count, room;
};

struct ovfs_content {
    _Atomic uint32_t refs;   /* any thread, atomic */
    _Atomic uint32_t cuts;   /* written under lock: how often bytes were cut off; see content_cut */
    atomic_bool lost;        /* any thread, atomic */
    _Atomic uint64_t mark;   /* any thread, atomic: OVFS_NOTE_READ is due beyond it */
    pthread_rwlock_t change; /* see above; held across writes to cache files */
    pthread_mutex_t lock;    /* guards what follows; held for a few memory accesses */
    struct layer layers[2];  /* by enum ovfs_layer; write segments stay for good */
    struct ovfs_content_state state; /* base_size: written under both locks */
    uint64_t notify_at;
    bool unsettled; /* something beside the bytes is to be stored */
};

/* ---- references ---- */

struct ovfs_content *content_ref(struct ovfs_content *content);
/* A handle's reference; counted in state.handles. */
struct ovfs_content *content_open(struct ovfs_content *content);
void content_close(struct ovfs_content *content); /* NULL is allowed */

/* Another writer's version has taken its place. */
static inline bool content_is_lost(const struct ovfs_content *content)
{
    return atomic_load_explicit(&content->lost, memory_order_relaxed);
}

/* A reader got to `end`: whether that is beyond the mark. Says so once. */
static inline bool content_passes_mark(struct ovfs_content *content, uint64_t end)
{
    uint64_t mark = atomic_load_explicit(&content->mark, memory_order_relaxed);

    return end > mark &&
           atomic_compare_exchange_strong_explicit(&content->mark, &mark, UINT64_MAX,
                                                   memory_order_relaxed, memory_order_relaxed);
}

/* Nothing has changed since it was stored. */
bool content_is_stored(struct ovfs_content *content);

/* ---- reading: extent.c ---- */

/* Bytes of one source, in one file. */
struct content_run {
    enum ovfs_source source;
    uint32_t cuts;
    uint64_t len;            /* 0: the file ends here */
    struct segment *segment; /* OVFS_SOURCE_BASE and _WRITE: pinned; the caller unpins it */
    off_t at;                /* where they lie in the segment's file */
};

void content_run(struct ovfs_content *content, uint64_t offset, uint64_t len,
                 struct content_run *out);

/* Whether a truncation has come since the run was looked up: what was read by it may have been
 * cut off meanwhile, and is to be looked up again. */
static inline bool content_cut(const struct ovfs_content *content, const struct content_run *run)
{
    return atomic_load_explicit(&content->cuts, memory_order_acquire) != run->cuts;
}

/* ---- writing: content_write.c ---- */

/* Who writes: the guest is bound to what ovfs_content_writable and ovfs_content_seal say, and what
 * it writes is told; the control plane's own calls are neither. */
enum content_writer { CONTENT_GUEST, CONTENT_SELF };

/* What the write of a range needs, until content_write_end. */
struct content_write {
    struct ovfs_content *content;
    enum content_writer writer;
    uint64_t offset;
    uint64_t len;
};

/* Begin to write a range (not empty, and within INT64_MAX). Waits while a fill or the like is under
 * way. 0: to be ended by the same thread. -EAGAIN: the control plane has to do something first, and
 * nothing was begun. */
int content_write_begin(struct ovfs_content *content, enum content_writer writer, uint64_t offset,
                        uint64_t len, struct content_write *out);

/* The file for the bytes from `offset` of the range on, at *at in it; *len: at most so many. */
int content_write_fd(const struct content_write *write, uint64_t offset, off_t *at, uint64_t *len);

/* `done` bytes, from the beginning, are in their files. Returns how many of them count: where
 * writing stopped midway in a page whose rest is not there, less. *note: OVFS_NOTE_WROTE is due. */
uint64_t content_write_end(const struct content_write *write, uint64_t done, bool *note);

/* ---- between the files of this module; under content->lock ---- */
struct segment *content_segment(const struct ovfs_content *content, enum ovfs_layer layer,
                                uint64_t index);
/* The first segment of a layer whose index is at least `index`; NULL: there is none. */
struct segment *content_segment_from(const struct ovfs_content *content, enum ovfs_layer layer,
                                     uint64_t index);
