/* SPDX-License-Identifier: Apache-2.0
 *
 * A handle is a slab slot: fh is its id, so a forged or stale one finds nothing. What is here
 * beyond the slab is the descriptor's end: it is closed by whoever unpins last, never under a
 * request that still uses it.
 */
#include "handle.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Far beyond any RLIMIT_NOFILE, which is what really bounds open files. */
enum { HANDLES_MAX = 1 << 22 };

struct handle_table {
    struct slab *slab;
    void (*on_destroy)(struct handle *handle, void *context); /* constant */
    void *context;                                            /* constant */
};

static void handle_destroy(void *slot, void *context)
{
    const struct handle_table *table = context;
    struct handle *handle = slot;

    if (table->on_destroy)
        table->on_destroy(handle, table->context);
    if (handle->fd >= 0)
        close(handle->fd);
    free(handle->dir);
    pthread_mutex_destroy(&handle->lock);
}

int handle_table_new(void (*on_destroy)(struct handle *handle, void *context), void *context,
                     struct handle_table **out)
{
    struct handle_table *table = calloc(1, sizeof(*table));
    int err;

    *out = NULL;
    if (!table)
        return -ENOMEM;
    table->on_destroy = on_destroy;
    table->context = context;
    err = slab_new(sizeof(struct handle), HANDLES_MAX, handle_destroy, table, &table->slab);
    if (err < 0) {
        free(table);
        return err;
    }
    *out = table;
    return 0;
}

void handle_table_free(struct handle_table *table)
{
    if (!table)
        return;
    slab_free(table->slab);
    free(table);
}

struct handle *handle_new(struct handle_table *table, uint64_t nodeid, int fd)
{
    struct handle *handle = slab_alloc(table->slab);

    if (!handle) {
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    handle->nodeid = nodeid;
    handle->fd = fd;
    pthread_mutex_init(&handle->lock, NULL);
    return handle;
}

uint64_t handle_id(struct handle_table *table, struct handle *handle)
{
    /* Only once: a handle that was released meanwhile must not come back to life. */
    if (!handle->published) {
        handle->published = true;
        slab_publish(table->slab, handle);
    }
    return slab_id(table->slab, handle);
}

struct handle *handle_pin(struct handle_table *table, uint64_t fh, uint64_t nodeid)
{
    struct handle *handle = slab_pin(table->slab, fh);

    if (handle && handle->nodeid != nodeid) {
        slab_unpin(table->slab, handle);
        return NULL;
    }
    return handle;
}

void handle_unpin(struct handle_table *table, struct handle *handle)
{
    slab_unpin(table->slab, handle);
}

void handle_release(struct handle_table *table, struct handle *handle)
{
    slab_retire(table->slab, handle);
}

static void release_one(void *slot, void *context)
{
    slab_retire(context, slot);
}

void handle_release_all(struct handle_table *table)
{
    slab_each(table->slab, release_one, table->slab);
}

struct visit {
    void (*visit)(struct handle *handle, void *context);
    void *context;
};

static void visit_one(void *slot, void *context)
{
    const struct visit *visit = context;

    visit->visit(slot, visit->context);
}

void handle_each(struct handle_table *table, void (*visit)(struct handle *handle, void *context),
                 void *context)
{
    struct visit both = {visit, context};

    slab_each(table->slab, visit_one, &both);
}

uint32_t handle_count(struct handle_table *table)
{
    return slab_count(table->slab);
}
