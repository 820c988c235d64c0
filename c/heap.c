/* SPDX-License-Identifier: Apache-2.0
 *
 * What the C library's heap does with freed memory. Data that passes through a process in buffers
 * of megabytes meets malloc's habit of mapping and unmapping each: the kernel then clears every
 * page of it, only for it to be overwritten.
 */
#include <limits.h>
#include <malloc.h>

#include "api.h"

/* The most that glibc takes from its heap rather than mapping it. */
enum { LARGEST_KEPT = 32 << 20 };

/* Each further heap would keep as much for itself. */
enum { HEAPS = 2 };

void ovfs_heap_keep(size_t bytes)
{
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, HEAPS);
    mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT);
    mallopt(M_TRIM_THRESHOLD, bytes < INT_MAX ? (int)bytes : INT_MAX);
#else
    (void)bytes;
#endif
}

void ovfs_heap_trim(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}
