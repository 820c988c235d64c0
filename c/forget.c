/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: FORGET and BATCH_FORGET. They have no reply, and nothing a guest puts in them can
 * fail: unknown nodes are ignored, counts are clamped. Queue thread, mostly the hiprio queue's,
 * while other queues use the same nodes; a pinned node lives on until it is unpinned.
 */
#include "fs.h"
#include "fuse_req.h"
#include "inode.h"

int fs_forget(struct fuse_req *req)
{
    inode_forget(req->fs->inodes, req->in_header.nodeid, req->arg.forget.nlookup);
    return 0;
}

int fs_batch_forget(struct fuse_req *req)
{
    struct fuse_forget_one one;
    uint32_t i;

    /* The count is the guest's word; the chain's end is the bound. */
    for (i = 0; i < req->arg.batch_forget.count; i++) {
        if (chain_read(&req->in, &one, sizeof(one)) < 0)
            break;
        inode_forget(req->fs->inodes, one.nodeid, one.nlookup);
    }
    return 0;
}
