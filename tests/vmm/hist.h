/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A latency histogram: 32 buckets to each power of two, so a reading is at most 3 % off, in fixed
 * memory. Nanoseconds.
 */
#ifndef VMM_HIST_H
#define VMM_HIST_H

#include <stdint.h>

#define HIST_SUB     5
#define HIST_BUCKETS ((64 - HIST_SUB + 1) << HIST_SUB)

struct hist {
    uint64_t count;
    uint64_t sum;
    uint64_t max;
    uint64_t bucket[HIST_BUCKETS];
};

static inline unsigned hist_index(uint64_t value)
{
    unsigned shift;

    if (value < (1u << HIST_SUB))
        return (unsigned)value;
    shift = 63u - (unsigned)__builtin_clzll(value) - HIST_SUB;
    return ((shift + 1) << HIST_SUB) + (unsigned)((value >> shift) & ((1u << HIST_SUB) - 1));
}

static inline void hist_add(struct hist *hist, uint64_t value)
{
    hist->count++;
    hist->sum += value;
    if (value > hist->max)
        hist->max = value;
    hist->bucket[hist_index(value)]++;
}

/* The middle of the bucket below which permille/1000 of the values lie; 0 without values. */
static inline uint64_t hist_quantile(const struct hist *hist, unsigned permille)
{
    uint64_t want = (hist->count * permille + 999) / 1000, seen = 0;

    for (unsigned i = 0; i < HIST_BUCKETS && want > 0; i++) {
        seen += hist->bucket[i];
        if (seen >= want) {
            unsigned shift = i >> HIST_SUB;
            uint64_t low = i & ((1u << HIST_SUB) - 1);

            if (shift == 0)
                return low;
            low = (low | (1u << HIST_SUB)) << (shift - 1);
            return low + ((1ull << (shift - 1)) >> 1);
        }
    }
    return 0;
}

#endif
