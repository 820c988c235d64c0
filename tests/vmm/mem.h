/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory as its owner sees it: regions of guest addresses, each the tail of a memfd of its
 * own. */
#ifndef VMM_MEM_H
#define VMM_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "vmm_api.h"

#define VMM_MAX_REGIONS 64

struct vmm_region {
    uint64_t gpa;
    uint64_t size; /* 0: this slot's region is gone */
    uint64_t user_addr;
    uint64_t mmap_offset;
    uint8_t *host;
    int fd;
};

/* Owner: the thread that sets the VMM up; others only read it, while it does not change. */
struct vmm_mem {
    unsigned count;
    struct vmm_region region[VMM_MAX_REGIONS];
};

/* Host pointer to gpa; *len is cut to what is left of its region. NULL where there is no memory. */
uint8_t *mem_at(const struct vmm_mem *mem, uint64_t gpa, uint64_t *len);

#endif
