/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6a: FORGET and BATCH_FORGET. They have no reply, and nothing a guest puts in them can fail:
 * unknown nodes are ignored, counts are clamped. Queue thread, mostly the hiprio queue's, while
 * other queues use the same nodes; a pinned node lives on until it is unpinned.
 */
#include "local.h"

int local_forget(struct fuse_req *req)
{
    inode_forget(req->local->inodes, req->in_header.nodeid, req->arg.forget.nlookup);
    return 0;
}

int local_batch_forget(struct fuse_req *req)
{
    struct fuse_forget_one one;
    uint32_t i;

    /* The count is the guest's word; the chain's end is the bound. */
    for (i = 0; i < req->arg.batch_forget.count; i++) {
        if (chain_read(&req->in, &one, sizeof(one)) < 0)
            break;
        inode_forget(req->local->inodes, one.nodeid, one.nlookup);
    }
    return 0;
}
