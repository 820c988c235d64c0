/* SPDX-License-Identifier: Apache-2.0
 *
 * Steps 3 and 8 of 9: the split virtqueue. In: the avail ring. Out: a request's descriptors as
 * iovecs, and entries of the used ring. Queue thread only.
 *
 *       driver                                   device (here)
 *     avail->ring, avail->idx  --- release/acquire --->  last_avail
 *     used->ring,  used->idx   <-- release/acquire ---   next_used
 *     avail_event (we write)   --- full barrier on both sides: one of the two always sees
 *     used_event  (we read)        the other's index or the other's wish to be told
 *
 * DESIGN. This is the only file that touches ring memory, and its barriers live here. A guest is
 * hostile: every field of shared memory is loaded once into a local, checked, then used. A chain
 * that cannot be followed costs that request; an index that cannot be costs the queue.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fuse_req.h"
#include "guest_mem.h"
#include "wire_virtio.h"

struct virtq {
    uint16_t num;        /* constant */
    bool event_idx;      /* constant */
    bool indirect;       /* constant */
    uint16_t last_avail; /* next entry of the avail ring to take */
    uint16_t seen_avail; /* avail->idx as last loaded */
    uint16_t next_used;  /* next entry of the used ring to fill */
    uint16_t published;  /* used->idx as last stored */
    uint16_t ahead;      /* chains that virtq_sleep lets wait before it wants a kick */
    bool told_driver;    /* the first publication always notifies: used_event may be stale */

    /* in guest memory; moved by virtq_map */
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    uint64_t desc_addr, avail_addr, used_addr; /* constant: the VMM's addresses */
};

/* -EINVAL: num or base impossible. -EFAULT: a ring is not in memory. */
int virtq_init(struct virtq *vq, const struct ovfs_vring *vring, const struct guest_mem *mem);

/* Find the rings again in a new memory table. -EFAULT. */
int virtq_map(struct virtq *vq, const struct guest_mem *mem);

/* Take the next chain into req (head, in, out, mem). 1: taken. 0: none is waiting. -EBADMSG: taken,
 * but it cannot be followed; req->head is to be pushed with length 0, unless it is no descriptor
 * (VIRTQ_NO_HEAD). -EPIPE: the avail index is impossible: the queue is broken. */
enum { VIRTQ_NO_HEAD = 0xffff };
int virtq_pop(struct virtq *vq, const struct guest_mem *mem, struct fuse_req *req);

/* Whether the driver has offered more than was taken. */
bool virtq_ready(const struct virtq *vq);

/* Fill the next used entry. Not visible before virtq_publish. */
void virtq_push(struct virtq *vq, uint16_t head, uint32_t len);

/* Make what was pushed visible. True: the driver wants to be interrupted for it. */
bool virtq_publish(struct virtq *vq);

/* Ask for a kick with the next chain, or, where the driver can be told so, `ahead` chains later:
 * the sleep must be short then. False: one is waiting already, go on taking. */
bool virtq_sleep(struct virtq *vq);

/* Kicks are not needed while we are awake. */
void virtq_wake(struct virtq *vq);
