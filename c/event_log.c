/* SPDX-License-Identifier: Apache-2.0 */
#include "event_log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { GUEST_LINES_PER_SECOND = 10 };

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void event_write(struct event_log *log, enum ovfs_event_kind kind, const char *format,
                        va_list args)
{
    struct ovfs_event event = {.kind = kind};

    vsnprintf(event.text, sizeof(event.text), format, args);
    /* A full pipe must not stop a queue: the line is lost, and its loss is counted. */
    if (write(log->fd, &event, sizeof(event)) != (ssize_t)sizeof(event))
        atomic_fetch_add_explicit(&log->dropped, 1, memory_order_relaxed);
}

void event_log(struct event_log *log, enum ovfs_event_kind kind, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    event_write(log, kind, format, args);
    va_end(args);
}

/* Two threads may both open a new second; then a few lines more get through, which is harmless. */
static bool within(struct event_limit *limit)
{
    uint64_t now = now_ns();
    uint64_t start = atomic_load_explicit(&limit->second_ns, memory_order_relaxed);

    if (now - start > 1000000000u) {
        atomic_store_explicit(&limit->second_ns, now, memory_order_relaxed);
        atomic_store_explicit(&limit->lines, 0, memory_order_relaxed);
    }
    return atomic_fetch_add_explicit(&limit->lines, 1, memory_order_relaxed) <
           GUEST_LINES_PER_SECOND;
}

void event_log_guest(struct event_log *log, enum ovfs_event_kind kind, const char *format, ...)
{
    va_list args;

    if (!within(&log->limits[kind])) {
        atomic_fetch_add_explicit(&log->dropped, 1, memory_order_relaxed);
        return;
    }
    va_start(args, format);
    event_write(log, kind, format, args);
    va_end(args);
}
