/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads for system calls that block and that io_uring does not have.
 *
 * DESIGN. Two kinds of work. pool_submit is for calls that end by themselves (copy_file_range,
 * syncfs): a few threads take them in order. pool_submit_wait is for calls that wait for somebody
 * else (a lock): each gets a thread of its own, so that the unlock never queues behind the lock;
 * their number is bounded by a quarter of the queue's slots, then -ENOLCK. Either way the request
 * comes back through queue_post, and the queue thread answers it. Threads end when they have been
 * idle for a while; a plane that needs none has none.
 *
 * A pool thread has CAP_FSETID only for requests whose work_fsetid says so: what others write
 * clears set-id bits.
 */
#pragma once

#include <stdint.h>

struct fuse_req;
struct pool;
struct queue;

int pool_new(struct pool **out);
/* No queue runs any more. Waits for every thread. */
void pool_free(struct pool *pool);

/* Queue thread of the request. req->work is set. FUSE_LATER, or -EAGAIN where no thread can be
 * made. */
int pool_submit(struct fuse_req *req);

/* As pool_submit for a call that may wait for ever; -ENOLCK beyond the bound. `work` must return
 * -EINTR when a signal interrupts it. */
int pool_submit_wait(struct fuse_req *req);

/* Interrupt one waiting request of this queue by its FUSE unique id, or all with unique 0. A signal
 * that comes just before the call it is to interrupt is lost, so this is to be called until the
 * request is back. Queue thread. Returns how many were told. */
unsigned pool_cancel(struct pool *pool, struct queue *queue, uint64_t unique);

/* The queue stops and has answered what the pool still works on for it: results are thrown away,
 * and each such request keeps its arena until then. Queue thread. */
void pool_abandon(struct pool *pool, struct queue *queue);
