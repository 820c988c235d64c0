/* SPDX-License-Identifier: Apache-2.0
 *
 * What names stood for when they were last looked up.
 *
 * DESIGN. It holds guesses, not answers: whoever takes one proves it before using it, so that it
 * can be wrong at any time and nothing has to be invalidated. What cannot be wrong is what it says
 * of the node itself: which inode number it has, on which device, and when it was born. While a
 * node's descriptor is open its inode number is nobody else's, hence the proof: the descriptor was
 * open before the name was asked for its attributes, and these are of that inode.
 *
 *      entry    | check | nodeid | ino | birth |    check: a hash of the name's key and the rest
 *
 * Entries are written and read without a lock. One that is torn between two writers fails its
 * check.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct name_cache;
struct statx;

struct name_guess {
    uint64_t nodeid;
    uint64_t ino;
    uint64_t birth; /* of device and time of birth; see name_birth */
};

int name_cache_new(struct name_cache **out); /* 0 or -ENOMEM */
void name_cache_free(struct name_cache *cache);

/* Any thread, all of these. */

/* Names a name: of a directory's node and the name in it. A key is of its epoch alone: where that
 * has changed, what was put before is not found any more. */
uint64_t name_key(const struct name_cache *cache, uint64_t dir, const char *name, size_t len,
                  uint32_t epoch);
bool name_cache_get(const struct name_cache *cache, uint64_t key, struct name_guess *out);
void name_cache_put(struct name_cache *cache, uint64_t key, const struct name_guess *guess);
void name_cache_drop(struct name_cache *cache, uint64_t key);

/* What tells inodes of one number apart where a file system gives numbers twice. */
uint64_t name_birth(const struct statx *stx);
