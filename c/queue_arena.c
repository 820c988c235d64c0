/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory of a queue's requests, reserved when the queue starts so that no request allocates.
 */
#include "queue.h"

#include <stdlib.h>
#include <sys/mman.h>

static void *pages(size_t size)
{
    /* Not touched until it is used: a queue of 1024 entries reserves much and needs little. */
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                    -1, 0);

    return at == MAP_FAILED ? NULL : at;
}

static size_t arena_reqs_size(uint32_t slots)
{
    return slots * sizeof(struct fuse_req);
}

static size_t arena_iovs_size(uint32_t slots)
{
    return (size_t)slots * FUSE_REQ_IOVS * sizeof(struct iovec);
}

static void arena_free(struct queue_arena *arena)
{
    if (arena->reqs)
        munmap(arena->reqs, arena_reqs_size(arena->slots));
    if (arena->iovs)
        munmap(arena->iovs, arena_iovs_size(arena->slots));
    if (arena->scratch)
        munmap(arena->scratch, QUEUE_SCRATCH);
    if (arena->names)
        munmap(arena->names, QUEUE_NAMES);
    if (arena->ext)
        munmap(arena->ext, QUEUE_EXT);
    free(arena);
}

void queue_arena_unref(struct queue_arena *arena)
{
    if (atomic_fetch_sub(&arena->refs, 1) == 1)
        arena_free(arena);
}

struct queue_arena *queue_arena_new(uint32_t slots)
{
    struct queue_arena *arena = calloc(1, sizeof(*arena));

    if (!arena)
        return NULL;
    atomic_store(&arena->refs, 1);
    arena->slots = slots;
    arena->reqs = pages(arena_reqs_size(slots));
    arena->iovs = pages(arena_iovs_size(slots));
    arena->scratch = pages(QUEUE_SCRATCH);
    arena->names = pages(QUEUE_NAMES);
    arena->ext = pages(QUEUE_EXT);
    if (!arena->reqs || !arena->iovs || !arena->scratch || !arena->names || !arena->ext) {
        arena_free(arena);
        return NULL;
    }
    return arena;
}
