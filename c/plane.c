/* SPDX-License-Identifier: Apache-2.0
 *
 * The boundary's functions, as ovfs_api.h promises them. Control thread.
 */
#include "plane.h"

#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "fs.h"
#include "local/local.h"
#include "pool.h"
#include "remote/remote.h"

static int make_fs(struct ovfs_plane *plane, char *why, size_t why_size)
{
    struct remote *remote;
    struct local *local;
    int err;

    if (plane->options.remote) {
        err = remote_new(&plane->options, &plane->log, &remote, why, why_size);
        plane->fs = err < 0 ? NULL : &remote->fs;
    } else {
        err = local_new(&plane->options, &plane->log, &local, why, why_size);
        plane->fs = err < 0 ? NULL : &local->fs;
    }
    return err;
}

int ovfs_plane_new(const struct ovfs_options *options, struct ovfs_plane **out, char *why,
                   size_t why_size)
{
    struct ovfs_plane *plane;
    int err = 0;

    *out = NULL;
    plane = calloc(1, sizeof(*plane) + options->queues * sizeof(plane->queues[0]));
    if (!plane) {
        snprintf(why, why_size, "out of memory");
        return -ENOMEM;
    }
    plane->options = *options;
    plane->log.fd = options->event_fd;
    plane->queue_count = options->queues;
    for (uint32_t i = 0; i < plane->queue_count; i++) {
        int queue_err = queue_init(&plane->queues[i], plane, i);

        err = err < 0 ? err : queue_err;
    }
    if (err == 0)
        err = pool_new(&plane->pool);
    if (err < 0)
        snprintf(why, why_size, "queues and pool: %s", strerror(-err));
    else
        err = make_fs(plane, why, why_size);
    if (err < 0) {
        ovfs_plane_free(plane);
        return err;
    }
    *out = plane;
    return 0;
}

static bool any_queue(const struct ovfs_plane *plane)
{
    for (uint32_t i = 0; i < plane->queue_count; i++)
        if (plane->queues[i].running)
            return true;
    return false;
}

/* Requests that a stop gave up end when their disk does. By then the guest has been told of an
 * error and uses that memory for something else. So once no queue runs we go on at other addresses,
 * and they get the old ones without the guest's memory behind them. */
static void leave_memory(struct ovfs_plane *plane)
{
    struct guest_mem *twin = NULL;

    for (uint32_t i = 0; i < plane->queue_count; i++) {
        const struct guest_mem *left = plane->queues[i].left_mem;

        if (!left)
            continue;
        if (plane->mem && !twin) {
            int err = guest_mem_double(plane->mem, &twin);

            if (err < 0) {
                event_log(&plane->log, OVFS_EVENT_WARNING,
                          "requests that were given up may still write to guest memory: %s",
                          strerrorname_np(-err));
                return;
            }
            guest_mem_unref(plane->mem);
            plane->mem = twin;
        }
        guest_mem_leave(left);
        guest_mem_unref(left);
        plane->queues[i].left_mem = NULL;
    }
}

void ovfs_plane_free(struct ovfs_plane *plane)
{
    uint32_t base;

    if (!plane)
        return;
    for (uint32_t i = 0; i < plane->queue_count; i++)
        queue_stop(&plane->queues[i], &base);
    leave_memory(plane);
    pool_free(plane->pool);
    for (uint32_t i = 0; i < plane->queue_count; i++)
        queue_destroy(&plane->queues[i]);
    if (plane->fs)
        plane->fs->ops->free(plane->fs);
    guest_mem_unref(plane->mem);
    free(plane);
}

int ovfs_plane_reset(struct ovfs_plane *plane)
{
    if (any_queue(plane))
        return -EBUSY;
    fs_reset(plane->fs);
    return 0;
}

int ovfs_plane_sync(struct ovfs_plane *plane)
{
    return plane->fs->ops->sync(plane->fs);
}

static uint64_t load(_Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void ovfs_plane_stats(struct ovfs_plane *plane, struct ovfs_stats *out)
{
    *out = (struct ovfs_stats){.events_dropped = load(&plane->log.dropped)};
    for (uint32_t i = 0; i < plane->queue_count; i++) {
        struct queue_counters *counters = &plane->queues[i].counters;

        out->requests += load(&counters->requests);
        out->replies += load(&counters->replies);
        out->batches += load(&counters->batches);
        out->interrupts += load(&counters->interrupts);
        out->enters += load(&counters->enters);
        out->bad_chains += load(&counters->bad_chains);
        out->sqes += load(&counters->sqes);
        out->pooled += load(&counters->pooled);
        out->in_flight += load(&counters->in_flight);
    }
    fs_stats(plane->fs, out);
}

/* Every queue changes over to `mem`, which this takes over. */
static int change_mem(struct ovfs_plane *plane, struct guest_mem *mem)
{
    for (uint32_t i = 0; i < plane->queue_count; i++)
        queue_swap_mem(&plane->queues[i], mem);
    guest_mem_unref(plane->mem);
    plane->mem = mem;
    return 0;
}

int ovfs_mem_set(struct ovfs_plane *plane, const struct ovfs_mem_region *regions, uint32_t count)
{
    struct guest_mem *mem;
    int err = guest_mem_extend(NULL, regions, count, &plane->mem_failed, &mem);

    if (err < 0)
        return err;
    err = change_mem(plane, mem);
    /* Nothing of the old table is left, so nothing of its failure. */
    atomic_store(&plane->mem_failed, false);
    atomic_store(&plane->failure_told, false);
    return err;
}

int ovfs_mem_add(struct ovfs_plane *plane, const struct ovfs_mem_region *region)
{
    struct guest_mem *mem;
    int err = guest_mem_extend(plane->mem, region, 1, &plane->mem_failed, &mem);

    return err < 0 ? err : change_mem(plane, mem);
}

int ovfs_mem_remove(struct ovfs_plane *plane, uint64_t guest_addr, uint64_t size,
                    uint64_t user_addr)
{
    struct guest_mem *mem;
    int err = guest_mem_without(plane->mem, guest_addr, size, user_addr, &mem);

    return err < 0 ? err : change_mem(plane, mem);
}

uint32_t ovfs_mem_slots(void)
{
    return GUEST_MEM_SLOTS;
}

int ovfs_queue_start(struct ovfs_plane *plane, uint32_t index, const struct ovfs_vring *vring)
{
    return index < plane->queue_count ? queue_start(&plane->queues[index], vring) : -EINVAL;
}

int ovfs_queue_stop(struct ovfs_plane *plane, uint32_t index, uint32_t *base)
{
    int err = index < plane->queue_count ? queue_stop(&plane->queues[index], base) : -EINVAL;

    if (!any_queue(plane))
        leave_memory(plane);
    return err;
}

int ovfs_queue_set_call(struct ovfs_plane *plane, uint32_t index, int call_fd)
{
    return index < plane->queue_count ? queue_set_call(&plane->queues[index], call_fd) : -EINVAL;
}
