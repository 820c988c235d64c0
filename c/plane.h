/* SPDX-License-Identifier: Apache-2.0
 *
 * The plane: one device with its queues, its guest memory and its file system. A process may hold
 * several; they share nothing.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "event_log.h"
#include "guest_mem.h"
#include "api.h"
#include "queue.h"

struct fs;
struct pool;

struct ovfs_plane {
    struct ovfs_options options; /* constant */
    struct event_log log;        /* any thread */
    struct fs *fs;               /* constant pointer; any thread, as its parts say */
    struct pool *pool;           /* constant pointer; any thread */
    atomic_bool mem_failed;      /* any thread, atomic: raised by the SIGBUS handler */
    atomic_bool failure_told;    /* any thread, atomic: the control plane knows of it */
    struct guest_mem *mem;       /* control thread only; NULL before the first table */
    uint32_t queue_count;        /* constant */
    struct queue queues[];       /* each as its own fields say */
};
