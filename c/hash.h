/* SPDX-License-Identifier: Apache-2.0
 *
 * The hash of a name, or of other bytes. The seed is random, so that nobody can choose names of one
 * value.
 */
#pragma once

#include <stdint.h>
#include <string.h>
#include <sys/random.h>

static inline uint64_t hash_mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static inline uint64_t hash_name(uint64_t seed, const char *name, size_t len)
{
    uint64_t hash = hash_mix(seed, len);

    while (len > 0) {
        size_t n = len < sizeof(uint64_t) ? len : sizeof(uint64_t);
        uint64_t word = 0;

        memcpy(&word, name, n);
        hash = hash_mix(hash, word);
        name += n;
        len -= n;
    }
    return hash_mix(hash, seed);
}

static inline uint64_t hash_seed(void)
{
    uint64_t seed;

    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) < 0)
        seed = (uintptr_t)&hash_seed; /* early boot: some randomness of the address space */
    return seed;
}
