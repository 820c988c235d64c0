/* SPDX-License-Identifier: Apache-2.0
 *
 * Hints to the core that this thread runs on; none changes what a program means. Any thread.
 *
 * A request's cache lines were last written by the driver's core, and each takes as long to come
 * from there as a small system call. Asked for ahead they come together, while others are served.
 */
#pragma once

/* Between two looks at memory that another core may write: lets that core, and the other thread
 * of this one, go first. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#endif
}

/* at: anything, NULL too; what is not mapped does not come. */
static inline void cpu_prefetch(const void *at)
{
    __builtin_prefetch(at);
}

/* So that a store finds the line here and nowhere else. */
static inline void cpu_prefetch_to_write(const void *at)
{
#if defined(__x86_64__)
    /* The builtin makes it a read unless told that the processor has this; all do, or ignore it. */
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)at));
#else
    __builtin_prefetch(at, 1);
#endif
}
