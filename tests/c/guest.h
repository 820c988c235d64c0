/* SPDX-License-Identifier: Apache-2.0
 *
 * A guest for the tests of handlers: a plane on a scratch directory, its queues running, and FUSE
 * requests sent through real rings.
 *
 *      struct guest guest;
 *      guest_start(&guest, &(struct ovfs_options){.cache = OVFS_CACHE_NEVER});
 *      struct reply reply = guest_call(&guest, &(struct call){.opcode = FUSE_STATFS, ...});
 *      guest_stop(&guest);
 *
 * guest_send and guest_wait are its two halves, for requests that wait for one another: each on a
 * slot of its own. One thread drives a queue.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../vmm/vmm_api.h"
#include "check.h"
#include "api.h"
#include "wire_fuse.h"

enum {
    GUEST_QUEUES = 3, /* hiprio and two for requests */
    GUEST_SLOTS = 8,  /* requests in flight, on all queues */
    RING_NUM = 256,
    HALF = 2 << 20, /* of a slot: what the device reads, then what it writes */
};

#define GUEST_BASE UINT64_C(0x40000000)
#define RING_AT(q) (GUEST_BASE + (uint64_t)(q) * 65536)
#define SLOT_AT(s) (GUEST_BASE + 4 * 65536 + (uint64_t)(s) * 2 * HALF)
#define GUEST_SIZE (4 * 65536 + (uint64_t)GUEST_SLOTS * 2 * HALF)

struct call {
    uint32_t opcode;
    uint64_t nodeid;
    uint32_t uid, gid;
    const void *arg;
    size_t arg_len;
    const char *name[2];
    const void *data;
    size_t data_len;
    size_t out_len;  /* room for the payload */
    size_t seg;      /* cut data and room into pieces of this size; 0: one piece */
    size_t misalign; /* bytes by which data and room are off a page */
    unsigned queue;  /* 0: queue 1 */
    unsigned slot;
};

struct reply {
    int error;      /* 0 or -errno */
    size_t len;     /* of the payload */
    const char *at; /* the payload, contiguous; valid until the slot is used again */
    uint64_t unique;
};

struct guest {
    char root[32];
    int root_fd;
    int events[2];
    struct ovfs_plane *plane;
    struct vmm_mem *mem;
    struct vmm_ring *ring[GUEST_QUEUES];
    int kick[GUEST_QUEUES], call[GUEST_QUEUES];
    uint64_t unique;
    struct {
        int head; /* -1: answered */
        unsigned queue;
        uint32_t used;
        uint64_t unique;
        size_t misalign;
    } slot[GUEST_SLOTS];
};

/* Arguments of a call: the struct and its size. */
#define ARG_OF(value) .arg = &(value), .arg_len = sizeof(value)

static inline void guest_ring(struct guest *guest, unsigned q)
{
    uint64_t at = RING_AT(q);
    struct ovfs_vring vring = {.num = RING_NUM, .err_fd = -1, .event_idx = 1, .indirect = 1};

    guest->kick[q] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    guest->call[q] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    guest->ring[q] = vmm_ring_new(guest->mem, RING_NUM, at, at + 16384, at + 32768, 0, 1,
                                  guest->kick[q], guest->call[q]);
    CHECK(guest->ring[q]);
    vring.desc_addr = vmm_mem_user_addr(guest->mem, at);
    vring.avail_addr = vmm_mem_user_addr(guest->mem, at + 16384);
    vring.used_addr = vmm_mem_user_addr(guest->mem, at + 32768);
    vring.kick_fd = guest->kick[q];
    vring.call_fd = guest->call[q];
    CHECK(ovfs_queue_start(guest->plane, q, &vring) == 0);
}

static inline size_t guest_segs(struct vmm_seg *segs, size_t n, uint64_t at, size_t len, size_t seg,
                                uint32_t writable)
{
    while (len > 0) {
        size_t piece = seg > 0 && seg < len ? seg : len;

        segs[n++] = (struct vmm_seg){.addr = at, .len = (uint32_t)piece, .writable = writable};
        at += piece;
        len -= piece;
    }
    return n;
}

static inline void guest_send(struct guest *guest, const struct call *call)
{
    static _Thread_local struct vmm_seg segs[1100];
    uint64_t in = SLOT_AT(call->slot), out = in + HALF, data = in + 65536 + call->misalign;
    struct fuse_in_header header = {
        .opcode = call->opcode,
        .unique = __atomic_add_fetch(&guest->unique, 2, __ATOMIC_RELAXED),
        .nodeid = call->nodeid,
        .uid = call->uid,
        .gid = call->gid,
    };
    size_t len = sizeof(header), n = 0;
    unsigned q = call->queue ? call->queue : 1;

    vmm_mem_write(guest->mem, in + len, call->arg, call->arg_len);
    len += call->arg_len;
    for (int i = 0; i < 2 && call->name[i]; i++) {
        vmm_mem_write(guest->mem, in + len, call->name[i], strlen(call->name[i]) + 1);
        len += strlen(call->name[i]) + 1;
    }
    header.len = (uint32_t)(len + call->data_len);
    vmm_mem_write(guest->mem, in, &header, sizeof(header));
    vmm_mem_write(guest->mem, data, call->data, call->data_len);
    n = guest_segs(segs, n, in, len, 0, 0);
    n = guest_segs(segs, n, data, call->data_len, call->seg, 0);
    n = guest_segs(segs, n, out, sizeof(struct fuse_out_header), 0, 1);
    n = guest_segs(segs, n, out + 4096 + call->misalign, call->out_len, call->seg, 1);
    guest->slot[call->slot].unique = header.unique;
    guest->slot[call->slot].misalign = call->misalign;
    guest->slot[call->slot].queue = q;
    guest->slot[call->slot].head = vmm_ring_add(guest->ring[q], segs, (unsigned)n, in + 32768);
    CHECK(guest->slot[call->slot].head >= 0);
    CHECK(vmm_ring_kick(guest->ring[q]) >= 0);
}

/* Take what is answered on queue q, waiting for at most timeout_ms. */
static inline void guest_collect(struct guest *guest, unsigned q, int timeout_ms)
{
    struct vmm_used used[GUEST_SLOTS];
    int n;

    vmm_ring_wait(guest->ring[q], timeout_ms);
    n = vmm_ring_get(guest->ring[q], used, GUEST_SLOTS);
    for (int i = 0; i < n; i++)
        for (unsigned s = 0; s < GUEST_SLOTS; s++)
            if (guest->slot[s].queue == q && guest->slot[s].head == (int)used[i].id) {
                guest->slot[s].head = -1;
                guest->slot[s].used = used[i].len;
                break;
            }
}

/* Whether the request of this slot, on queue q, is answered within timeout_ms. */
static inline bool guest_answered(struct guest *guest, unsigned q, unsigned slot, int timeout_ms)
{
    for (int waited = 0; guest->slot[slot].head >= 0 && waited <= timeout_ms; waited += 10)
        guest_collect(guest, q, 10);
    return guest->slot[slot].head < 0;
}

static inline struct reply guest_reply(struct guest *guest, unsigned slot)
{
    const char *out = vmm_mem_ptr(guest->mem, SLOT_AT(slot) + HALF, HALF);
    struct fuse_out_header header;

    CHECK(guest->slot[slot].head < 0);
    memcpy(&header, out, sizeof(header));
    CHECK(header.unique == guest->slot[slot].unique);
    CHECK(header.len >= sizeof(header) && header.len == guest->slot[slot].used);
    CHECK(header.error == 0 || header.len == sizeof(header));
    return (struct reply){
        .error = header.error,
        .len = header.len - sizeof(header),
        .at = out + 4096 + guest->slot[slot].misalign,
        .unique = header.unique,
    };
}

static inline struct reply guest_call(struct guest *guest, const struct call *call)
{
    guest_send(guest, call);
    CHECK(guest_answered(guest, call->queue ? call->queue : 1, call->slot, 20000));
    return guest_reply(guest, call->slot);
}

/* ---- start and stop ---- */

static inline void guest_init_session(struct guest *guest, uint64_t features)
{
    struct fuse_init_in in = {
        .major = FUSE_KERNEL_VERSION,
        .minor = FUSE_KERNEL_MINOR_VERSION,
        .max_readahead = 131072,
        .flags = (uint32_t)features | (uint32_t)FUSE_INIT_EXT,
        .flags2 = (uint32_t)(features >> 32),
    };
    struct reply reply =
        guest_call(guest, &(struct call){.opcode = FUSE_INIT, ARG_OF(in), .out_len = 64});

    CHECK(reply.error == 0);
}

/* A client that offers all that Linux 6.12 does. options: what matters to the test; the rest is
 * filled in. */
static inline void guest_start(struct guest *guest, const struct ovfs_options *wanted)
{
    struct ovfs_options options = *wanted;
    char why[256] = "";

    memset(guest, 0, sizeof(*guest));
    for (unsigned s = 0; s < GUEST_SLOTS; s++)
        guest->slot[s].head = -1;
    strcpy(guest->root, "guest-XXXXXX");
    CHECK(mkdtemp(guest->root));
    CHECK(chmod(guest->root, 0777) == 0);
    guest->root_fd = open(guest->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK(guest->root_fd >= 0);
    CHECK(pipe2(guest->events, O_DIRECT | O_NONBLOCK | O_CLOEXEC) == 0);
    options.root_fd = guest->root_fd;
    options.event_fd = guest->events[1];
    options.queues = GUEST_QUEUES;
    options.fd_cache = 256;
    if (ovfs_plane_new(&options, &guest->plane, why, sizeof(why)) == -EPERM)
        SKIP(why);
    if (!guest->plane)
        fprintf(stderr, "%s\n", why);
    CHECK(guest->plane);
    guest->mem = vmm_mem_new();
    CHECK(guest->mem);
    CHECK(vmm_mem_add(guest->mem, GUEST_BASE, GUEST_SIZE, 0x7f0000000000, 0) == 0);
    CHECK(ovfs_mem_set(guest->plane,
                       &(struct ovfs_mem_region){.guest_addr = GUEST_BASE,
                                                 .size = GUEST_SIZE,
                                                 .user_addr = 0x7f0000000000,
                                                 .fd = vmm_mem_fd(guest->mem, 0)},
                       1) == 0);
    for (unsigned q = 0; q < GUEST_QUEUES; q++)
        guest_ring(guest, q);
    guest_init_session(guest, (UINT64_C(1) << 41) - 1 - FUSE_INIT_RESERVED);
}

static inline int guest_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void guest_stop(struct guest *guest)
{
    uint32_t base;

    for (unsigned q = 0; q < GUEST_QUEUES; q++)
        CHECK(ovfs_queue_stop(guest->plane, q, &base) == 0);
    ovfs_plane_free(guest->plane);
    for (unsigned q = 0; q < GUEST_QUEUES; q++) {
        vmm_ring_free(guest->ring[q]);
        close(guest->kick[q]);
        close(guest->call[q]);
    }
    vmm_mem_free(guest->mem);
    close(guest->events[0]);
    close(guest->events[1]);
    close(guest->root_fd);
    nftw(guest->root, guest_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- what most tests do ---- */

static inline uint64_t guest_lookup(struct guest *guest, uint64_t dir, const char *name)
{
    struct reply reply =
        guest_call(guest, &(struct call){.opcode = FUSE_LOOKUP,
                                         .nodeid = dir,
                                         .name = {name},
                                         .out_len = sizeof(struct fuse_entry_out)});
    struct fuse_entry_out entry;

    CHECK(reply.error == 0 && reply.len == sizeof(entry));
    memcpy(&entry, reply.at, sizeof(entry));
    CHECK(entry.nodeid != 0);
    return entry.nodeid;
}

static inline struct reply guest_try_open(struct guest *guest, uint64_t node, uint32_t flags,
                                          uint32_t uid)
{
    struct fuse_open_in in = {.flags = flags};

    return guest_call(guest,
                      &(struct call){.opcode = flags & O_DIRECTORY ? FUSE_OPENDIR : FUSE_OPEN,
                                     .nodeid = node,
                                     .uid = uid,
                                     ARG_OF(in),
                                     .out_len = sizeof(struct fuse_open_out)});
}

static inline uint64_t guest_open(struct guest *guest, uint64_t node, uint32_t flags)
{
    struct reply reply = guest_try_open(guest, node, flags, 0);
    struct fuse_open_out out;

    CHECK(reply.error == 0 && reply.len == sizeof(out));
    memcpy(&out, reply.at, sizeof(out));
    return out.fh;
}

/* A file of the scratch directory, made on the host. */
static inline void host_write(const struct guest *guest, const char *name, const void *data,
                              size_t len)
{
    int fd = openat(guest->root_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    CHECK(fd >= 0);
    CHECK(write(fd, data, len) == (ssize_t)len);
    close(fd);
}
