/* SPDX-License-Identifier: Apache-2.0 */
#include "guest_mem.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct mapping {
    _Atomic uint32_t refs; /* any thread, atomic: one per table that has it */
    void *base;            /* constant */
    size_t size;           /* constant */
    atomic_bool *failed;   /* constant: the plane's flag */
};

/* The one global: a signal handler finds what it needs nowhere else. A mapping is entered before
 * its first access and taken out after its last, so the handler never meets a freed one. */
enum { MAPPINGS_MAX = 4096 };
static _Atomic(struct mapping *) live_mappings[MAPPINGS_MAX];
static struct sigaction previous_sigbus;
static pthread_once_t sigbus_once = PTHREAD_ONCE_INIT;

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    for (unsigned i = 0; i < MAPPINGS_MAX; i++) {
        struct mapping *mapping = atomic_load(&live_mappings[i]);

        if (!mapping || (char *)info->si_addr < (char *)mapping->base ||
            (char *)info->si_addr >= (char *)mapping->base + mapping->size)
            continue;
        /* The whole mapping, since a huge page cannot be replaced in part. */
        if (mmap(mapping->base, mapping->size, PROT_READ | PROT_WRITE,
                 MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED)
            break;
        atomic_store(mapping->failed, true);
        return; /* the access is repeated, and succeeds */
    }
    sigaction(SIGBUS, &previous_sigbus, NULL); /* not ours: repeated under the previous handler */
}

static void sigbus_install(void)
{
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};

    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &previous_sigbus);
}

static int mapping_enter(struct mapping *mapping)
{
    for (unsigned i = 0; i < MAPPINGS_MAX; i++) {
        struct mapping *none = NULL;

        if (atomic_compare_exchange_strong(&live_mappings[i], &none, mapping))
            return 0;
    }
    return -ENOSPC;
}

static void mapping_unref(struct mapping *mapping)
{
    if (atomic_fetch_sub(&mapping->refs, 1) != 1)
        return;
    for (unsigned i = 0; i < MAPPINGS_MAX; i++)
        if (atomic_load(&live_mappings[i]) == mapping)
            atomic_store(&live_mappings[i], NULL);
    munmap(mapping->base, mapping->size);
    free(mapping);
}

/* Own what mmap or mremap has returned. */
static int mapping_made(void *base, size_t size, atomic_bool *failed, struct mapping **out)
{
    int err = base == MAP_FAILED ? -errno : 0;
    struct mapping *mapping = err == 0 ? calloc(1, sizeof(*mapping)) : NULL;

    if (err < 0)
        return err;
    if (!mapping) {
        munmap(base, size);
        return -ENOMEM;
    }
    *mapping = (struct mapping){.base = base, .size = size, .failed = failed};
    atomic_store(&mapping->refs, 1);
    pthread_once(&sigbus_once, sigbus_install);
    err = mapping_enter(mapping);
    if (err < 0) {
        munmap(base, size);
        free(mapping);
        return err;
    }
    /* A core dump of the daemon is not the place for a guest's memory. */
    madvise(base, size, MADV_DONTDUMP);
    *out = mapping;
    return 0;
}

static int mapping_new(const struct ovfs_mem_region *region, atomic_bool *failed,
                       struct mapping **out)
{
    /* The file is mapped from its start: an offset need not be a multiple of its page size. */
    size_t size = region->mmap_offset + region->size;

    return mapping_made(
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, region->fd, 0), size,
        failed, out);
}

/* The same memory once more: what mremap does with a shared mapping when asked to move none of
 * it. */
static int mapping_double(const struct mapping *mapping, struct mapping **out)
{
    return mapping_made(mremap(mapping->base, 0, mapping->size, MREMAP_MAYMOVE), mapping->size,
                        mapping->failed, out);
}

/* Nothing of the guest is behind these addresses any more, and they are never given back. */
static void mapping_leave(struct mapping *mapping)
{
    atomic_fetch_add(&mapping->refs, 1);
    mmap(mapping->base, mapping->size, PROT_READ | PROT_WRITE,
         MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

struct guest_mem *guest_mem_ref(const struct guest_mem *mem)
{
    struct guest_mem *counted = (struct guest_mem *)mem;

    if (counted)
        atomic_fetch_add(&counted->refs, 1);
    return counted;
}

void guest_mem_unref(const struct guest_mem *mem)
{
    struct guest_mem *counted = (struct guest_mem *)mem;

    if (!counted || atomic_fetch_sub(&counted->refs, 1) != 1)
        return;
    for (uint32_t i = 0; i < counted->count; i++)
        mapping_unref(counted->regions[i].mapping);
    free(counted);
}

static struct guest_mem *guest_mem_alloc(uint32_t capacity)
{
    struct guest_mem *mem = calloc(1, sizeof(*mem) + capacity * sizeof(mem->regions[0]));

    if (mem)
        atomic_store(&mem->refs, 1);
    return mem;
}

static void guest_mem_share(struct guest_mem *mem, const struct guest_region *region)
{
    atomic_fetch_add(&region->mapping->refs, 1);
    mem->regions[mem->count++] = *region;
}

static bool range_ok(uint64_t start, uint64_t size)
{
    return size > 0 && start + size > start;
}

/* Put one region in its place. The mapping is made last, so a refused region costs nothing. */
static int guest_mem_insert(struct guest_mem *mem, const struct ovfs_mem_region *add,
                            atomic_bool *failed)
{
    struct guest_region region = {
        .guest_addr = add->guest_addr, .size = add->size, .user_addr = add->user_addr};
    uint32_t at = 0;
    int err;

    if (!range_ok(add->guest_addr, add->size) || !range_ok(add->user_addr, add->size) ||
        !range_ok(add->mmap_offset, add->size) || add->mmap_offset + add->size > INT64_MAX)
        return -EINVAL;
    while (at < mem->count && mem->regions[at].guest_addr < add->guest_addr)
        at++;
    if (at > 0 && mem->regions[at - 1].guest_addr + mem->regions[at - 1].size > add->guest_addr)
        return -EEXIST;
    if (at < mem->count && add->guest_addr + add->size > mem->regions[at].guest_addr)
        return -EEXIST;
    err = mapping_new(add, failed, &region.mapping);
    if (err < 0)
        return err;
    region.host = (uint8_t *)region.mapping->base + add->mmap_offset;
    memmove(&mem->regions[at + 1], &mem->regions[at], (mem->count - at) * sizeof(region));
    mem->regions[at] = region;
    mem->count++;
    return 0;
}

int guest_mem_extend(const struct guest_mem *keep, const struct ovfs_mem_region *add,
                     uint32_t count, atomic_bool *failed, struct guest_mem **out)
{
    uint32_t kept = keep ? keep->count : 0;
    struct guest_mem *mem;

    if (count > GUEST_MEM_SLOTS || kept + count > GUEST_MEM_SLOTS)
        return -ENOSPC;
    mem = guest_mem_alloc(kept + count);
    if (!mem)
        return -ENOMEM;
    for (uint32_t i = 0; i < kept; i++)
        guest_mem_share(mem, &keep->regions[i]);
    for (uint32_t i = 0; i < count; i++) {
        int err = guest_mem_insert(mem, &add[i], failed);

        if (err < 0) {
            guest_mem_unref(mem);
            return err;
        }
    }
    *out = mem;
    return 0;
}

int guest_mem_without(const struct guest_mem *mem, uint64_t guest_addr, uint64_t size,
                      uint64_t user_addr, struct guest_mem **out)
{
    struct guest_mem *rest = guest_mem_alloc(mem ? mem->count : 0);
    bool found = false;

    if (!rest)
        return -ENOMEM;
    for (uint32_t i = 0; mem && i < mem->count; i++) {
        const struct guest_region *region = &mem->regions[i];

        if (region->guest_addr == guest_addr && region->size == size &&
            region->user_addr == user_addr)
            found = true;
        else
            guest_mem_share(rest, region);
    }
    if (!found) {
        guest_mem_unref(rest);
        return -ENOENT;
    }
    *out = rest;
    return 0;
}

int guest_mem_double(const struct guest_mem *mem, struct guest_mem **out)
{
    struct guest_mem *twin = guest_mem_alloc(mem->count);

    if (!twin)
        return -ENOMEM;
    for (uint32_t i = 0; i < mem->count; i++) {
        struct guest_region region = mem->regions[i];
        size_t offset = (size_t)(region.host - (uint8_t *)region.mapping->base);
        int err = mapping_double(mem->regions[i].mapping, &region.mapping);

        if (err < 0) {
            guest_mem_unref(twin);
            return err;
        }
        region.host = (uint8_t *)region.mapping->base + offset;
        twin->regions[twin->count++] = region;
    }
    *out = twin;
    return 0;
}

void guest_mem_leave(const struct guest_mem *mem)
{
    for (uint32_t i = 0; i < mem->count; i++)
        mapping_leave(mem->regions[i].mapping);
}

/* The last region that starts at or below addr; a VM has few, and they are sorted. */
static const struct guest_region *region_of(const struct guest_mem *mem, uint64_t addr)
{
    uint32_t low = 0, high = mem->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (mem->regions[middle].guest_addr <= addr)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || addr - mem->regions[low - 1].guest_addr >= mem->regions[low - 1].size)
        return NULL;
    return &mem->regions[low - 1];
}

void *guest_mem_at(const struct guest_mem *mem, uint64_t addr, uint64_t *len)
{
    const struct guest_region *region = region_of(mem, addr);
    uint64_t offset;

    if (!region)
        return NULL;
    offset = addr - region->guest_addr;
    if (*len > region->size - offset)
        *len = region->size - offset;
    return region->host + offset;
}

void *guest_mem_at_user(const struct guest_mem *mem, uint64_t user_addr, uint64_t len)
{
    for (uint32_t i = 0; i < mem->count; i++) {
        const struct guest_region *region = &mem->regions[i];

        if (user_addr < region->user_addr || user_addr - region->user_addr >= region->size)
            continue;
        if (len > region->size - (user_addr - region->user_addr))
            return NULL;
        return region->host + (user_addr - region->user_addr);
    }
    return NULL;
}
