/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's half of a split ring.
 *
 *     avail_idx (ours, unpublished) >= published (what the device may see)
 *     ring->avail->ring[]  ---device--->  ring->used->ring[]   taken up to last_used
 *
 * The free list and the links of chains are kept in private memory: what the device may scribble on
 * is never believed.
 */
#ifndef VMM_RING_H
#define VMM_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <linux/virtio_ring.h>

#include "mem.h"

struct vmm_ring {
    /* fixed at creation */
    struct vmm_mem *mem;
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    uint16_t num;
    uint16_t base;
    bool event_idx;

    /* the driving thread only */
    int kick_fd;
    int call_fd;
    uint16_t avail_idx;
    uint16_t published;
    uint16_t last_used;
    uint16_t free_head;
    uint32_t free_count;
    uint16_t *link;  /* descriptor -> next of its chain or of the free list */
    uint16_t *chain; /* head -> descriptors in its chain, 0: not written by vmm_ring_add */
    struct vmm_ring_stats stats;
};

/* The device reads this: kick when its index is passed. Lies behind the used ring. */
static inline __virtio16 *ring_avail_event(const struct vmm_ring *ring)
{
    return (__virtio16 *)(void *)&ring->used->ring[ring->num];
}

/* We write this: call when it is passed. Lies behind the avail ring. */
static inline __virtio16 *ring_used_event(const struct vmm_ring *ring)
{
    return &ring->avail->ring[ring->num];
}

/* Pairs with the device's release of used->idx: the entries and replies before it are visible
 * after. */
static inline uint16_t ring_used_idx(const struct vmm_ring *ring)
{
    return __atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE);
}

/* Puts a head in the avail ring; the device sees it after the next ring_publish. */
static inline void ring_offer(struct vmm_ring *ring, uint16_t head)
{
    ring->avail->ring[ring->avail_idx++ & (ring->num - 1)] = head;
    ring->stats.submitted++;
}

/* Asks for a call when the entry after last_used appears; the caller looks at the used ring again
 * after it. */
void ring_arm(struct vmm_ring *ring);

/* Asks for no calls, for at least 32767 completions. */
void ring_disarm(struct vmm_ring *ring);

#endif
