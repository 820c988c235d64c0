/* SPDX-License-Identifier: Apache-2.0
 *
 * Descriptors that were open for reading until a moment ago, for whoever opens the same file next.
 *
 * DESIGN. Programs open the same files again and again: headers, scripts, libraries, lock files.
 * RELEASE puts the descriptor here instead of closing it, and an OPEN for reading of the same node
 * within OPEN_CACHE_NS takes it out again: neither costs a system call then. One that is taken is
 * its taker's alone, so that each open file has its own readahead; two that are open at once are
 * two descriptors. What may be put here: descriptors of regular files, opened O_RDONLY and with no
 * other flag, on a file system of this host, by a daemon whose rights do not depend on the file's
 * mode, and which holds no lock. All else that open(2) decides then is the same a second later.
 *
 *      set of a node    | node, fd, time | ... 3 |    the oldest makes room
 *
 * A descriptor goes with its node at the latest, or when descriptors run out.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct open_cache;

enum { OPEN_CACHE_NS = 1000000000 };

/* limit: so many descriptors at most; 0: none are kept. 0 or -ENOMEM. */
int open_cache_new(uint32_t limit, struct open_cache **out);
void open_cache_free(struct open_cache *cache); /* closes what is left; NULL is allowed */

/* Any thread, all of these. */

/* A descriptor of the node, now the caller's; -1: there is none. */
int open_cache_take(struct open_cache *cache, uint64_t nodeid);
/* Take a descriptor over, closing another one where there is no room. The caller has the node
 * pinned: what is put here goes when the node does, see open_cache_drop. */
void open_cache_put(struct open_cache *cache, uint64_t nodeid, int fd);
/* The node is gone: close its descriptors. */
void open_cache_drop(struct open_cache *cache, uint64_t nodeid);
/* Close all. How many there were. */
uint32_t open_cache_clear(struct open_cache *cache);
/* How many there are. It looks at all of them: for the metrics. */
uint32_t open_cache_count(struct open_cache *cache);
