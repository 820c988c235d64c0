/* SPDX-License-Identifier: Apache-2.0
 *
 * Guest memory: the regions that the VMM shares, and the only way from a guest address to ours.
 *
 * DESIGN. A table is immutable once made; the control thread makes a new one for every change and
 * each queue changes over at a point of its own. Tables share mappings, and both are counted, so
 * a mapping goes when the last table that has it goes. Where the VMM shrinks a memory file under
 * us, the access would end the process with SIGBUS: the handler puts anonymous memory in place of
 * the mapping and raises the plane's flag, and the queues end the device at their next batch.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api.h"

/* QEMU's own limit for a vhost-user backend with configurable slots. */
enum { GUEST_MEM_SLOTS = 509 };

struct mapping;

struct guest_region {
    uint64_t guest_addr;
    uint64_t size;
    uint64_t user_addr;
    uint8_t *host; /* of guest_addr */
    struct mapping *mapping;
};

struct guest_mem {
    _Atomic uint32_t refs; /* any thread, atomic */
    uint32_t count;
    struct guest_region regions[]; /* by guest_addr, without overlaps */
};

/* Any thread. */
struct guest_mem *guest_mem_ref(const struct guest_mem *mem);
void guest_mem_unref(const struct guest_mem *mem);

/* Control thread: a new table of `keep` (may be NULL) and the regions of `add`. *failed is raised
 * when a memory file behind the new mappings shrinks. -EEXIST: overlap. -EINVAL: an empty region
 * or one beyond the address space. -ENOSPC: too many. Otherwise mmap's errno. */
int guest_mem_extend(const struct guest_mem *keep, const struct ovfs_mem_region *add,
                     uint32_t count, atomic_bool *failed, struct guest_mem **out);

/* Control thread: a new table without one region. -ENOENT. */
int guest_mem_without(const struct guest_mem *mem, uint64_t guest_addr, uint64_t size,
                      uint64_t user_addr, struct guest_mem **out);

/* Control thread: a new table of the same memory, mapped a second time at other addresses. */
int guest_mem_double(const struct guest_mem *mem, struct guest_mem **out);

/* Control thread: take the guest's memory away from the addresses of this table, for good. Who
 * still writes there writes to nobody; nothing else is ever mapped there. */
void guest_mem_leave(const struct guest_mem *mem);

/* Queue thread: where guest address addr lies; *len (wanted) becomes what is there in one piece,
 * at least 1. NULL: not guest memory. */
void *guest_mem_at(const struct guest_mem *mem, uint64_t addr, uint64_t *len);

/* Queue thread: where a ring of `len` bytes at the VMM's address lies. NULL: not in one region. */
void *guest_mem_at_user(const struct guest_mem *mem, uint64_t user_addr, uint64_t len);
