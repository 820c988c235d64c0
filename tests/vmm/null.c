/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The null backend: the device's half of the rings, which answers any FUSE request at once. It is
 * there to measure the fake VMM itself (what is left when the daemon costs nothing) and to prove
 * its rings: in echo mode the reply carries the request's payload back, so every layout of
 * descriptors must gather and scatter to the same bytes.
 *
 * It trusts the driver, being its own: bounds are asserted by stopping the chain, nothing is
 * reported.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <linux/fuse.h>

#include "ring.h"

#define NULL_SLEEP  1u
#define NULL_ECHO   2u
#define NULL_SINGLE 4u
#define MAX_PIECES  4096
#define MAX_BATCH   16

struct piece {
    uint8_t *host;
    uint64_t len;
};

/* The bytes of one direction of a chain, in order. */
struct gather {
    unsigned count;
    uint64_t total;
    struct piece piece[MAX_PIECES];
};

struct null_queue {
    struct vmm_ring *ring; /* only its addresses, size and fds are read */
    uint16_t last_avail;
    uint16_t used_idx;
    uint16_t notified; /* used_idx at the last look at used_event */
};

/* Everything but stop belongs to the backend's thread. */
struct vmm_null {
    pthread_t thread;
    int stop_fd;
    int stop; /* any thread, atomic */
    unsigned flags;
    unsigned count;
    uint64_t answered;
    struct vmm_mem *mem;
    struct gather in, out;
    struct null_queue queue[];
};

static void gather_add(struct gather *gather, const struct vmm_mem *mem, uint64_t gpa, uint64_t len)
{
    while (len > 0 && gather->count < MAX_PIECES) {
        uint64_t part = len;
        uint8_t *host = mem_at(mem, gpa, &part);

        if (host == NULL)
            return;
        gather->piece[gather->count++] = (struct piece){host, part};
        gather->total += part;
        gpa += part;
        len -= part;
    }
}

/* Copies between a buffer and the gathered bytes from offset on. Returns the bytes copied. */
static uint64_t gather_copy(const struct gather *gather, uint64_t offset, void *buf, uint64_t len,
                            bool out)
{
    uint8_t *at = buf;
    uint64_t left = len;

    for (unsigned i = 0; i < gather->count && left > 0; i++) {
        const struct piece *p = &gather->piece[i];
        uint64_t n;

        if (offset >= p->len) {
            offset -= p->len;
            continue;
        }
        n = p->len - offset < left ? p->len - offset : left;
        if (out)
            memcpy(p->host + offset, at, n);
        else
            memcpy(at, p->host + offset, n);
        at += n;
        left -= n;
        offset = 0;
    }
    return len - left;
}

static void chain_gather(struct vmm_null *null, const struct vmm_ring *ring, uint16_t head)
{
    const struct vring_desc *table = ring->desc;
    unsigned size = ring->num, at = head, steps = 0;

    null->in.count = null->out.count = 0;
    null->in.total = null->out.total = 0;
    if (table[at].flags & VRING_DESC_F_INDIRECT) {
        size = table[at].len / sizeof(*table);
        table = vmm_mem_ptr(null->mem, table[at].addr, table[at].len);
        at = 0;
    }
    while (table != NULL && at < size && steps++ < size) {
        const struct vring_desc *d = &table[at];

        gather_add(d->flags & VRING_DESC_F_WRITE ? &null->out : &null->in, null->mem, d->addr,
                   d->len);
        if (!(d->flags & VRING_DESC_F_NEXT))
            return;
        at = d->next;
    }
}

static uint32_t reply_echo(struct vmm_null *null, struct fuse_out_header *header)
{
    uint64_t payload = null->in.total - sizeof(struct fuse_in_header), done = 0;

    if (payload + sizeof(*header) > null->out.total) {
        header->len = sizeof(*header);
        header->error = -E2BIG;
    } else {
        header->len = (uint32_t)(sizeof(*header) + payload);
        while (done < payload) {
            uint8_t buf[4096];
            uint64_t n =
                gather_copy(&null->in, sizeof(struct fuse_in_header) + done, buf,
                            payload - done < sizeof(buf) ? payload - done : sizeof(buf), false);

            gather_copy(&null->out, sizeof(*header) + done, buf, n, true);
            done += n;
        }
    }
    gather_copy(&null->out, 0, header, sizeof(*header), true);
    return header->len;
}

/* As much as was asked for, with 2 as node id or file handle, and the size of a WRITE as written.
 */
static uint32_t reply_canned(struct vmm_null *null, const struct fuse_in_header *in,
                             struct fuse_out_header *header)
{
    struct {
        struct fuse_out_header header;
        uint64_t value;
    } reply;
    uint64_t size = null->out.total;

    reply.value = 2;
    if (in->opcode == FUSE_WRITE) {
        uint32_t written = 0;

        gather_copy(&null->in, sizeof(*in) + offsetof(struct fuse_write_in, size), &written,
                    sizeof(written), false);
        reply.value = written;
    } else if (in->opcode == FUSE_READDIR || in->opcode == FUSE_READDIRPLUS) {
        size = sizeof(*header);
    }
    header->len = (uint32_t)size;
    reply.header = *header;
    gather_copy(&null->out, 0, &reply, size < sizeof(reply) ? size : sizeof(reply), true);
    return header->len;
}

static uint32_t answer(struct vmm_null *null, const struct vmm_ring *ring, uint16_t head)
{
    struct fuse_in_header in;
    struct fuse_out_header out = {0, 0, 0};

    null->answered++;
    chain_gather(null, ring, head);
    if (null->out.total < sizeof(out) ||
        gather_copy(&null->in, 0, &in, sizeof(in), false) != sizeof(in))
        return 0; /* FORGET, or something that cannot be answered */
    out.unique = in.unique;
    return null->flags & NULL_ECHO ? reply_echo(null, &out) : reply_canned(null, &in, &out);
}

static void notify(struct null_queue *queue)
{
    const struct vmm_ring *ring = queue->ring;
    uint16_t old = queue->notified;
    uint64_t one = 1;
    bool wanted;

    /* used->idx before the look at what the driver armed; pairs with ring_arm. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    queue->notified = queue->used_idx;
    if (ring->event_idx)
        wanted = vring_need_event(__atomic_load_n(ring_used_event(ring), __ATOMIC_RELAXED),
                                  queue->used_idx, old);
    else
        wanted =
            !(__atomic_load_n(&ring->avail->flags, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
    if (wanted && ring->call_fd >= 0 && write(ring->call_fd, &one, sizeof(one)) < 0)
        return; /* the counter is full: somebody has been told */
}

/* Answers one batch. Returns the number of requests in it. */
static unsigned queue_serve(struct vmm_null *null, struct null_queue *queue)
{
    struct vmm_ring *ring = queue->ring;
    unsigned batch = 0, max = null->flags & NULL_SINGLE ? 1 : MAX_BATCH;
    uint16_t idx = __atomic_load_n(&ring->avail->idx, __ATOMIC_ACQUIRE);

    while (queue->last_avail != idx && batch < max) {
        uint16_t head = ring->avail->ring[queue->last_avail++ & (ring->num - 1)];
        struct vring_used_elem *elem = &ring->used->ring[queue->used_idx++ & (ring->num - 1)];

        elem->id = head;
        elem->len = head < ring->num ? answer(null, ring, head) : 0;
        batch++;
    }
    if (batch == 0)
        return 0;
    __atomic_store_n(&ring->used->idx, queue->used_idx, __ATOMIC_RELEASE);
    notify(queue);
    return batch;
}

/* Says whether kicks are wanted from here on. */
static void queue_want_kicks(const struct null_queue *queue, bool wanted)
{
    const struct vmm_ring *ring = queue->ring;

    if (ring->event_idx)
        __atomic_store_n(ring_avail_event(ring),
                         (uint16_t)(queue->last_avail + (wanted ? 0 : 0x7fff)), __ATOMIC_RELAXED);
    else
        __atomic_store_n(&queue->ring->used->flags, wanted ? 0 : VRING_USED_F_NO_NOTIFY,
                         __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void null_sleep(struct vmm_null *null)
{
    struct pollfd pfd[32];
    uint64_t count;

    for (unsigned i = 0; i < null->count; i++)
        pfd[i] = (struct pollfd){null->queue[i].ring->kick_fd, POLLIN, 0};
    pfd[null->count] = (struct pollfd){null->stop_fd, POLLIN, 0};
    if (poll(pfd, null->count + 1, -1) <= 0)
        return;
    for (unsigned i = 0; i < null->count; i++) {
        if ((pfd[i].revents & POLLIN) && read(pfd[i].fd, &count, sizeof(count)) < 0)
            continue; /* taken by a look at another moment */
    }
}

static void *null_main(void *arg)
{
    struct vmm_null *null = arg;
    bool armed = false;

    while (!__atomic_load_n(&null->stop, __ATOMIC_RELAXED)) {
        unsigned served = 0;

        for (unsigned i = 0; i < null->count; i++) {
            served += queue_serve(null, &null->queue[i]);
            if (!armed)
                queue_want_kicks(&null->queue[i], false);
        }
        if (served != 0 || !(null->flags & NULL_SLEEP)) {
            armed = false;
            continue;
        }
        if (armed) {
            null_sleep(null);
            armed = false;
            continue;
        }
        for (unsigned i = 0; i < null->count; i++)
            queue_want_kicks(&null->queue[i], true);
        armed = true; /* and look once more before sleeping */
    }
    return NULL;
}

struct vmm_null *vmm_null_start(struct vmm_mem *mem, struct vmm_ring **rings, unsigned n,
                                unsigned flags)
{
    struct vmm_null *null;
    int err;

    if (n == 0 || n > 31) {
        errno = EINVAL;
        return NULL;
    }
    null = calloc(1, sizeof(*null) + n * sizeof(null->queue[0]));
    if (null == NULL)
        return NULL;
    null->mem = mem;
    null->flags = flags;
    null->count = n;
    for (unsigned i = 0; i < n; i++) {
        uint16_t used = ring_used_idx(rings[i]);

        null->queue[i] = (struct null_queue){rings[i], used, used, used};
    }
    null->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (null->stop_fd < 0)
        goto err_free;
    err = pthread_create(&null->thread, NULL, null_main, null);
    if (err == 0)
        return null;
    errno = err;
    close(null->stop_fd);
err_free:
    free(null);
    return NULL;
}

uint64_t vmm_null_stop(struct vmm_null *null)
{
    uint64_t one = 1, answered;

    __atomic_store_n(&null->stop, 1, __ATOMIC_RELAXED);
    if (write(null->stop_fd, &one, sizeof(one)) < 0)
        return 0; /* a counter of 0 takes a 1: not reached */
    pthread_join(null->thread, NULL);
    answered = null->answered;
    close(null->stop_fd);
    free(null);
    return answered;
}
