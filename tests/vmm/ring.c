/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's half of a split ring: chains in, used entries out, kicks and calls suppressed as the
 * device and the event indices say. It follows the virtio 1.x specification, section 2.7, as Linux'
 * driver does; what it does not do is check what it is told to send, since hostile chains are among
 * its jobs.
 */
#include "ring.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int ring_map(struct vmm_ring *ring, uint64_t desc, uint64_t avail, uint64_t used)
{
    uint64_t num = ring->num;
    /* Two bytes for the event index are there whether it is negotiated or not. */
    uint64_t avail_size = sizeof(struct vring_avail) + 2 * num + 2;
    uint64_t used_size = sizeof(struct vring_used) + sizeof(struct vring_used_elem) * num + 2;

    ring->desc = vmm_mem_ptr(ring->mem, desc, sizeof(struct vring_desc) * num);
    ring->avail = vmm_mem_ptr(ring->mem, avail, avail_size);
    ring->used = vmm_mem_ptr(ring->mem, used, used_size);
    if (ring->desc == NULL || ring->avail == NULL || ring->used == NULL)
        return -EFAULT;
    memset(ring->desc, 0, sizeof(struct vring_desc) * num);
    memset(ring->avail, 0, avail_size);
    memset(ring->used, 0, used_size);
    return 0;
}

struct vmm_ring *vmm_ring_new(struct vmm_mem *mem, unsigned num, uint64_t desc, uint64_t avail,
                              uint64_t used, unsigned base, unsigned event_idx, int kick_fd,
                              int call_fd)
{
    struct vmm_ring *ring;
    int err = ENOMEM;

    if (num == 0 || num > 32768 || (num & (num - 1)) != 0 || base > UINT16_MAX) {
        errno = EINVAL;
        return NULL;
    }
    ring = calloc(1, sizeof(*ring));
    if (ring == NULL)
        return NULL;
    ring->mem = mem;
    ring->num = (uint16_t)num;
    ring->link = calloc(num, sizeof(*ring->link));
    ring->chain = calloc(num, sizeof(*ring->chain));
    if (ring->link == NULL || ring->chain == NULL)
        goto err_free;
    err = -ring_map(ring, desc, avail, used);
    if (err != 0)
        goto err_free;
    ring->event_idx = event_idx != 0;
    ring->kick_fd = kick_fd;
    ring->call_fd = call_fd;
    ring->base = ring->avail_idx = ring->published = ring->last_used = (uint16_t)base;
    ring->avail->idx = ring->used->idx = (uint16_t)base;
    *ring_used_event(ring) = (uint16_t)base;
    *ring_avail_event(ring) = (uint16_t)base;
    for (unsigned i = 0; i < num; i++)
        ring->link[i] = (uint16_t)(i + 1);
    ring->free_count = num;
    return ring;

err_free:
    vmm_ring_free(ring);
    errno = err;
    return NULL;
}

void vmm_ring_free(struct vmm_ring *ring)
{
    if (ring == NULL)
        return;
    free(ring->link);
    free(ring->chain);
    free(ring);
}

void vmm_ring_set_fds(struct vmm_ring *ring, int kick_fd, int call_fd)
{
    ring->kick_fd = kick_fd;
    ring->call_fd = call_fd;
}

static void desc_write(struct vring_desc *desc, const struct vmm_seg *seg, bool last, uint16_t next)
{
    desc->addr = seg->addr;
    desc->len = seg->len;
    desc->flags =
        (uint16_t)((seg->writable ? VRING_DESC_F_WRITE : 0) | (last ? 0 : VRING_DESC_F_NEXT));
    desc->next = last ? 0 : next;
}

static uint16_t desc_take(struct vmm_ring *ring)
{
    uint16_t index = ring->free_head;

    ring->free_head = ring->link[index];
    ring->free_count--;
    return index;
}

int vmm_ring_add(struct vmm_ring *ring, const struct vmm_seg *segs, unsigned n, uint64_t table)
{
    uint16_t head = ring->free_head, at = head;
    unsigned need = table != 0 ? 1 : n;

    if (n == 0 || (table != 0 && n > UINT16_MAX))
        return -EINVAL;
    if (ring->free_count < need)
        return -ENOSPC;
    if (table != 0) {
        struct vring_desc *entry = vmm_mem_ptr(ring->mem, table, sizeof(*entry) * n);

        if (entry == NULL)
            return -EFAULT;
        for (unsigned i = 0; i < n; i++)
            desc_write(&entry[i], &segs[i], i + 1 == n, (uint16_t)(i + 1));
        at = desc_take(ring);
        ring->desc[at].addr = table;
        ring->desc[at].len = (uint32_t)(sizeof(*entry) * n);
        ring->desc[at].flags = VRING_DESC_F_INDIRECT;
        ring->desc[at].next = 0;
    } else {
        for (unsigned i = 0; i < n; i++) {
            at = desc_take(ring);
            desc_write(&ring->desc[at], &segs[i], i + 1 == n, ring->free_head);
        }
    }
    ring->chain[head] = (uint16_t)need;
    ring_offer(ring, head);
    return head;
}

int vmm_ring_kick_force(struct vmm_ring *ring)
{
    uint64_t one = 1;

    if (ring->kick_fd < 0)
        return 0;
    if (write(ring->kick_fd, &one, sizeof(one)) != sizeof(one))
        return -errno;
    ring->stats.kicks++;
    return 0;
}

int vmm_ring_kick(struct vmm_ring *ring)
{
    uint16_t old = ring->published, idx = ring->avail_idx;
    bool wanted;
    int err;

    /* Release: descriptors and avail entries before the index. Pairs with the device's acquire of
     * avail->idx. */
    __atomic_store_n(&ring->avail->idx, idx, __ATOMIC_RELEASE);
    ring->published = idx;
    /* The device arms, then looks at avail->idx; we store avail->idx, then look at what it armed.
     * One of us sees. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (ring->event_idx)
        wanted =
            vring_need_event(__atomic_load_n(ring_avail_event(ring), __ATOMIC_RELAXED), idx, old);
    else
        wanted = !(__atomic_load_n(&ring->used->flags, __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY);
    if (!wanted) {
        ring->stats.kicks_suppressed++;
        return 0;
    }
    err = vmm_ring_kick_force(ring);
    return err < 0 ? err : 1;
}

static void chain_free(struct vmm_ring *ring, uint16_t head)
{
    uint16_t tail = head;

    for (uint16_t n = ring->chain[head]; n > 1; n--)
        tail = ring->link[tail];
    ring->link[tail] = ring->free_head;
    ring->free_head = head;
    ring->free_count += ring->chain[head];
    ring->chain[head] = 0;
}

int vmm_ring_get(struct vmm_ring *ring, struct vmm_used *out, unsigned max)
{
    uint16_t idx = ring_used_idx(ring);
    unsigned got = 0;

    while (got < max && ring->last_used != idx) {
        struct vring_used_elem elem = ring->used->ring[ring->last_used & (ring->num - 1)];

        out[got].id = elem.id;
        out[got].len = elem.len;
        if (elem.id < ring->num && ring->chain[elem.id] != 0)
            chain_free(ring, (uint16_t)elem.id);
        ring->last_used++;
        ring->stats.completed++;
        got++;
    }
    return (int)got;
}

void ring_arm(struct vmm_ring *ring)
{
    if (ring->event_idx)
        __atomic_store_n(ring_used_event(ring), ring->last_used, __ATOMIC_RELAXED);
    else
        __atomic_store_n(&ring->avail->flags, 0, __ATOMIC_RELAXED);
    /* Ours armed before we look at used->idx again; pairs with the device's fence between used->idx
     * and its check. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void ring_disarm(struct vmm_ring *ring)
{
    if (ring->event_idx)
        __atomic_store_n(ring_used_event(ring), (uint16_t)(ring->last_used + 0x7fff),
                         __ATOMIC_RELAXED);
    else
        __atomic_store_n(&ring->avail->flags, VRING_AVAIL_F_NO_INTERRUPT, __ATOMIC_RELAXED);
}

static bool ring_ready(const struct vmm_ring *ring)
{
    return ring_used_idx(ring) != ring->last_used;
}

/* Without a call eventfd nobody tells us: look every 50 us. */
static int wait_timer(struct vmm_ring *ring, int timeout_ms)
{
    const struct timespec pause = {0, 50000};

    for (int64_t left = (int64_t)timeout_ms * 20; left > 0 && !ring_ready(ring); left--) {
        if (nanosleep(&pause, NULL) < 0)
            return -EINTR;
    }
    return ring_ready(ring);
}

static uint64_t take_interrupts(struct vmm_ring *ring)
{
    uint64_t count = 0;

    if (read(ring->call_fd, &count, sizeof(count)) != sizeof(count))
        return 0;
    ring->stats.interrupts += count;
    return count;
}

int vmm_ring_wait(struct vmm_ring *ring, int timeout_ms)
{
    struct pollfd pfd = {.fd = ring->call_fd, .events = POLLIN, .revents = 0};
    int ret;

    ring_arm(ring);
    if (ring_ready(ring))
        return 1;
    if (ring->call_fd < 0)
        return wait_timer(ring, timeout_ms);
    ret = poll(&pfd, 1, timeout_ms);
    if (ret < 0)
        return -errno;
    if (ret > 0)
        take_interrupts(ring);
    return ring_ready(ring);
}

uint64_t vmm_ring_interrupts(struct vmm_ring *ring)
{
    struct pollfd pfd = {.fd = ring->call_fd, .events = POLLIN, .revents = 0};

    /* The descriptor may be one that blocks. */
    return ring->call_fd >= 0 && poll(&pfd, 1, 0) == 1 ? take_interrupts(ring) : 0;
}

void vmm_ring_stats(struct vmm_ring *ring, struct vmm_ring_stats *out)
{
    *out = ring->stats;
    out->free_desc = ring->free_count;
    out->avail_idx = ring->avail_idx;
    out->last_used = ring->last_used;
}

void vmm_ring_raw_desc(struct vmm_ring *ring, unsigned index, uint64_t addr, uint32_t len,
                       uint16_t flags, uint16_t next)
{
    struct vring_desc desc = {addr, len, flags, next};

    ring->desc[index & (ring->num - 1u)] = desc;
}

void vmm_ring_raw_offer(struct vmm_ring *ring, uint16_t head)
{
    ring_offer(ring, head);
}

void vmm_ring_raw_set_avail(struct vmm_ring *ring, uint16_t index)
{
    ring->avail_idx = ring->published = index;
    __atomic_store_n(&ring->avail->idx, index, __ATOMIC_RELEASE);
}

int vmm_ring_raw_reserve(struct vmm_ring *ring, unsigned n)
{
    unsigned first = ring->num - n;

    /* Only a ring on which nothing was ever in flight has its free list in order. */
    if (n == 0 || n >= ring->num || ring->stats.submitted != 0 || ring->free_count != ring->num)
        return -ENOSPC;
    ring->free_count = first;
    return (int)first;
}

uint16_t vmm_ring_raw_used_idx(struct vmm_ring *ring)
{
    return ring_used_idx(ring);
}

void vmm_ring_raw_set_avail_flags(struct vmm_ring *ring, uint16_t flags)
{
    __atomic_store_n(&ring->avail->flags, flags, __ATOMIC_SEQ_CST);
}

void vmm_ring_raw_set_used_event(struct vmm_ring *ring, uint16_t index)
{
    __atomic_store_n(ring_used_event(ring), index, __ATOMIC_SEQ_CST);
}
