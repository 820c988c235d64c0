/* SPDX-License-Identifier: Apache-2.0
 *
 * One virtqueue: one thread, one io_uring, one loop. All the state of a queue is in this struct.
 *
 *     control thread ---- command, doorbell ----> queue thread ----> ring, used ring
 *     pool threads ------ posted, doorbell -----^
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuse_req.h"
#include "guest_mem.h"
#include "local/cred.h"
#include "poll_window.h"
#include "ring.h"
#include "virtq.h"

struct ovfs_plane;
struct pool;

enum {
    QUEUE_SCRATCH = 1 << 17, /* the longest xattr value, twice */
    QUEUE_NAMES = 8192,      /* a name and a symlink target */
    QUEUE_EXT = 1 << 17,     /* a security context */
    QUEUE_SLOTS = 1024,      /* requests in flight, at most */
};

enum queue_command { QUEUE_NONE, QUEUE_STOP, QUEUE_SWAP_MEM, QUEUE_SET_CALL };

/* The memory of a queue's requests: outlives the queue's run when an abandoned request is still
 * with the kernel or a pool thread. */
struct queue_arena {
    _Atomic uint32_t refs; /* any thread, atomic: the run, and each request that is elsewhere */
    uint32_t slots;        /* constant */
    struct fuse_req *reqs; /* constant */
    struct iovec *iovs;    /* constant */
    char *scratch, *names, *ext; /* constant; contents: queue thread */
};

/* Control thread: one for `slots` requests, counted once. NULL: no memory. */
struct queue_arena *queue_arena_new(uint32_t slots);
void queue_arena_unref(struct queue_arena *arena); /* any thread */

/* One writer, the queue thread (pooled: whoever submits, which is the same); any thread reads. */
struct queue_counters {
    _Atomic uint64_t requests, replies, batches, interrupts, enters, bad_chains, sqes, pooled;
    _Atomic uint64_t in_flight;
};

struct queue {
    struct ovfs_plane *plane; /* constant */
    uint32_t index;           /* constant */
    int doorbell_fd;          /* constant: a pool thread may ring it after the queue's last run */

    /* control thread only */
    pthread_t thread;
    bool running;
    const struct guest_mem *left_mem; /* counted: what given-up requests may still write to */

    /* constant while it runs */
    struct ovfs_vring vring; /* kick_fd and err_fd are our own duplicates */
    struct queue_arena *arena;

    /* queue thread only */
    struct virtq vq;
    struct ring ring;
    struct cred cred;
    const struct guest_mem *mem; /* counted */
    int call_fd;                 /* ours */
    bool call_blocks;            /* the VMM has made it without O_NONBLOCK */
    bool broken;                 /* nothing more is taken; commands are still obeyed */
    bool drained;                /* nothing is taken until the command is done */
    uint64_t stop_ns;            /* when the stop was seen; 0: none */
    bool stop_cancelled, stop_abandoned;
    bool gave_up;         /* the stop left requests behind; the control thread's after it */
    uint64_t seen_asleep; /* requests taken when it last went to sleep */
    struct poll_window window;
    uint64_t ring_ns;   /* when the ring last had an operation begun or ended */
    unsigned ring_seen; /* operations in flight then */
    uint32_t in_flight; /* taken and not answered, on whatever list */
    uint32_t waiting;   /* of these: waiting for a lock, or in the mailbox */
    struct fuse_req *free, *done, **done_tail;

    /* any thread, atomic */
    _Atomic(struct fuse_req *) posted; /* back from the pool or by mail; a stack */
    atomic_bool asleep;                /* the doorbell is needed */

    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    _Atomic int command; /* written under lock; read without it by the queue thread */
    int result;          /* of starting, or of the command */
    const struct guest_mem *new_mem;
    int new_call_fd;

    struct queue_counters counters;
};

/* ---- queue thread: for handlers ---- */

static inline struct ring *queue_ring(struct queue *queue)
{
    return &queue->ring;
}

static inline struct cred *queue_cred(struct queue *queue)
{
    return &queue->cred;
}

/* QUEUE_SCRATCH bytes for one handler call; names of the request do not lie in it. */
static inline void *queue_scratch(struct queue *queue)
{
    return queue->arena->scratch;
}

/* Where fuse_req.c keeps the names and extensions of the request that is being handled. */
static inline char *queue_names(struct queue *queue)
{
    return queue->arena->names;
}

static inline char *queue_ext(struct queue *queue)
{
    return queue->arena->ext;
}

struct pool *queue_pool(struct queue *queue);

/* ---- any thread ---- */

/* Give a request back from a pool thread or the remote thread: wakes the queue. */
void queue_post(struct queue *queue, struct fuse_req *req);

void queue_ring_doorbell(struct queue *queue);

/* ---- control thread: queue_control.c ---- */
int queue_start(struct queue *queue, const struct ovfs_vring *vring);
int queue_stop(struct queue *queue, uint32_t *base);
int queue_set_call(struct queue *queue, int call_fd);
int queue_swap_mem(struct queue *queue, const struct guest_mem *mem);
int queue_init(struct queue *queue, struct ovfs_plane *plane, uint32_t index);
void queue_destroy(struct queue *queue); /* it is stopped, and the pool is gone */

/* ---- between queue.c and queue_control.c; queue thread ---- */
void queue_run(struct queue *queue);
void queue_notify(struct queue *queue); /* signals the call eventfd, if there is one */
/* Do what the control thread asks for. False: the run is over. */
bool queue_obey(struct queue *queue);
/* Take what others have given back. */
void queue_collect_posted(struct queue *queue);
/* The result is known: reply with this batch. */
void queue_finish(struct queue *queue, struct fuse_req *req, int result);
/* Nothing more is taken from the ring; one line says why. */
void queue_break(struct queue *queue, const char *why);
