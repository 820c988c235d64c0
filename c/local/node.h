/* SPDX-License-Identifier: Apache-2.0
 *
 * The descriptors of nodes: what lookup.c and local.c need of node.c beyond local.h.
 *
 * DESIGN. A node's O_PATH descriptor sits in inode->fd, set by whoever opens it first (a
 * compare-and-swap from -1) and borrowed by all who have the node pinned. Nodes with a handle can
 * lose it at any time at which nobody has them pinned: a CLOCK over a list of node ids takes
 * descriptors away once there are `limit` of them. Never taken: the descriptor of a node without a
 * handle, which is all that identifies it, and that of a held node, whose last name is gone.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct inode;
struct local;
struct node_cache;

/* A guest that opens files without end must not have the last ones: all else that it asks of a file
 * needs a descriptor for a moment, and takes turns with these. */
enum { NODE_RESERVE = 16 };

int node_cache_new(uint32_t limit, struct node_cache **out);
void node_cache_free(struct node_cache *cache); /* after the inode table */
uint32_t node_cache_count(struct node_cache *cache);

/* Any thread, all of these. */

/* inode_enter made this node with a descriptor. It is pinned. */
void node_added(struct local *local, struct inode *inode);
/* Take over an O_PATH descriptor of a pinned node: kept, or closed where it has one. */
void node_offer(struct local *local, struct inode *inode, int fd);
/* Whether the pinned node has its descriptor open; it keeps it while it is pinned. */
bool node_has_fd(struct inode *inode);
/* The pinned node is used again: open its descriptor, if none need be closed for that. */
void node_reopen(struct local *local, struct inode *inode);
/* The node is freed: close its descriptor. */
void node_gone(struct local *local, struct inode *inode);
/* After a call failed with err: true where it was for want of descriptors (-EMFILE, -ENFILE) and
 * some have been closed, so that trying once more makes sense. keep: so many are left open. */
bool node_make_room(struct local *local, int err, uint32_t keep);
/* Want of descriptors is -ENFILE to the guest, whose process it is not that has too many. */
int node_errno(int err);
/* open_by_handle_at of a mount whose node the caller has pinned: descriptor or -errno. */
int node_open_handle(struct local *local, uint32_t mount, void *file_handle, int flags);
