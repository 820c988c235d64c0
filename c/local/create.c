/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9, calls that make a name: MKDIR, MKNOD, SYMLINK, LINK. In: a request whose directory
 * is pinned. Out: the new object's entry, its lookup counted. Queue thread.
 *
 * The object is made with the caller's uid, gid and umask (cred.h), so that the host's kernel
 * applies what hangs on them: set-id directories hand on their group, default access control
 * lists take the umask's place, quotas count for the right owner.
 */
#include "create.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../queue.h"
#include "cred.h"
#include "local.h"
#include "node.h"

/* ---- after the object is there ---- */

/* Set by path, since setxattr takes no O_PATH descriptor; the path names the object itself, also
 * where that is a symlink. */
static int set_context_at(struct local *local, const struct fuse_req_ext *ext, int dirfd,
                          const char *name)
{
    int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    char path[NODE_PATH];
    int err;

    if (fd < 0 && node_make_room(local, -errno, 0))
        fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return node_errno(-errno);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    err = setxattr(path, ext->secctx_name, ext->secctx, ext->secctx_len, 0) < 0 ? -errno : 0;
    close(fd);
    return err;
}

static int set_context(struct fuse_req *req, int dirfd, const char *name, int fd)
{
    const struct fuse_req_ext *ext = &req->ext;

    if (!ext->secctx_name)
        return 0;
    if (strncmp(ext->secctx_name, "security.", strlen("security.")) != 0)
        return -EINVAL; /* guest wrong: no security module's attribute */
    if (fd < 0)
        return set_context_at(req->local, ext, dirfd, name);
    if (fsetxattr(fd, ext->secctx_name, ext->secctx, ext->secctx_len, 0) < 0)
        return -errno;
    return 0;
}

int create_finish(struct fuse_req *req, int dirfd, const char *name, int fd,
                  struct fuse_entry_out *entry)
{
    int err = set_context(req, dirfd, name, fd);

    if (err == 0 && fd >= 0)
        err = lookup_fd(req->local, fd, req->inode, entry);
    else if (err == 0)
        err = lookup_name(req->local, req->inode, name, entry);
    if (err < 0 && name)
        unlinkat(dirfd, name, req->in_header.opcode == FUSE_MKDIR ? AT_REMOVEDIR : 0);
    return err;
}

int create_reply(struct fuse_req *req, const struct fuse_entry_out *entry)
{
    int err = fuse_req_put(req, entry, sizeof(*entry));

    if (err < 0)
        lookup_undo(req->local, entry);
    return err;
}

/* ---- MKDIR, MKNOD, SYMLINK ---- */

/* rdev as the kernel packs it for user space: 20 bits of minor around 12 bits of major. */
static dev_t decode_rdev(uint32_t rdev)
{
    return makedev((rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xfff00));
}

static int make(const struct fuse_req *req, int dirfd, uint32_t mode)
{
    const char *name = req->name[0];

    switch (req->in_header.opcode) {
    case FUSE_MKDIR:
        return mkdirat(dirfd, name, mode & 07777);
    case FUSE_MKNOD:
        return mknodat(dirfd, name, mode & (S_IFMT | 07777), decode_rdev(req->arg.mknod.rdev));
    default:
        return symlinkat(req->name[1], dirfd, name);
    }
}

/* mode: as the request has it; 0 for a symlink. */
static int create(struct fuse_req *req, uint32_t mode)
{
    struct cred *cred = queue_cred(req->queue);
    int dirfd = node_fd(req->local, req->inode);
    struct fuse_entry_out entry;
    int err;

    if (dirfd < 0)
        return dirfd;
    mode = cred_mode(cred, req, dirfd, mode);
    err = cred_become(cred, req);
    if (err < 0)
        return err;
    err = make(req, dirfd, mode) < 0 ? -errno : 0;
    cred_restore(cred);
    if (err == 0)
        err = create_finish(req, dirfd, req->name[0], -1, &entry);
    return err < 0 ? err : create_reply(req, &entry);
}

int local_mkdir(struct fuse_req *req)
{
    return create(req, req->arg.mkdir.mode);
}

int local_mknod(struct fuse_req *req)
{
    return create(req, req->arg.mknod.mode);
}

int local_symlink(struct fuse_req *req)
{
    return create(req, 0);
}

/* ---- LINK ---- */

/* AT_EMPTY_PATH wants CAP_DAC_READ_SEARCH over the host (ENOENT without it); the path of the
 * descriptor does for everybody, and also names a symlink itself. */
static int link_node(struct local *local, struct inode *inode, int dirfd, const char *name)
{
    char path[NODE_PATH];
    int fd = node_fd(local, inode);
    int err;

    if (fd < 0)
        return fd;
    if (linkat(fd, "", dirfd, name, AT_EMPTY_PATH) == 0)
        return 0;
    if (errno != ENOENT)
        return -errno;
    err = node_path(local, inode, path);
    if (err < 0)
        return err;
    return linkat(AT_FDCWD, path, dirfd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

/* Whether the node is a file that was made without a name (TMPFILE) and has none yet: it lives by
 * its descriptor until LINK gives it one. */
static bool is_unnamed(struct local *local, struct inode *inode)
{
    struct statx stx;
    int fd;

    if (!atomic_load_explicit(&inode->held, memory_order_relaxed))
        return false;
    fd = node_fd(local, inode);
    return fd >= 0 && attr_statx(fd, STATX_NLINK, &stx) == 0 && stx.stx_nlink == 0;
}

int local_link(struct fuse_req *req)
{
    struct local *local = req->local;
    int dirfd = node_fd(local, req->inode);
    struct fuse_entry_out entry;
    struct inode *inode;
    bool unnamed;
    int err;

    if (dirfd < 0)
        return dirfd;
    inode = inode_pin(local->fs.inodes, req->arg.link.oldnodeid);
    if (!inode)
        return -ESTALE;
    unnamed = is_unnamed(local, inode);
    err = link_node(local, inode, dirfd, req->name[0]);
    if (err == 0)
        err = lookup_name(local, req->inode, req->name[0], &entry);
    if (err == 0 && unnamed)
        node_unhold(local, inode);
    inode_unpin(local->fs.inodes, inode);
    return err < 0 ? err : create_reply(req, &entry);
}
