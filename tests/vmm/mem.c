/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory: regions whose guest address, frontend address and file offset have nothing to do
 * with each other, so that a daemon which mixes two of them up fails at once. The frontend
 * addresses are invented: the daemon only computes with them, and a VMM's real ones would hide the
 * mistake of using them as pointers.
 */
#include "mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct vmm_mem *vmm_mem_new(void)
{
    return calloc(1, sizeof(struct vmm_mem));
}

static void region_drop(struct vmm_region *region)
{
    if (region->size == 0)
        return;
    munmap(region->host, region->size);
    close(region->fd);
    memset(region, 0, sizeof(*region));
    region->fd = -1;
}

void vmm_mem_free(struct vmm_mem *mem)
{
    if (mem == NULL)
        return;
    for (unsigned i = 0; i < mem->count; i++)
        region_drop(&mem->region[i]);
    free(mem);
}

static int region_overlaps(const struct vmm_mem *mem, uint64_t gpa, uint64_t size)
{
    for (unsigned i = 0; i < mem->count; i++) {
        const struct vmm_region *r = &mem->region[i];

        if (r->size != 0 && gpa < r->gpa + r->size && r->gpa < gpa + size)
            return 1;
    }
    return 0;
}

int vmm_mem_add(struct vmm_mem *mem, uint64_t gpa, uint64_t size, uint64_t user_addr,
                uint64_t mmap_offset)
{
    struct vmm_region region = {gpa, size, user_addr, mmap_offset, NULL, -1};
    void *host;
    int err;

    if (size == 0 || gpa + size < gpa)
        return -EINVAL;
    if (region_overlaps(mem, gpa, size))
        return -EEXIST;
    if (mem->count == VMM_MAX_REGIONS)
        return -ENOSPC;
    region.fd = memfd_create("guest-memory", MFD_CLOEXEC);
    if (region.fd < 0)
        return -errno;
    if (ftruncate(region.fd, (off_t)(mmap_offset + size)) < 0)
        goto err_close;
    host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, region.fd, (off_t)mmap_offset);
    if (host == MAP_FAILED)
        goto err_close;
    region.host = host;
    mem->region[mem->count] = region;
    return (int)mem->count++;

err_close:
    err = -errno;
    close(region.fd);
    return err;
}

int vmm_mem_remove(struct vmm_mem *mem, unsigned index)
{
    if (index >= mem->count || mem->region[index].size == 0)
        return -ENOENT;
    region_drop(&mem->region[index]);
    return 0;
}

int vmm_mem_fd(struct vmm_mem *mem, unsigned index)
{
    if (index >= mem->count || mem->region[index].size == 0)
        return -ENOENT;
    return mem->region[index].fd;
}

uint8_t *mem_at(const struct vmm_mem *mem, uint64_t gpa, uint64_t *len)
{
    for (unsigned i = 0; i < mem->count; i++) {
        const struct vmm_region *r = &mem->region[i];

        if (gpa >= r->gpa && gpa - r->gpa < r->size) {
            uint64_t left = r->size - (gpa - r->gpa);

            if (*len > left)
                *len = left;
            return r->host + (gpa - r->gpa);
        }
    }
    return NULL;
}

void *vmm_mem_ptr(struct vmm_mem *mem, uint64_t gpa, uint64_t len)
{
    uint64_t got = len;
    uint8_t *host = mem_at(mem, gpa, &got);

    return got == len ? host : NULL;
}

uint64_t vmm_mem_user_addr(struct vmm_mem *mem, uint64_t gpa)
{
    for (unsigned i = 0; i < mem->count; i++) {
        const struct vmm_region *r = &mem->region[i];

        if (gpa >= r->gpa && gpa - r->gpa < r->size)
            return r->user_addr + (gpa - r->gpa);
    }
    return 0;
}

int vmm_mem_write(struct vmm_mem *mem, uint64_t gpa, const void *data, uint64_t len)
{
    const uint8_t *from = data;

    while (len > 0) {
        uint64_t part = len;
        uint8_t *host = mem_at(mem, gpa, &part);

        if (host == NULL)
            return -EFAULT;
        memcpy(host, from, part);
        from += part;
        gpa += part;
        len -= part;
    }
    return 0;
}

int vmm_mem_read(struct vmm_mem *mem, uint64_t gpa, void *data, uint64_t len)
{
    uint8_t *to = data;

    while (len > 0) {
        uint64_t part = len;
        const uint8_t *host = mem_at(mem, gpa, &part);

        if (host == NULL)
            return -EFAULT;
        memcpy(to, host, part);
        to += part;
        gpa += part;
        len -= part;
    }
    return 0;
}
