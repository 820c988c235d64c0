/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6b: extended attributes. They are kept with the object where POSIX metadata is; the guest's
 * kernel asks for security.capability before each write, so "has none" is known here. Queue thread.
 */
#include <errno.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/xattr.h>

#include "../clock.h"
#include "../queue.h"
#include "node.h"

#define ACL_PREFIX "system.posix_acl_"

/* With the option off the answer is ENOSYS: the client then stops asking. */
static int may(const struct fuse_req *req, const char *name)
{
    const struct ovfs_options *options = &req->fs->options;

    if (!options->xattr)
        return -ENOSYS;
    if (!options->posix_metadata || strncmp(name, ACL_PREFIX, strlen(ACL_PREFIX)) == 0)
        return -EOPNOTSUPP;
    return 0;
}

static bool has_none(struct fuse_req *req)
{
    struct ovfs_attr attr;
    uint64_t until_ns;

    return node_attr(req->remote, node_of(req->inode), clock_ns(), &attr, &until_ns) &&
           attr.flags & OVFS_ATTR_NO_XATTRS;
}

int remote_getxattr(struct fuse_req *req)
{
    int err = may(req, req->name[0]);

    if (err < 0)
        return err;
    return has_none(req) ? -ENODATA : mail_post(req);
}

int remote_listxattr(struct fuse_req *req)
{
    struct fuse_getxattr_out out = {0};
    int err = may(req, "");

    if (err < 0)
        return err;
    if (!has_none(req))
        return mail_post(req);
    return req->arg.getxattr.size > 0 ? 0 : fuse_req_put(req, &out, sizeof(out));
}

int remote_setxattr(struct fuse_req *req)
{
    const struct fuse_setxattr_in *arg = &req->arg.setxattr;
    void *value = queue_scratch(req->queue);
    int err = may(req, req->name[0]);

    if (err < 0)
        return err;
    if (arg->flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE))
        return -EINVAL;
    if (arg->size > XATTR_SIZE_MAX)
        return -E2BIG;
    if (req->mail_retried)
        return -EIO; /* the value went with the first mail: there is nothing to try again */
    if (chain_read(&req->in, value, arg->size) < 0)
        return -EINVAL; /* guest wrong: the value it speaks of is not there */
    return mail_post_with(req, 0, value, arg->size);
}

int remote_removexattr(struct fuse_req *req)
{
    int err = may(req, req->name[0]);

    if (err < 0)
        return err;
    return has_none(req) ? -ENODATA : mail_post(req);
}
