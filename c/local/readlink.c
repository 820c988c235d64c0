/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: READLINK. In: a pinned node. Out: where it points, without a NUL; the guest's
 * kernel resolves it, the host never does. Queue thread.
 */
#include <errno.h>
#include <linux/limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../queue.h"
#include "local.h"

int local_readlink(struct fuse_req *req)
{
    char *target = queue_scratch(req->queue);
    ssize_t len;
    int fd;

    if (req->inode->type != S_IFLNK)
        return -EINVAL;
    fd = node_fd(req->local, req->inode);
    if (fd < 0)
        return fd;
    len = readlinkat(fd, "", target, PATH_MAX);
    if (len < 0)
        return -errno;
    return fuse_req_put(req, target, (size_t)len);
}
