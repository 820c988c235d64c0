/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include <linux/stat.h>

enum { NS_PER_S = 1000000000, SECTOR = 512 };

static uint64_t valid(uint64_t until_ns, uint64_t now_ns, uint64_t most_ns)
{
    uint64_t left = until_ns > now_ns ? until_ns - now_ns : 0;

    return left < most_ns ? left : most_ns;
}

/* Before 1970 the seconds are negative, and the nanoseconds are not. */
static int64_t split(int64_t ns, uint32_t *rest)
{
    int64_t seconds = ns / NS_PER_S, left = ns % NS_PER_S;

    if (left < 0) {
        left += NS_PER_S;
        seconds--;
    }
    *rest = (uint32_t)left;
    return seconds;
}

static struct fuse_sx_time sx_time(int64_t ns)
{
    struct fuse_sx_time time = {0};

    time.tv_sec = split(ns, &time.tv_nsec);
    return time;
}

static uint64_t blocks_of(const struct ovfs_attr *attr)
{
    return attr->size / SECTOR + (attr->size % SECTOR > 0);
}

static void fill(uint64_t ino, const struct ovfs_attr *attr, struct fuse_attr *out)
{
    *out = (struct fuse_attr){
        .ino = ino,
        .size = attr->size,
        .blocks = blocks_of(attr),
        .mode = attr->mode,
        .nlink = attr->nlink,
        .uid = attr->uid,
        .gid = attr->gid,
        .rdev = attr->rdev,
        .blksize = OVFS_PAGE,
    };
    out->atime = (uint64_t)split(attr->atime_ns, &out->atimensec);
    out->mtime = (uint64_t)split(attr->mtime_ns, &out->mtimensec);
    out->ctime = (uint64_t)split(attr->ctime_ns, &out->ctimensec);
}

void wire_attr(const struct remote *remote, uint64_t ino, const struct ovfs_attr *attr,
               uint64_t until_ns, uint64_t now_ns, struct fuse_attr_out *out)
{
    uint64_t valid_ns = valid(until_ns, now_ns, remote->fs.options.attr_timeout_ns);

    *out = (struct fuse_attr_out){
        .attr_valid = valid_ns / NS_PER_S,
        .attr_valid_nsec = (uint32_t)(valid_ns % NS_PER_S),
    };
    fill(ino, attr, &out->attr);
}

void wire_statx(const struct remote *remote, uint64_t ino, const struct ovfs_attr *attr,
                uint64_t until_ns, uint64_t now_ns, struct fuse_statx_out *out)
{
    uint64_t valid_ns = valid(until_ns, now_ns, remote->fs.options.attr_timeout_ns);

    *out = (struct fuse_statx_out){
        .attr_valid = valid_ns / NS_PER_S,
        .attr_valid_nsec = (uint32_t)(valid_ns % NS_PER_S),
    };
    out->stat = (struct fuse_statx){
        .mask = STATX_BASIC_STATS,
        .blksize = OVFS_PAGE,
        .nlink = attr->nlink,
        .uid = attr->uid,
        .gid = attr->gid,
        .mode = (uint16_t)attr->mode,
        .ino = ino,
        .size = attr->size,
        .blocks = blocks_of(attr),
        .atime = sx_time(attr->atime_ns),
        .ctime = sx_time(attr->ctime_ns),
        .mtime = sx_time(attr->mtime_ns),
        /* the wire's packing, taken apart: 20 bits of minor around 12 of major */
        .rdev_major = attr->rdev >> 8 & 0xfff,
        .rdev_minor = (attr->rdev & 0xff) | (attr->rdev >> 12 & 0xfff00),
    };
}

void wire_entry(const struct remote *remote, struct node *node, const struct ovfs_attr *attr,
                uint64_t attr_until_ns, uint64_t entry_until_ns, uint64_t now_ns,
                struct fuse_entry_out *out)
{
    const struct ovfs_options *options = &remote->fs.options;
    uint64_t attr_ns = valid(attr_until_ns, now_ns, options->attr_timeout_ns);
    uint64_t entry_ns = valid(entry_until_ns, now_ns, options->entry_timeout_ns);

    *out = (struct fuse_entry_out){
        .nodeid = inode_id(remote->fs.inodes, &node->inode),
        .entry_valid = entry_ns / NS_PER_S,
        .entry_valid_nsec = (uint32_t)(entry_ns % NS_PER_S),
        .attr_valid = attr_ns / NS_PER_S,
        .attr_valid_nsec = (uint32_t)(attr_ns % NS_PER_S),
    };
    fill(node_ino(node), attr, &out->attr);
}

bool wire_no_entry(const struct remote *remote, uint64_t until_ns, uint64_t now_ns,
                   struct fuse_entry_out *out)
{
    uint64_t entry_ns = valid(until_ns, now_ns, remote->fs.options.entry_timeout_ns);

    *out = (struct fuse_entry_out){
        .entry_valid = entry_ns / NS_PER_S,
        .entry_valid_nsec = (uint32_t)(entry_ns % NS_PER_S),
    };
    return entry_ns > 0;
}
