/* SPDX-License-Identifier: Apache-2.0
 *
 * The data path of one virtqueue: queue_run is ARCHITECTURE.md's diagram as code. In: kicks,
 * completions, commands. Out: used entries and notifications. Queue thread.
 *
 *      obey -> take (pop, parse, dispatch) -> answer (reply, push, publish, notify) -> enter
 *        ^                                                                               |
 *        +--------------------- collect (completions, posts) <---------------------------+
 *
 * Fairness: a batch ends after BATCH_REQUESTS requests or BATCH_NS of work, so a large copy or a
 * slow file system does not hold back thirty small answers. The clock is read after requests that
 * may take long: small ones cost a microsecond or two, so that sixteen of them stay below the
 * limit, and would pay for it.
 */
#include "queue.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "cpu.h"
#include "dispatch.h"
#include "event_log.h"
#include "fs.h"
#include "fuse_reply.h"
#include "mailbox.h"
#include "plane.h"

enum { BATCH_REQUESTS = 16, BATCH_NS = 50000 };

/* Copying so much takes longer than a look at the clock by an order of magnitude. */
enum { LONG_BYTES = 16384 };

/* A queue without a kick descriptor looks at its avail ring this often. */
enum { POLL_NS = 1000000 };

/* The high-priority queue carries what nobody waits for, and a guest that drops its caches or
 * removes a tree sends it one by one. While it comes in, we ask to be woken for HIPRIO_AHEAD at
 * once, and look after HIPRIO_NS in any case: each wake-up costs more than a FORGET, on both sides.
 */
enum { HIPRIO = 0, HIPRIO_AHEAD = 16, HIPRIO_NS = 2000000 };

/* While a command waits for what is in flight, the clock has to be looked at. */
enum { DRAINING_NS = 10000000 };

/* A device with fewer operations than that may run dry, and the next end is what the guest waits
 * for. With more of them, ends come in bunches. */
enum { RING_FEW = 4 };

/* A device that has said nothing for so long is slow or stuck. */
enum { RING_QUIET_NS = 10000000 };

static void count(_Atomic uint64_t *counter, uint64_t by)
{
    /* One writer: a plain add, stored whole. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

void queue_finish(struct queue *queue, struct fuse_req *req, int result)
{
    req->result = result;
    req->elsewhere = false;
    req->next = NULL;
    *queue->done_tail = req;
    queue->done_tail = &req->next;
}

void queue_break(struct queue *queue, const char *why)
{
    uint64_t one = 1;

    if (queue->broken)
        return;
    queue->broken = true;
    event_log(&queue->plane->log, OVFS_EVENT_ERROR, "queue %u stopped: %s", queue->index, why);
    if (queue->vring.err_fd >= 0 && write(queue->vring.err_fd, &one, sizeof(one)) < 0)
        event_log(&queue->plane->log, OVFS_EVENT_WARNING, "queue %u: error eventfd: %s",
                  queue->index, strerrorname_np(errno));
}

static void bad_chain(struct queue *queue, struct fuse_req *req, const char *what)
{
    count(&queue->counters.bad_chains, 1);
    event_log_guest(&queue->plane->log, OVFS_EVENT_WARNING, "queue %u: %s at descriptor %u",
                    queue->index, what, req->head);
    req->reply_header_count = 0;
    queue_finish(queue, req, -EBADMSG);
}

/* The driver has read the last reply that went here. */
static void prefetch_reply(const struct fuse_req *req)
{
    if (req->reply_header_count > 0)
        cpu_prefetch_to_write(req->reply_header[0].iov_base);
    if (req->out.count > 0)
        cpu_prefetch_to_write(req->out.iov[0].iov_base);
}

/* Steps 4 to 6 for one chain. True: it may have taken long. */
static bool serve(struct queue *queue, struct fuse_req *req)
{
    struct fs *fs = queue->plane->fs;
    int result = fuse_req_parse(req, atomic_load_explicit(&fs->features, memory_order_relaxed));

    if (result == -EBADMSG) {
        bad_chain(queue, req, "no FUSE request");
        return false;
    }
    prefetch_reply(req);
    if (result == 0)
        result = dispatch(req);
    if (result == FUSE_LATER) {
        req->elsewhere = true;
        return false;
    }
    queue_finish(queue, req, result);
    return req->op && (req->op->flags & OP_LONG || req->out_len > LONG_BYTES);
}

/* Whether there is something to submit for a device that has hardly anything to do: it begins with
 * that while we prepare the rest of the batch. */
static bool device_waits(struct queue *queue)
{
    unsigned ready = ring_ready(&queue->ring);

    return ready >= RING_FEW && queue->ring.in_flight < ready + RING_FEW;
}

/* Steps 3 to 6: take requests until the ring or the batch's share is used up. True: the ring may
 * have more. */
static bool take(struct queue *queue)
{
    uint64_t start = 0;

    for (int n = 0; n < BATCH_REQUESTS; n++) {
        struct fuse_req *req = queue->free;
        int popped;

        if (!req || queue->broken || queue->drained)
            return false;
        popped = virtq_pop(&queue->vq, queue->mem, req);
        if (popped == 0)
            return false;
        if (popped == -EPIPE) {
            queue_break(queue, "the driver's avail index is impossible");
            return false;
        }
        if (n == 0)
            start = clock_ns();
        queue->free = req->next;
        queue->in_flight++;
        count(&queue->counters.requests, 1);
        if (popped < 0) {
            bad_chain(queue, req, "descriptor chain cannot be followed");
        } else if (serve(queue, req) && clock_ns() - start > BATCH_NS) {
            break;
        }
        if (device_waits(queue))
            ring_enter(&queue->ring, RING_SUBMIT, 0);
    }
    return virtq_ready(&queue->vq); /* where not, the batch's own enter sleeps */
}

static void free_slot(struct queue *queue, struct fuse_req *req)
{
    queue->in_flight--;
    if (req->mem != queue->mem)
        guest_mem_unref(req->mem); /* it waited for somebody while the memory table changed */
    req->next = queue->free;
    queue->free = req;
}

/* Whether a write to the call eventfd does not wait for anybody. */
static bool call_has_room(const struct queue *queue)
{
    struct pollfd call = {.fd = queue->call_fd, .events = POLLOUT};

    return !queue->call_blocks || poll(&call, 1, 0) == 1;
}

/* An enter that comes anyhow takes the notification with it. Where none would, as while the queue
 * polls, a write is less work and tells the guest sooner. The ring hands what may block to a kernel
 * thread, which takes longer than all else. */
void queue_notify(struct queue *queue)
{
    bool entering = queue->ring.in_flight > 0 || queue->window.now_ns == 0;
    uint64_t one = 1;

    if (queue->call_fd < 0)
        return;
    count(&queue->counters.interrupts, 1);
    if (entering && !queue->call_blocks)
        ring_notify(&queue->ring, queue->call_fd);
    /* A counter without room for one more (EAGAIN) tells the guest as well. */
    else if (call_has_room(queue) && write(queue->call_fd, &one, sizeof(one)) < 0 &&
             errno != EAGAIN)
        event_log_guest(&queue->plane->log, OVFS_EVENT_WARNING, "queue %u: call eventfd: %s",
                        queue->index, strerrorname_np(errno));
}

/* Steps 7 to 9: reply to what is done, publish it at once, notify the guest. */
static void answer(struct queue *queue)
{
    struct fuse_req *req = queue->done;
    uint64_t replies = 0;

    queue->done = NULL;
    queue->done_tail = &queue->done;
    while (req) {
        struct fuse_req *next = req->next;
        uint32_t len;

        /* First, since what it locks would wait until the reply's cache line is ours. */
        if (!req->abandoned)
            dispatch_done(req);
        len = fuse_reply(req, req->result);
        if (req->head != VIRTQ_NO_HEAD)
            virtq_push(&queue->vq, req->head, len);
        free_slot(queue, req);
        replies++;
        req = next;
    }
    if (replies == 0)
        return;
    count(&queue->counters.replies, replies);
    count(&queue->counters.batches, 1);
    if (virtq_publish(&queue->vq))
        queue_notify(queue);
}

static void complete(void *context, struct fuse_req *req, int res)
{
    int result;

    if (!req->elsewhere)
        return; /* a stop gave it up: it is answered, and what it had pinned is gone */
    result = req->on_cqe(req, res);
    if (result != FUSE_LATER)
        queue_finish(context, req, result);
}

void queue_collect_posted(struct queue *queue)
{
    struct fuse_req *req = atomic_exchange_explicit(&queue->posted, NULL, memory_order_acquire);

    while (req) {
        struct fuse_req *next = req->next;

        if (req->waits)
            queue->waiting--;
        if (req->mail)
            req->result = mail_continue(req);
        if (req->result != FUSE_LATER)
            queue_finish(queue, req, req->result);
        req = next;
    }
}

/* What the kernel, the pool and the control plane have finished. */
static void collect(struct queue *queue)
{
    ring_reap(&queue->ring, complete, queue);
    queue_collect_posted(queue);
}

void queue_ring_doorbell(struct queue *queue)
{
    uint64_t one = 1;

    /* Cannot fail: the counter never comes near its end, and the descriptor is ours. */
    while (write(queue->doorbell_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        continue;
}

void queue_post(struct queue *queue, struct fuse_req *req)
{
    req->next = atomic_load_explicit(&queue->posted, memory_order_relaxed);
    /* seq_cst: pairs with enter(): either the queue thread sees the post, or we see it asleep. */
    while (!atomic_compare_exchange_weak(&queue->posted, &req->next, req))
        continue;
    if (atomic_exchange(&queue->asleep, false))
        queue_ring_doorbell(queue);
}

static uint64_t longest_sleep(const struct queue *queue)
{
    if (queue->drained)
        return DRAINING_NS;
    if (queue->vring.kick_fd < 0)
        return POLL_NS;
    return queue->vq.ahead > 0 ? HIPRIO_NS : 0;
}

/* How many more requests to sleep through, if it is not for long. */
static uint16_t patience(struct queue *queue)
{
    uint64_t seen = atomic_load_explicit(&queue->counters.requests, memory_order_relaxed);
    bool busy = queue->index == HIPRIO && seen != queue->seen_asleep;
    unsigned most = queue->vq.num / 4u;

    queue->seen_asleep = seen;
    if (!busy)
        return 0;
    return (uint16_t)((HIPRIO_AHEAD < most ? HIPRIO_AHEAD : most) - 1);
}

/* Whether nothing has come since the last look. Once the driver and the other threads can see that
 * we sleep, each of their wishes is looked for once more. */
static bool may_sleep(struct queue *queue)
{
    queue->vq.ahead = patience(queue);
    if (queue->free && !queue->broken && !queue->drained && !virtq_sleep(&queue->vq))
        return false;
    atomic_store(&queue->asleep, true);
    if (atomic_load(&queue->posted))
        return false;
    return queue->drained || atomic_load(&queue->command) == QUEUE_NONE;
}

/* A sleep gathers a bunch of ends, which a look around would pick apart, at a call for each. What
 * is stuck is not waited for: others need not pay for it. */
static bool device_bunches(struct queue *queue, uint64_t now)
{
    if (queue->ring.sqes > 0 || queue->ring.in_flight != queue->ring_seen)
        queue->ring_ns = now;
    queue->ring_seen = queue->ring.in_flight;
    return queue->ring.in_flight >= RING_FEW && now - queue->ring_ns < RING_QUIET_NS;
}

static bool may_poll(struct queue *queue, uint64_t now)
{
    return !device_bunches(queue, now) && queue->window.now_ns > 0 && queue->free &&
           !queue->broken && !queue->drained;
}

static bool has_work(struct queue *queue)
{
    return virtq_ready(&queue->vq) || atomic_load_explicit(&queue->posted, memory_order_relaxed) ||
           atomic_load_explicit(&queue->command, memory_order_relaxed) != QUEUE_NONE ||
           (queue->ring.in_flight > 0 && ring_has_completions(&queue->ring));
}

/* Look for work during the window, from `now` on. Nothing asks the driver for kicks meanwhile.
 * True: there is some. */
static bool look_around(struct queue *queue, uint64_t now)
{
    struct poll_window *window = &queue->window;
    uint64_t end = now + window->now_ns, offer = now + POLL_OFFER_NS;

    ring_enter(&queue->ring, RING_SUBMIT, 0);
    for (; now < end; now = clock_ns()) {
        if (has_work(queue)) {
            poll_window_succeeded(window);
            return true;
        }
        if (now < offer) {
            cpu_relax();
        } else {
            sched_yield();
            poll_window_offered(window, now, clock_ns());
            offer = now + POLL_OFFER_NS;
        }
    }
    return false;
}

static void sleep_until_woken(struct queue *queue)
{
    ring_enter(&queue->ring, RING_SLEEP, longest_sleep(queue));
    virtq_wake(&queue->vq);
}

/* Steps 9 and 2: the batch's one io_uring_enter. Where nothing is left to do it sleeps, after a
 * look around (poll_window.h). */
static void enter(struct queue *queue, bool more)
{
    bool idle = !more && !queue->done;
    uint64_t since = idle && queue->window.max_ns > 0 ? clock_ns() : 0;

    atomic_store_explicit(&queue->counters.in_flight, queue->in_flight, memory_order_relaxed);
    if (idle && !(may_poll(queue, since) && look_around(queue, since)) && may_sleep(queue)) {
        sleep_until_woken(queue);
        if (since > 0)
            poll_window_slept(&queue->window, since, clock_ns());
    } else {
        ring_enter(&queue->ring, RING_SUBMIT, 0);
    }
    atomic_store_explicit(&queue->asleep, false, memory_order_relaxed);
    count(&queue->counters.enters, queue->ring.enters);
    count(&queue->counters.sqes, queue->ring.sqes);
    queue->ring.enters = queue->ring.sqes = 0; /* a ring lives for a run, the counters for all */
}

void queue_run(struct queue *queue)
{
    while (queue_obey(queue)) {
        bool more = take(queue);

        answer(queue);
        enter(queue, more);
        collect(queue);
    }
}

struct pool *queue_pool(struct queue *queue)
{
    return queue->plane->pool;
}
