/* SPDX-License-Identifier: Apache-2.0 */
#include "fs.h"

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
