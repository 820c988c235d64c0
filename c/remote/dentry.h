/* SPDX-License-Identifier: Apache-2.0
 *
 * Names that were said one by one: (directory's ino, name) -> ino, or "no such name", for a time.
 *
 * DESIGN. 64 shards by hash, each a table of fixed size with a clock over it: bounded, and what is
 * not asked for goes first. A name is said by the remote thread, which allocates; finding one takes
 * the shard's lock for a few memory accesses and allocates nothing. Expired names stay until the
 * clock takes them, since an expired one still says something: see `overlay`.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stamps;

struct dentry {
    uint64_t ino;      /* 0: there is no such name */
    uint64_t until_ns; /* 0: nothing is known of it */
    uint64_t stamp;    /* of when it was said */
    bool overlay;      /* the directory's listing says otherwise, and is older */
};

struct dentry_table;

int dentry_table_new(struct stamps *stamps, struct dentry_table **out);
void dentry_table_free(struct dentry_table *table);

/* Any thread. True where there is one, expired or not. */
bool dentry_find(struct dentry_table *table, uint64_t parent, const char *name, size_t len,
                 struct dentry *out);
/* Remote thread. -ENOMEM: not kept, and an older one of that name is gone. An overlay that goes
 * to make room is noted as STAMP_LOOKUPS. */
int dentry_set(struct dentry_table *table, uint64_t parent, const char *name, size_t len,
               const struct dentry *dentry);
/* Any thread. */
void dentry_remove(struct dentry_table *table, uint64_t parent, const char *name, size_t len);
void dentry_clear(struct dentry_table *table);
uint32_t dentry_count(struct dentry_table *table);
