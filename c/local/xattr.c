/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: GETXATTR, SETXATTR, LISTXATTR, REMOVEXATTR. In: a pinned node, an attribute's name
 * and value. Out: the value, the names, or their size where no room was offered. Queue thread.
 *
 * The host's calls take a real descriptor or a path. A node's path in /proc/self/fd is good for
 * every type, FIFOs and symlinks included, opens nothing, and names the object itself.
 *
 * The guest's kernel has checked who may touch what; trusted.* and security.* go through as they
 * are, which on the host takes the daemon's privileges. Access control lists
 * (system.posix_acl_*) belong to --posix-acl: without it nobody evaluates them in the guest, and
 * setting what is then ignored would be a lie.
 */
#include <errno.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "../queue.h"
#include "local.h"
#include "cred.h"

#define ACL_PREFIX "system.posix_acl_"
#define ACL_ACCESS ACL_PREFIX "access"

_Static_assert(XATTR_SIZE_MAX <= QUEUE_SCRATCH && XATTR_LIST_MAX <= QUEUE_SCRATCH,
               "a value and a list fit in the scratch buffer");

/* With the option off the answer is ENOSYS: the client then stops asking. */
static int may(const struct fuse_req *req, const char *name)
{
    const struct ovfs_options *options = &req->local->fs.options;

    if (!options->xattr)
        return -ENOSYS;
    if (!options->posix_acl && strncmp(name, ACL_PREFIX, strlen(ACL_PREFIX)) == 0)
        return -EOPNOTSUPP;
    return 0;
}

static int prepare(struct fuse_req *req, const char *name, char *path)
{
    int err = may(req, name);

    return err < 0 ? err : node_path(req->local, req->inode, path);
}

static int put_size(struct fuse_req *req, size_t size)
{
    struct fuse_getxattr_out out = {.size = (uint32_t)size};

    return fuse_req_put(req, &out, sizeof(out));
}

/* ---- GETXATTR ---- */

int local_getxattr(struct fuse_req *req)
{
    uint32_t size = req->arg.getxattr.size;
    void *value = queue_scratch(req->queue);
    char path[NODE_PATH];
    ssize_t n;
    int err = prepare(req, req->name[0], path);

    if (err < 0)
        return err;
    if (size > XATTR_SIZE_MAX)
        size = XATTR_SIZE_MAX;
    n = getxattr(path, req->name[0], size > 0 ? value : NULL, size);
    if (n < 0)
        return -errno;
    return size > 0 ? fuse_req_put(req, value, (size_t)n) : put_size(req, (size_t)n);
}

/* ---- LISTXATTR ---- */

/* Take the names out of the list that a GETXATTR would be refused for. Returns its new length. */
static size_t drop_acls(char *list, size_t len)
{
    size_t kept = 0;

    for (size_t at = 0; at < len;) {
        size_t size = strnlen(list + at, len - at) + 1;

        if (size > len - at)
            size = len - at;
        if (strncmp(list + at, ACL_PREFIX, strlen(ACL_PREFIX)) != 0) {
            memmove(list + kept, list + at, size);
            kept += size;
        }
        at += size;
    }
    return kept;
}

int local_listxattr(struct fuse_req *req)
{
    uint32_t size = req->arg.getxattr.size;
    char *list = queue_scratch(req->queue);
    char path[NODE_PATH];
    ssize_t n;
    size_t len;
    int err = prepare(req, "", path);

    if (err < 0)
        return err;
    n = listxattr(path, list, XATTR_LIST_MAX);
    if (n < 0)
        return -errno;
    len = req->local->fs.options.posix_acl ? (size_t)n : drop_acls(list, (size_t)n);
    if (size == 0)
        return put_size(req, len);
    return len > size ? -ERANGE : fuse_req_put(req, list, len);
}

/* ---- SETXATTR, REMOVEXATTR ---- */

/* A new access list changes the mode's group bits; with them S_ISGID goes if the caller is not in
 * the file's group. The guest's kernel knows whether it is; the host's would look at the daemon's
 * groups, and root's group is one of them. */
static int kill_sgid(struct fuse_req *req, const char *path)
{
    int fd = node_fd(req->local, req->inode);
    struct fuse_attr attr;
    int err;

    if (fd < 0)
        return fd;
    err = attr_of_fd(fd, &attr);
    if (err < 0 || !(attr.mode & S_ISGID) || !S_ISREG(attr.mode))
        return err;
    return chmod(path, attr.mode & 07777 & ~(mode_t)S_ISGID) < 0 ? -errno : 0;
}

int local_setxattr(struct fuse_req *req)
{
    const struct fuse_setxattr_in *arg = &req->arg.setxattr;
    bool access_list = strcmp(req->name[0], ACL_ACCESS) == 0;
    bool kills_sgid = arg->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID;
    void *value = queue_scratch(req->queue);
    char path[NODE_PATH];
    int err = prepare(req, req->name[0], path);

    if (err < 0)
        return err;
    if (arg->flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE))
        return -EINVAL;
    if (arg->size > XATTR_SIZE_MAX)
        return -E2BIG;
    if (chain_read(&req->in, value, arg->size) < 0)
        return -EINVAL; /* guest wrong: the value it speaks of is not there */
    if (access_list)
        cred_fsetid(queue_cred(req->queue), !kills_sgid);
    if (setxattr(path, req->name[0], value, arg->size, (int)arg->flags) < 0)
        return -errno;
    return access_list && kills_sgid ? kill_sgid(req, path) : 0;
}

int local_removexattr(struct fuse_req *req)
{
    char path[NODE_PATH];
    int err = prepare(req, req->name[0], path);

    if (err < 0)
        return err;
    return removexattr(path, req->name[0]) < 0 ? -errno : 0;
}
