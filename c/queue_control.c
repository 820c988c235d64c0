/* SPDX-License-Identifier: Apache-2.0
 *
 * The life of a queue: started, told and stopped by the control thread, which waits for each
 * answer; what it asks for is done by the queue thread itself, between two batches, since nobody
 * else may touch its ring or its virtqueue.
 */
#include "queue.h"

#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "clock.h"
#include "dispatch.h"
#include "event_log.h"
#include "fs.h"
#include "mailbox.h"
#include "plane.h"
#include "pool.h"

/* GET_VRING_BASE blocks the VMM's main loop. What is in flight has half a second to end by itself,
 * then it is cancelled; what not even that ends (a disk that hangs) is answered EIO and left. */
enum { STOP_CANCEL_NS = 500000000, STOP_ABANDON_NS = 900000000 };

enum { QUEUE_STACK = 1 << 20 }; /* a sanitizer's frames are several times ours */

static void slots_prepare(struct queue *queue)
{
    struct queue_arena *arena = queue->arena;

    queue->free = NULL;
    for (uint32_t i = arena->slots; i-- > 0;) {
        struct fuse_req *req = &arena->reqs[i];

        req->queue = queue;
        req->arena = arena;
        req->fs = queue->plane->fs;
        req->iov = &arena->iovs[(size_t)i * FUSE_REQ_IOVS];
        req->next = queue->free;
        queue->free = req;
    }
}

/* ---- queue thread: beginning and end ---- */

static int thread_prepare(struct queue *queue)
{
    char name[16];
    int err;

    snprintf(name, sizeof(name), "ovfs-queue-%u", queue->index % 1000);
    prctl(PR_SET_NAME, name);
    err = cred_init(&queue->cred);
    if (err < 0)
        return err;
    err = ring_init(&queue->ring, queue->arena->slots < 128 ? 128 : queue->arena->slots,
                    queue->plane->options.plain_rings, queue->vring.kick_fd, queue->doorbell_fd);
    if (err < 0)
        return err;
    err = cred_personalities(&queue->cred, &queue->ring.uring);
    if (err < 0)
        ring_exit(&queue->ring);
    return err;
}

static void use_call(struct queue *queue, int fd)
{
    queue->call_fd = fd;
    queue->call_blocks = fd >= 0 && !(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

static void tell_control(struct queue *queue, int result)
{
    pthread_mutex_lock(&queue->lock);
    queue->result = result;
    atomic_store(&queue->command, QUEUE_NONE);
    pthread_cond_signal(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
}

static void *queue_main(void *arg)
{
    struct queue *queue = arg;
    int err = thread_prepare(queue);

    tell_control(queue, err);
    if (err < 0)
        return NULL;
    queue_run(queue);
    ring_exit(&queue->ring);
    tell_control(queue, 0);
    return NULL;
}

/* ---- queue thread: commands ---- */

static void each_elsewhere(struct queue *queue, void (*act)(struct queue *, struct fuse_req *))
{
    for (uint32_t i = 0; i < queue->arena->slots; i++)
        if (queue->arena->reqs[i].elsewhere)
            act(queue, &queue->arena->reqs[i]);
}

/* What is in the mailbox is answered, and nobody is waited for. */
static void give_up_mail(struct queue *queue, struct fuse_req *req, bool changes)
{
    int err;

    if (mail_give_up(req, changes, &err))
        queue_finish(queue, req, err);
}

static void cancel_one(struct queue *queue, struct fuse_req *req)
{
    if (req->mail)
        give_up_mail(queue, req, false);
    else
        ring_cancel(&queue->ring, req);
}

static void abandon_one(struct queue *queue, struct fuse_req *req)
{
    if (req->mail)
        give_up_mail(queue, req, true);
    else
        queue_finish(queue, req, -EIO);
}

/* Nothing that is given up in the mailbox can still touch guest memory, so these do not count. */
static void count_hung(struct queue *queue, struct fuse_req *req)
{
    queue->gave_up = queue->gave_up || !req->mail;
}

/* Step by step, between batches: cancel, give up, and at the end leave. */
static bool stop(struct queue *queue)
{
    uint64_t now = clock_ns();

    if (queue->stop_ns == 0)
        queue->stop_ns = now;
    queue->drained = true;
    if (queue->waiting > 0)
        pool_cancel(queue_pool(queue), queue, 0);
    if (queue->in_flight == 0)
        return false;
    if (now - queue->stop_ns > STOP_CANCEL_NS && !queue->stop_cancelled) {
        queue->stop_cancelled = true;
        each_elsewhere(queue, cancel_one);
    }
    if (now - queue->stop_ns > STOP_ABANDON_NS) {
        if (!queue->stop_abandoned)
            event_log(&queue->plane->log, OVFS_EVENT_WARNING,
                      "queue %u: %u requests did not end in time and were answered EIO",
                      queue->index, queue->in_flight);
        queue->stop_abandoned = true;
        pool_abandon(queue_pool(queue), queue);
        /* What was given back in time has its result; from here on nothing more is, but for mail
         * that is being answered this very moment. */
        queue_collect_posted(queue);
        each_elsewhere(queue, count_hung);
        each_elsewhere(queue, abandon_one);
    }
    return true;
}

/* Given back by free_slot, which sees that it is no longer the queue's. */
static void keep_mem(struct queue *queue, struct fuse_req *req)
{
    if (req->mem == queue->mem)
        guest_mem_ref(req->mem);
}

/* With nothing in flight but what waits for somebody: change over to the new memory table. */
static void swap_mem(struct queue *queue)
{
    int err;

    queue->drained = queue->in_flight > queue->waiting;
    if (queue->drained)
        return;
    each_elsewhere(queue, keep_mem);
    guest_mem_unref(queue->mem);
    queue->mem = guest_mem_ref(queue->new_mem);
    err = virtq_map(&queue->vq, queue->mem);
    if (err < 0)
        queue_break(queue, "its rings are not in the new memory table");
    tell_control(queue, 0);
}

static void set_call(struct queue *queue)
{
    /* What is on its way to the old descriptor is submitted before that closes. */
    ring_enter(&queue->ring, RING_SUBMIT, 0);
    if (queue->call_fd >= 0)
        close(queue->call_fd);
    use_call(queue, queue->new_call_fd);
    /* The driver may have polled in between; one interrupt too many is allowed. */
    queue_notify(queue);
    tell_control(queue, 0);
}

static void check_memory(struct queue *queue)
{
    struct ovfs_plane *plane = queue->plane;

    if (!atomic_load_explicit(&plane->mem_failed, memory_order_relaxed))
        return;
    queue_break(queue, "guest memory is gone: its file was truncated");
    if (!atomic_exchange(&plane->failure_told, true))
        event_log(&plane->log, OVFS_EVENT_DEVICE_FAILED,
                  "the VMM truncated the file behind guest memory");
}

bool queue_obey(struct queue *queue)
{
    check_memory(queue);
    switch (atomic_load_explicit(&queue->command, memory_order_acquire)) {
    case QUEUE_STOP:
        return stop(queue);
    case QUEUE_SWAP_MEM:
        swap_mem(queue);
        break;
    case QUEUE_SET_CALL:
        set_call(queue);
        break;
    }
    return true;
}

/* ---- control thread ---- */

int queue_init(struct queue *queue, struct ovfs_plane *plane, uint32_t index)
{
    queue->plane = plane;
    queue->index = index;
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->changed, NULL);
    queue->doorbell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return queue->doorbell_fd < 0 ? -errno : 0;
}

void queue_destroy(struct queue *queue)
{
    if (queue->doorbell_fd >= 0)
        close(queue->doorbell_fd);
    pthread_cond_destroy(&queue->changed);
    pthread_mutex_destroy(&queue->lock);
}

static int dup_cloexec(int fd, int *out)
{
    *out = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return fd >= 0 && *out < 0 ? -errno : 0;
}

static void close_all(struct queue *queue)
{
    int fds[] = {queue->vring.kick_fd, queue->vring.err_fd, queue->call_fd};

    for (unsigned i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    queue->vring.kick_fd = queue->vring.err_fd = queue->call_fd = -1;
}

static int open_all(struct queue *queue, const struct ovfs_vring *vring)
{
    int call_fd, err;

    queue->vring = *vring;
    queue->vring.kick_fd = queue->vring.err_fd = queue->call_fd = -1;
    err = dup_cloexec(vring->kick_fd, &queue->vring.kick_fd);
    if (err == 0)
        err = dup_cloexec(vring->err_fd, &queue->vring.err_fd);
    if (err == 0)
        err = dup_cloexec(vring->call_fd, &call_fd);
    if (err == 0)
        use_call(queue, call_fd);
    return err;
}

/* Start the thread and wait until its ring stands. Signals are the control thread's: a queue
 * thread is born with all of them blocked (faults cannot be). */
static int thread_start(struct queue *queue)
{
    sigset_t all, before;
    pthread_attr_t attr;
    int err;

    atomic_store(&queue->command, QUEUE_STOP); /* any command: reset by tell_control */
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, QUEUE_STACK);
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGSEGV);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = -pthread_create(&queue->thread, &attr, queue_main, queue);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (err < 0)
        return err;
    pthread_mutex_lock(&queue->lock);
    while (atomic_load(&queue->command) != QUEUE_NONE)
        pthread_cond_wait(&queue->changed, &queue->lock);
    err = queue->result;
    pthread_mutex_unlock(&queue->lock);
    if (err < 0)
        pthread_join(queue->thread, NULL);
    return err;
}

/* Nobody waits for what the high-priority queue carries. */
static uint64_t poll_ns(const struct queue *queue)
{
    return queue->index > 0 ? queue->plane->fs->options.poll_ns : 0;
}

int queue_start(struct queue *queue, const struct ovfs_vring *vring)
{
    struct guest_mem *mem = queue->plane->mem;
    int err;

    if (queue->running)
        return -EBUSY;
    err = mem ? virtq_init(&queue->vq, vring, mem) : -EFAULT;
    if (err < 0)
        return err;
    queue->arena = queue_arena_new(vring->num < QUEUE_SLOTS ? vring->num : QUEUE_SLOTS);
    if (!queue->arena)
        return -ENOMEM;
    slots_prepare(queue);
    queue->mem = guest_mem_ref(mem);
    queue->broken = queue->drained = queue->stop_cancelled = queue->gave_up = false;
    queue->stop_abandoned = false;
    queue->stop_ns = 0;
    queue->ring_ns = queue->ring_seen = 0;
    queue->window = (struct poll_window){.max_ns = poll_ns(queue)};
    queue->in_flight = queue->waiting = 0;
    queue->done = NULL;
    queue->done_tail = &queue->done;
    atomic_store(&queue->posted, NULL);
    err = open_all(queue, vring);
    if (err == 0)
        err = thread_start(queue);
    if (err < 0) {
        close_all(queue);
        guest_mem_unref(queue->mem);
        queue_arena_unref(queue->arena);
        return err;
    }
    queue->running = true;
    return 0;
}

static int command(struct queue *queue, enum queue_command what)
{
    int result;

    pthread_mutex_lock(&queue->lock);
    atomic_store(&queue->command, what);
    queue_ring_doorbell(queue);
    while (atomic_load(&queue->command) != QUEUE_NONE)
        pthread_cond_wait(&queue->changed, &queue->lock);
    result = queue->result;
    pthread_mutex_unlock(&queue->lock);
    return result;
}

int queue_stop(struct queue *queue, uint32_t *base)
{
    if (!queue->running)
        return -ENOENT;
    command(queue, QUEUE_STOP);
    /* A thread with a request that hangs in the kernel cannot end before that does. */
    if (queue->gave_up)
        pthread_detach(queue->thread);
    else
        pthread_join(queue->thread, NULL);
    *base = queue->vq.last_avail;
    close_all(queue);
    /* Where one is left already, this one is never let go: a table for a queue that hung twice. */
    if (queue->gave_up && !queue->left_mem)
        queue->left_mem = queue->mem;
    else if (!queue->gave_up)
        guest_mem_unref(queue->mem);
    queue_arena_unref(queue->arena);
    queue->arena = NULL;
    queue->running = false;
    return 0;
}

int queue_set_call(struct queue *queue, int call_fd)
{
    int err;

    if (!queue->running)
        return -ENOENT;
    err = dup_cloexec(call_fd, &queue->new_call_fd);
    return err < 0 ? err : command(queue, QUEUE_SET_CALL);
}

int queue_swap_mem(struct queue *queue, const struct guest_mem *mem)
{
    if (!queue->running)
        return 0;
    queue->new_mem = mem;
    return command(queue, QUEUE_SWAP_MEM);
}
