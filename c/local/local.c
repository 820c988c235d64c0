/* SPDX-License-Identifier: Apache-2.0
 *
 * The fs:// file system of one plane: its tables, made and unmade in one place. Control thread;
 * reset also on the queue thread that answers INIT or DESTROY.
 */
#include "local.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lock.h"
#include "lookup.h"
#include "mount.h"
#include "name_cache.h"
#include "node.h"
#include "open.h"
#include "open_cache.h"

static void on_node_destroy(struct inode *inode, void *context)
{
    struct local *local = context;

    open_cache_drop(local->opened, inode_id(local->fs.inodes, inode));
    node_gone(local, inode);
    mount_leave(local->mounts, inode->mount);
}

static void on_handle_destroy(struct handle *handle, void *context)
{
    open_keep(context, handle);
}

/* ---- using ---- */

static void reset(struct fs *fs)
{
    struct local *local = (struct local *)fs;

    lock_release_all(local->locks);
    handle_release_all(local->fs.handles);
    inode_forget_all(local->fs.inodes);
}

struct sync {
    struct local *local;
    int first;
};

/* Where a mount could not be opened, its open files stand for it. */
static void sync_handle(struct handle *handle, void *context)
{
    struct sync *sync = context;

    if (handle->is_dir || mount_is_open(sync->local->mounts, handle->mount))
        return;
    if (fsync(handle->fd) < 0 && errno != EINVAL && errno != EROFS && sync->first == 0)
        sync->first = -errno;
}

static int sync_all(struct fs *fs)
{
    struct local *local = (struct local *)fs;
    struct sync sync = {.local = local};

    sync.first = mount_sync(local->mounts);
    handle_each(local->fs.handles, sync_handle, &sync);
    return sync.first;
}

static void stats(struct fs *fs, struct ovfs_stats *out)
{
    struct local *local = (struct local *)fs;

    out->cached_fds = node_cache_count(local->nodes) + open_cache_count(local->opened);
    out->mounts = mount_count(local->mounts);
}

static void free_fs(struct fs *fs)
{
    local_free((struct local *)fs);
}

void local_free(struct local *local)
{
    if (!local)
        return;
    if (local->locks)
        lock_table_free(local->locks);
    handle_table_free(local->fs.handles);
    inode_table_free(local->fs.inodes); /* calls on_node_destroy, which uses what is below */
    open_cache_free(local->opened);
    name_cache_free(local->names);
    node_cache_free(local->nodes);
    mount_table_free(local->mounts);
    free(local);
}

static const struct fs_ops ops = {
    .free = free_fs, .reset = reset, .sync = sync_all, .stats = stats};

/* ---- making ---- */

/* Of the descriptors that may be kept, one in so many is of a file that was just closed. */
enum { OPEN_CACHE_SHARE = 8 };

static int fail(char *why, size_t why_size, int err, const char *what)
{
    snprintf(why, why_size, "%s: %s", what, strerror(-err));
    return err;
}

static int make_tables(struct local *local)
{
    uint32_t opened = local->fs.options.fd_cache / OPEN_CACHE_SHARE;
    int err = inode_table_new(sizeof(struct inode), on_node_destroy, local, &local->fs.inodes);

    if (err == 0)
        err = handle_table_new(on_handle_destroy, local, &local->fs.handles);
    if (err == 0)
        err = mount_table_new(&local->mounts);
    if (err == 0)
        err = lock_table_new(&local->locks);
    if (err == 0)
        err = name_cache_new(&local->names);
    if (err == 0)
        err = open_cache_new(opened, &local->opened);
    if (err == 0)
        err = node_cache_new(local->fs.options.fd_cache - opened, &local->nodes);
    return err;
}

/* The effective capabilities of the calling thread, which the queues' threads inherit. */
static uint64_t capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

    if (syscall(SYS_capget, &header, data) < 0)
        return 0;
    return (uint64_t)data[1].effective << 32 | data[0].effective;
}

static bool has_caps(uint64_t have, uint64_t want)
{
    return (have & want) == want;
}

static void read_rights(struct local *local)
{
    uint64_t have = capabilities();

    local->privileged = has_caps(have, UINT64_C(1) << CAP_CHOWN | UINT64_C(1) << CAP_DAC_OVERRIDE |
                                           UINT64_C(1) << CAP_SETUID | UINT64_C(1) << CAP_SETGID);
    local->may_handle = local->fs.options.file_handles != OVFS_HANDLES_NEVER &&
                        has_caps(have, UINT64_C(1) << CAP_DAC_READ_SEARCH);
    if (!local->privileged)
        event_log(local->fs.log, OVFS_EVENT_WARNING,
                  "not running as root: all files are created and opened as user %u, and the guest "
                  "cannot give them to others",
                  (unsigned)geteuid());
    if (!local->may_handle && local->fs.options.file_handles == OVFS_HANDLES_PREFER)
        event_log(local->fs.log, OVFS_EVENT_WARNING,
                  "no capability for file handles (CAP_DAC_READ_SEARCH): each file that the guest "
                  "knows costs a file descriptor");
}

/* Calls that only take a path get at a node through /proc. */
static bool proc_works(int fd, const struct statx *stx)
{
    char path[NODE_PATH];
    struct statx seen;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return statx(AT_FDCWD, path, 0, STATX_INO, &seen) == 0 && seen.stx_ino == stx->stx_ino &&
           seen.stx_dev_major == stx->stx_dev_major && seen.stx_dev_minor == stx->stx_dev_minor;
}

static int enter_root(struct local *local, char *why, size_t why_size)
{
    int err, fd = fcntl(local->fs.options.root_fd, F_DUPFD_CLOEXEC, 3);
    struct inode *root;
    struct statx stx;

    if (fd < 0)
        return fail(why, why_size, -errno, "cannot use the shared directory");
    err = lookup_enter(local, fd, true, &stx, &root);
    if (err < 0)
        return fail(why, why_size, err, "cannot use the shared directory");
    assert(inode_id(local->fs.inodes, root) == FUSE_ROOT_ID);
    node_hold(local, root); /* the root's descriptor is what all others start from */
    inode_unpin(local->fs.inodes, root);
    local->fs.options.root_fd = fd;
    local->daemon_dev = makedev(stx.stx_dev_major, stx.stx_dev_minor);
    local->root_ino = stx.stx_ino;
    if (!S_ISDIR(stx.stx_mode))
        return fail(why, why_size, -ENOTDIR, "cannot share it");
    if (!proc_works(fd, &stx))
        return fail(why, why_size, -ENOENT,
                    "/proc/self/fd does not show this process: mount /proc where ovfs runs");
    return 0;
}

static int check_mandatory(struct local *local, char *why, size_t why_size)
{
    const struct mount *mount = mount_at(local->mounts, 0);

    if (local->fs.options.file_handles != OVFS_HANDLES_MANDATORY || mount->handles)
        return 0;
    if (!local->may_handle)
        snprintf(why, why_size,
                 "file handles are mandatory, but this process may not open them: run it as root "
                 "(CAP_DAC_READ_SEARCH), or use --inode-file-handles=prefer");
    else
        snprintf(why, why_size,
                 "file handles are mandatory, but they do not work on the file system of the "
                 "shared directory (type 0x%llx): use --inode-file-handles=prefer",
                 (unsigned long long)mount->fs_type);
    return -EOPNOTSUPP;
}

int local_new(const struct ovfs_options *options, struct event_log *log, struct local **out,
              char *why, size_t why_size)
{
    struct local *local = calloc(1, sizeof(*local));
    int err;

    *out = NULL;
    if (!local)
        return fail(why, why_size, -ENOMEM, "cannot set up the file system");
    local->fs.ops = &ops;
    local->fs.options = *options;
    local->fs.log = log;
    err = make_tables(local);
    if (err < 0) {
        fail(why, why_size, err, "cannot set up the file system");
        goto err;
    }
    read_rights(local);
    err = enter_root(local, why, why_size);
    if (err == 0)
        err = check_mandatory(local, why, why_size);
    if (err < 0)
        goto err;
    *out = local;
    return 0;
err:
    local_free(local);
    return err;
}
