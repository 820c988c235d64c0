/* SPDX-License-Identifier: Apache-2.0
 *
 * What is known of a name: put together from what was said of it alone (dentry.h) and from its
 * directory's listing (listing.h). Of the two the newer one counts.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "node.h"

enum name_answer {
    NAME_UNKNOWN, /* to be asked for */
    NAME_NONE,    /* there is no such name */
    NAME_IS,
};

struct name_known {
    uint64_t ino;
    uint64_t until_ns;
    bool has_listed; /* the directory's listing knows the node too */
    struct listed_name from;
};

/* Any thread; dir is pinned. */
enum name_answer names_find(struct remote *remote, struct node *dir, const char *name, size_t len,
                            uint64_t now_ns, struct name_known *out);

/* Remote thread. ino 0: there is no such name; until_ns 0: nothing is known of it any more.
 * -ENOMEM: not kept. */
int names_set(struct remote *remote, uint64_t parent, const char *name, size_t len, uint64_t ino,
              uint64_t until_ns);
