/* SPDX-License-Identifier: Apache-2.0
 *
 * What the control plane says of nodes and names by itself: the boundary's functions, as ovfs_api.h
 * promises them. Remote thread.
 */
#include <errno.h>

#include "../clock.h"
#include "../plane.h"
#include "names.h"

static struct remote *remote_of(const struct ovfs_plane *plane)
{
    return (struct remote *)plane->fs;
}

int ovfs_node_attr(struct ovfs_plane *plane, uint64_t ino, const struct ovfs_attr *attr,
                   uint64_t valid_ns)
{
    struct remote *remote = remote_of(plane);
    struct node *node;

    stamp_mark(&remote->stamps, STAMP_ATTR, ino);
    node = node_find(remote, ino, false);
    if (!node)
        return -ENOENT;
    node_set_attr(remote, node, attr, clock_until(valid_ns));
    node_unpin(remote, node);
    return 0;
}

int ovfs_node_content(struct ovfs_plane *plane, uint64_t ino, struct ovfs_content *content)
{
    struct remote *remote = remote_of(plane);
    struct node *node = node_find(remote, ino, false);

    if (!node)
        return -ENOENT;
    node_attach(remote, node, content);
    node_unpin(remote, node);
    return 0;
}

int ovfs_name_set(struct ovfs_plane *plane, uint64_t parent, const char *name, uint32_t len,
                  uint64_t ino, uint64_t valid_ns)
{
    return names_set(remote_of(plane), parent, name, len, ino, clock_until(valid_ns));
}

int ovfs_names_drop(struct ovfs_plane *plane, uint64_t parent)
{
    struct remote *remote = remote_of(plane);
    struct node *node;

    stamp_mark(&remote->stamps, STAMP_NAMES, parent);
    node = node_find(remote, parent, false);
    if (!node)
        return 0;
    node_set_listing(remote, node, NULL);
    node_unpin(remote, node);
    return 0;
}

int ovfs_listing_set(struct ovfs_plane *plane, uint64_t dir_ino, uint64_t parent_ino,
                     uint32_t count, const struct ovfs_entry *entries, const char *names,
                     const uint16_t *name_lens, uint64_t valid_ns)
{
    struct remote *remote = remote_of(plane);
    struct node *node = node_find(remote, dir_ino, false);
    struct listing *listing;
    int err;

    if (!node)
        return -ENOENT;
    listing = listing_new(count, entries, names, name_lens, clock_ns(), &err);
    if (listing) {
        listing->parent_ino = parent_ino;
        listing->until_ns = clock_until(valid_ns);
        listing->stamp = stamp_new(&remote->stamps);
        node_set_listing(remote, node, listing);
        err = 0;
    }
    node_unpin(remote, node);
    return err;
}
