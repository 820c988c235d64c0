/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: STATFS. In: a pinned node. Out: how full the file system below it is. Queue thread.
 */
#include <errno.h>
#include <sys/statfs.h>

#include "local.h"

int local_statfs(struct fuse_req *req)
{
    int fd = node_fd(req->local, req->inode);
    struct fuse_statfs_out out = {0};
    struct statfs st;

    if (fd < 0)
        return fd;
    if (fstatfs(fd, &st) < 0)
        return -errno;
    out.st.blocks = st.f_blocks;
    out.st.bfree = st.f_bfree;
    out.st.bavail = st.f_bavail;
    out.st.files = st.f_files;
    out.st.ffree = st.f_ffree;
    out.st.bsize = (uint32_t)st.f_bsize;
    out.st.namelen = (uint32_t)st.f_namelen;
    out.st.frsize = (uint32_t)(st.f_frsize ? st.f_frsize : st.f_bsize);
    return fuse_req_put(req, &out, sizeof(out));
}
