/* SPDX-License-Identifier: Apache-2.0
 *
 * What is known of a node, in the wire's form. The guest may keep it for what is left of its
 * validity, and for --attr-timeout or --entry-timeout at most.
 */
#pragma once

#include <stdint.h>

#include "node.h"

struct fuse_attr_out;
struct fuse_entry_out;
struct fuse_statx_out;

void wire_attr(const struct remote *remote, uint64_t ino, const struct ovfs_attr *attr,
               uint64_t until_ns, uint64_t now_ns, struct fuse_attr_out *out);
void wire_statx(const struct remote *remote, uint64_t ino, const struct ovfs_attr *attr,
                uint64_t until_ns, uint64_t now_ns, struct fuse_statx_out *out);
/* entry_until_ns: of the name. */
void wire_entry(const struct remote *remote, struct node *node, const struct ovfs_attr *attr,
                uint64_t attr_until_ns, uint64_t entry_until_ns, uint64_t now_ns,
                struct fuse_entry_out *out);
/* There is no such name, for a while. False: not for any time, so it is plainly ENOENT. */
bool wire_no_entry(const struct remote *remote, uint64_t until_ns, uint64_t now_ns,
                   struct fuse_entry_out *out);
