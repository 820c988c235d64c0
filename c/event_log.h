/* SPDX-License-Identifier: Apache-2.0
 *
 * One line for the operator: a packet on the pipe that the control plane logs from. Never on the
 * data path of a request that succeeds; rate-limited where a guest could cause it at will.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "api.h"

/* Any thread, atomic. Each kind of event has one of its own, so that a guest which causes many of
 * little weight does not silence those of more. */
struct event_limit {
    _Atomic uint64_t second_ns; /* start of the current second */
    _Atomic uint32_t lines;     /* guest-caused ones in it */
};

struct event_log {
    int fd;                                                  /* borrowed; non-blocking */
    _Atomic uint64_t dropped;                                /* any thread, atomic */
    struct event_limit limits[OVFS_EVENT_DEVICE_FAILED + 1]; /* by kind */
};

/* Any thread. */
void event_log(struct event_log *log, enum ovfs_event_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for what a guest can cause: at most 10 lines of a kind a second, the rest is
 * counted. */
void event_log_guest(struct event_log *log, enum ovfs_event_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
