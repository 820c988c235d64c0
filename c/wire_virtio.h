/* SPDX-License-Identifier: Apache-2.0
 *
 * The split virtqueue as VIRTIO 1.2, section 2.7, lays it out in guest memory. Little-endian.
 */
#pragma once

#include <endian.h>
#include <stddef.h>
#include <stdint.h>

enum {
    VRING_DESC_F_NEXT = 1,
    VRING_DESC_F_WRITE = 2,
    VRING_DESC_F_INDIRECT = 4,
};

enum { VRING_AVAIL_F_NO_INTERRUPT = 1 };
enum { VRING_USED_F_NO_NOTIFY = 1 };
enum { VRING_SIZE_MAX = 32768 };

struct vring_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

struct vring_avail {
    uint16_t flags;
    uint16_t idx;
    uint16_t ring[]; /* num entries, then used_event */
};

struct vring_used_elem {
    uint32_t id;
    uint32_t len;
};

struct vring_used {
    uint16_t flags;
    uint16_t idx;
    struct vring_used_elem ring[]; /* num entries, then avail_event */
};

_Static_assert(sizeof(struct vring_desc) == 16, "descriptor");
_Static_assert(offsetof(struct vring_desc, next) == 14, "descriptor.next");
_Static_assert(offsetof(struct vring_avail, ring) == 4, "avail ring");
_Static_assert(sizeof(struct vring_used_elem) == 8, "used element");
_Static_assert(offsetof(struct vring_used, ring) == 4, "used ring");

/* Bytes of a ring of num entries, its event index included. */
static inline uint64_t vring_desc_size(uint32_t num)
{
    return (uint64_t)num * sizeof(struct vring_desc);
}

static inline uint64_t vring_avail_size(uint32_t num)
{
    return sizeof(struct vring_avail) + ((uint64_t)num + 1) * sizeof(uint16_t);
}

static inline uint64_t vring_used_size(uint32_t num)
{
    return sizeof(struct vring_used) + (uint64_t)num * sizeof(struct vring_used_elem) +
           sizeof(uint16_t);
}
