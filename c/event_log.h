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

struct event_log {
    int fd;                     /* borrowed; non-blocking */
    _Atomic uint64_t dropped;   /* any thread, atomic */
    _Atomic uint64_t window_ns; /* any thread, atomic: start of the rate limit's current second */
    _Atomic uint32_t in_window; /* any thread, atomic: guest-caused lines in it */
};

/* Any thread. */
void event_log(struct event_log *log, enum ovfs_event_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for what a guest can cause: at most 10 lines a second, the rest is counted. */
void event_log_guest(struct event_log *log, enum ovfs_event_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
