/* SPDX-License-Identifier: Apache-2.0 */
#include "fs.h"

#include <fcntl.h>

#include "wire_fuse.h"

/* Requests that are in flight keep what they have pinned until they end; no id finds it again. */
void fs_reset(struct fs *fs)
{
    atomic_store(&fs->minor, 0);
    atomic_store(&fs->features, 0);
    fs->ops->reset(fs);
}

void fs_stats(struct fs *fs, struct ovfs_stats *out)
{
    out->inodes = inode_count(fs->inodes);
    out->handles = handle_count(fs->handles);
    fs->ops->stats(fs, out);
}

/* FOPEN_NOFLUSH saves a request per close. It is for reading only: a close after writing is when a
 * host that has the file over a network reports what it could not store, and when pages written
 * through a mapping get here. Record locks go at FLUSH, so with them there is one always. */
uint32_t fs_open_flags(struct fs *fs, bool is_dir, int flags, bool keep)
{
    uint64_t features = atomic_load_explicit(&fs->features, memory_order_relaxed);
    enum ovfs_cache cache = fs->options.cache;
    uint32_t out = 0;

    if (is_dir)
        return cache == OVFS_CACHE_ALWAYS || cache == OVFS_CACHE_METADATA
                   ? FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR
                   : 0;
    if (cache == OVFS_CACHE_NEVER || cache == OVFS_CACHE_METADATA)
        /* With no page cache in between, two writers need no lock in the guest: the host has it. */
        out |= FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
    else if (cache == OVFS_CACHE_ALWAYS || keep)
        out |= FOPEN_KEEP_CACHE;
    if (flags & O_DIRECT)
        out |= FOPEN_PARALLEL_DIRECT_WRITES;
    if ((flags & O_ACCMODE) == O_RDONLY && !fs->options.posix_lock &&
        !(features & FUSE_WRITEBACK_CACHE))
        out |= FOPEN_NOFLUSH;
    return out;
}
