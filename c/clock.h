/* SPDX-License-Identifier: Apache-2.0
 *
 * The clock for durations and deadlines. Any thread.
 */
#pragma once

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The end of a validity that begins at `now`; 0: there is none. */
static inline uint64_t clock_after(uint64_t now, uint64_t valid_ns)
{
    if (valid_ns == 0)
        return 0;
    return valid_ns > UINT64_MAX - now ? UINT64_MAX : now + valid_ns;
}

static inline uint64_t clock_until(uint64_t valid_ns)
{
    return clock_after(clock_ns(), valid_ns);
}
