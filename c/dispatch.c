/* SPDX-License-Identifier: Apache-2.0 */
#include "dispatch.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "fs.h"
#include "fuse_req.h"
#include "handle.h"
#include "inode.h"
#include "local/local.h"
#include "remote/segment.h"
#include "remote/remote.h"

#define ARG(type)   .arg_size = sizeof(struct type), .arg_min = sizeof(struct type)
#define FH_AT(type) .fh_at = offsetof(struct type, fh)

/* clang-format off: one row an opcode, read as a table */
static const struct fuse_op ops[] = {
    [FUSE_LOOKUP] = {"LOOKUP", local_lookup, remote_lookup, .names = 1, .flags = OP_NODE},
    [FUSE_FORGET] = {"FORGET", fs_forget, fs_forget, ARG(fuse_forget_in), .flags = OP_NO_REPLY},
    [FUSE_GETATTR] = {"GETATTR", local_getattr, remote_getattr, ARG(fuse_getattr_in),
                      .flags = OP_NODE},
    [FUSE_SETATTR] = {"SETATTR", local_setattr, remote_setattr, ARG(fuse_setattr_in),
                      .flags = OP_NODE | OP_MODIFIES | OP_LONG},
    [FUSE_READLINK] = {"READLINK", local_readlink, remote_readlink, .flags = OP_NODE},
    [FUSE_SYMLINK] = {"SYMLINK", local_symlink, remote_symlink, .names = 2,
                      .flags = OP_NODE | OP_MODIFIES | OP_EXT | OP_TARGET | OP_LONG},
    [FUSE_MKNOD] = {"MKNOD", local_mknod, remote_mknod, ARG(fuse_mknod_in), .names = 1,
                    .flags = OP_NODE | OP_MODIFIES | OP_EXT | OP_LONG},
    [FUSE_MKDIR] = {"MKDIR", local_mkdir, remote_mkdir, ARG(fuse_mkdir_in), .names = 1,
                    .flags = OP_NODE | OP_MODIFIES | OP_EXT | OP_LONG},
    [FUSE_UNLINK] = {"UNLINK", local_unlink, remote_unlink, .names = 1,
                     .flags = OP_NODE | OP_MODIFIES | OP_LONG},
    [FUSE_RMDIR] = {"RMDIR", local_rmdir, remote_rmdir, .names = 1,
                    .flags = OP_NODE | OP_MODIFIES | OP_LONG},
    [FUSE_RENAME] = {"RENAME", local_rename, remote_rename, ARG(fuse_rename_in), .names = 2,
                     .flags = OP_NODE | OP_MODIFIES | OP_LONG},
    [FUSE_LINK] = {"LINK", local_link, remote_link, ARG(fuse_link_in), .names = 1,
                   .flags = OP_NODE | OP_MODIFIES | OP_LONG},
    [FUSE_OPEN] = {"OPEN", local_open, remote_open, ARG(fuse_open_in), .flags = OP_NODE},
    [FUSE_READ] = {"READ", local_read, remote_read, ARG(fuse_read_in), FH_AT(fuse_read_in),
                   .flags = OP_FILE},
    [FUSE_WRITE] = {"WRITE", local_write, remote_write, ARG(fuse_write_in), FH_AT(fuse_write_in),
                    .flags = OP_FILE | OP_MODIFIES | OP_LONG},
    [FUSE_STATFS] = {"STATFS", local_statfs, remote_statfs, .flags = OP_NODE},
    [FUSE_RELEASE] = {"RELEASE", local_release, remote_release, ARG(fuse_release_in),
                      FH_AT(fuse_release_in), .flags = OP_FILE},
    [FUSE_FSYNC] = {"FSYNC", local_fsync, remote_fsync, ARG(fuse_fsync_in), FH_AT(fuse_fsync_in),
                    .flags = OP_FILE},
    [FUSE_SETXATTR] = {"SETXATTR", local_setxattr, remote_setxattr,
                       .arg_size = sizeof(struct fuse_setxattr_in),
                       .arg_min = FUSE_COMPAT_SETXATTR_IN_SIZE, .names = 1,
                       .flags = OP_NODE | OP_MODIFIES | OP_FREE_NAME | OP_LONG},
    [FUSE_GETXATTR] = {"GETXATTR", local_getxattr, remote_getxattr, ARG(fuse_getxattr_in),
                       .names = 1, .flags = OP_NODE | OP_FREE_NAME},
    [FUSE_LISTXATTR] = {"LISTXATTR", local_listxattr, remote_listxattr, ARG(fuse_getxattr_in),
                        .flags = OP_NODE},
    [FUSE_REMOVEXATTR] = {"REMOVEXATTR", local_removexattr, remote_removexattr, .names = 1,
                          .flags = OP_NODE | OP_MODIFIES | OP_FREE_NAME | OP_LONG},
    [FUSE_FLUSH] = {"FLUSH", local_flush, remote_flush, ARG(fuse_flush_in), FH_AT(fuse_flush_in),
                    .flags = OP_NODE | OP_FILE},
    [FUSE_INIT] = {"INIT", fs_init, fs_init, .arg_size = sizeof(struct fuse_init_in),
                   .arg_min = offsetof(struct fuse_init_in, flags2), .flags = OP_SESSION},
    [FUSE_OPENDIR] = {"OPENDIR", local_opendir, remote_opendir, ARG(fuse_open_in),
                      .flags = OP_NODE},
    [FUSE_READDIR] = {"READDIR", local_readdir, remote_readdir, ARG(fuse_read_in),
                      FH_AT(fuse_read_in), .flags = OP_NODE | OP_DIR | OP_LONG},
    [FUSE_RELEASEDIR] = {"RELEASEDIR", local_releasedir, remote_releasedir, ARG(fuse_release_in),
                         FH_AT(fuse_release_in), .flags = OP_DIR},
    [FUSE_FSYNCDIR] = {"FSYNCDIR", local_fsyncdir, remote_fsyncdir, ARG(fuse_fsync_in),
                       FH_AT(fuse_fsync_in), .flags = OP_DIR},
    [FUSE_GETLK] = {"GETLK", local_getlk, NULL, ARG(fuse_lk_in), FH_AT(fuse_lk_in),
                    .flags = OP_NODE | OP_FILE},
    [FUSE_SETLK] = {"SETLK", local_setlk, NULL, ARG(fuse_lk_in), FH_AT(fuse_lk_in),
                    .flags = OP_NODE | OP_FILE},
    [FUSE_SETLKW] = {"SETLKW", local_setlkw, NULL, ARG(fuse_lk_in), FH_AT(fuse_lk_in),
                     .flags = OP_NODE | OP_FILE},
    [FUSE_ACCESS] = {"ACCESS", local_access, NULL, ARG(fuse_access_in), .flags = OP_NODE},
    [FUSE_CREATE] = {"CREATE", local_create, remote_create, ARG(fuse_create_in), .names = 1,
                     .flags = OP_NODE | OP_MODIFIES | OP_EXT | OP_LONG},
    [FUSE_INTERRUPT] = {"INTERRUPT", local_interrupt, remote_interrupt, ARG(fuse_interrupt_in),
                        .flags = OP_NO_REPLY},
    [FUSE_BMAP] = {"BMAP"},
    [FUSE_DESTROY] = {"DESTROY", fs_destroy, fs_destroy, .flags = OP_SESSION | OP_LONG},
    [FUSE_IOCTL] = {"IOCTL", local_ioctl, remote_ioctl, ARG(fuse_ioctl_in), FH_AT(fuse_ioctl_in),
                    .flags = OP_NODE | OP_FILE | OP_DIR},
    [FUSE_POLL] = {"POLL"},
    [FUSE_NOTIFY_REPLY] = {"NOTIFY_REPLY", .flags = OP_NO_REPLY},
    [FUSE_BATCH_FORGET] = {"BATCH_FORGET", fs_batch_forget, fs_batch_forget,
                           ARG(fuse_batch_forget_in), .flags = OP_NO_REPLY | OP_LONG},
    [FUSE_FALLOCATE] = {"FALLOCATE", local_fallocate, remote_fallocate, ARG(fuse_fallocate_in),
                        FH_AT(fuse_fallocate_in), .flags = OP_FILE | OP_MODIFIES | OP_LONG},
    [FUSE_READDIRPLUS] = {"READDIRPLUS", local_readdirplus, remote_readdirplus, ARG(fuse_read_in),
                          FH_AT(fuse_read_in), .flags = OP_NODE | OP_DIR | OP_LONG},
    [FUSE_RENAME2] = {"RENAME2", local_rename2, remote_rename2, ARG(fuse_rename2_in), .names = 2,
                      .flags = OP_NODE | OP_MODIFIES | OP_LONG},
    [FUSE_LSEEK] = {"LSEEK", local_lseek, remote_lseek, ARG(fuse_lseek_in), FH_AT(fuse_lseek_in),
                    .flags = OP_FILE},
    [FUSE_COPY_FILE_RANGE] = {"COPY_FILE_RANGE", local_copy_file_range, NULL,
                              ARG(fuse_copy_file_range_in),
                              .fh_at = offsetof(struct fuse_copy_file_range_in, fh_in),
                              .flags = OP_FILE | OP_MODIFIES},
    [FUSE_SETUPMAPPING] = {"SETUPMAPPING"},
    [FUSE_REMOVEMAPPING] = {"REMOVEMAPPING"},
    [FUSE_SYNCFS] = {"SYNCFS", local_syncfs, remote_syncfs, ARG(fuse_syncfs_in), .flags = OP_NODE},
    [FUSE_TMPFILE] = {"TMPFILE", local_tmpfile, remote_tmpfile, ARG(fuse_create_in), .names = 1,
                      .flags = OP_NODE | OP_MODIFIES | OP_EXT | OP_FREE_NAME | OP_LONG},
    [FUSE_STATX] = {"STATX", local_statx, remote_statx, ARG(fuse_statx_in), .flags = OP_NODE},
};
/* clang-format on */

const struct fuse_op *fuse_op(uint32_t opcode)
{
    if (opcode >= sizeof(ops) / sizeof(ops[0]) || !ops[opcode].name)
        return NULL;
    return &ops[opcode];
}

int ovfs_opcode(uint32_t opcode, const char **name)
{
    const struct fuse_op *op = fuse_op(opcode);

    *name = op ? op->name : NULL;
    if (!op)
        return -1;
    return op->local != NULL;
}

static int pin_handle(struct fuse_req *req)
{
    uint16_t kind;
    uint64_t fh;

    memcpy(&fh, (const char *)&req->arg + req->op->fh_at, sizeof(fh));
    req->handle = handle_pin(req->fs->handles, fh, req->in_header.nodeid);
    if (!req->handle)
        return -EBADF;
    kind = req->handle->is_dir ? OP_DIR : OP_FILE;
    return req->op->flags & kind ? 0 : -EBADF;
}

static int (*handler_of(const struct fuse_req *req))(struct fuse_req *)
{
    return req->fs->options.remote ? req->op->remote : req->op->local;
}

int dispatch_again(struct fuse_req *req)
{
    return handler_of(req)(req);
}

int dispatch(struct fuse_req *req)
{
    const struct fuse_op *op = req->op;

    if (!handler_of(req))
        return -ENOSYS;
    if (!(op->flags & OP_SESSION) && atomic_load(&req->fs->minor) == 0)
        return -EIO; /* no INIT yet: nothing was negotiated */
    if (op->flags & OP_MODIFIES && req->fs->options.readonly)
        return -EROFS;
    if (op->flags & OP_NODE) {
        req->inode = inode_pin(req->fs->inodes, req->in_header.nodeid);
        if (!req->inode)
            return -ESTALE;
    }
    if (op->flags & (OP_FILE | OP_DIR)) {
        int err = pin_handle(req);

        if (err < 0)
            return err;
    }
    return dispatch_again(req);
}

void dispatch_done(struct fuse_req *req)
{
    if (req->handle)
        handle_unpin(req->fs->handles, req->handle);
    if (req->handle_out)
        handle_unpin(req->fs->handles, req->handle_out);
    if (req->inode)
        inode_unpin(req->fs->inodes, req->inode);
    segment_unref(req->segment); /* a stop gave its READ up */
    req->handle = req->handle_out = NULL;
    req->segment = NULL;
    req->inode = NULL;
}
