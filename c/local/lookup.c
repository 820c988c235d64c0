/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6a: names to nodes. Queue thread.
 *
 * DESIGN. A name is resolved to a file handle or to a descriptor; everything else about the entry
 * is asked of that object, or proven to be of it, so a host that replaces the file in between
 * cannot make one entry of two files.
 *
 *      node          system calls
 *      guessed       statx of the name, which proves the guess (guess.h)
 *      numbered      name_to_handle_at, statx of the name, which has the number in the handle
 *      known         name_to_handle_at, statx of its cached descriptor (reopened if it was evicted)
 *      new           openat(O_PATH | O_NOFOLLOW), statx, name_to_handle_at; the descriptor is kept
 *      other mount   the same, and the mount's own
 *      no handles    openat(O_PATH | O_NOFOLLOW), statx; the descriptor is kept for good
 *
 * One component at a time, relative to a descriptor, and no symlink is followed by either call.
 */
#include "lookup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "guess.h"
#include "handle_at.h"
#include "mount.h"
#include "node.h"

enum { NS_PER_S = 1000000000 };

/* Not an errno: the quick way does not apply, go the long one. */
enum { LONG_WAY = 1 };

static struct inode_key handle_key(uint32_t mount, const struct handle_at *handle)
{
    return (struct inode_key){
        .mount = mount,
        .type = (uint16_t)handle->fh.handle_type,
        .len = (uint8_t)handle->fh.handle_bytes,
        .bytes = handle->fh.f_handle,
    };
}

/* What identifies a node without a handle, for as long as a descriptor pins it. */
struct ino_key {
    uint64_t dev;
    uint64_t ino;
};

static struct inode_key ino_key(uint32_t mount, const struct statx *stx, struct ino_key *bytes)
{
    bytes->dev = makedev(stx->stx_dev_major, stx->stx_dev_minor);
    bytes->ino = stx->stx_ino;
    return (struct inode_key){
        .mount = mount, .type = INODE_KEY_INO, .len = sizeof(*bytes), .bytes = bytes};
}

/* ---- the entry ---- */

static void set_valid(const struct local *local, struct fuse_entry_out *out)
{
    out->entry_valid = local->fs.options.entry_timeout_ns / NS_PER_S;
    out->entry_valid_nsec = (uint32_t)(local->fs.options.entry_timeout_ns % NS_PER_S);
    out->attr_valid = local->fs.options.attr_timeout_ns / NS_PER_S;
    out->attr_valid_nsec = (uint32_t)(local->fs.options.attr_timeout_ns % NS_PER_S);
}

static void fill_entry(struct local *local, const struct inode *inode, const struct inode *dir,
                       const struct statx *stx, struct fuse_entry_out *out)
{
    uint64_t features = atomic_load_explicit(&local->fs.features, memory_order_relaxed);

    memset(out, 0, sizeof(*out));
    out->nodeid = inode_id(local->fs.inodes, inode); /* never comes again: generation 0 does */
    set_valid(local, out);
    attr_from_statx(stx, &out->attr);
    if (features & FUSE_SUBMOUNTS && inode->mount != dir->mount && S_ISDIR(inode->type))
        out->attr.flags |= FUSE_ATTR_SUBMOUNT;
}

static int stat_fd(int fd, struct statx *stx)
{
    return attr_statx(fd, ATTR_STATX_MASK | STATX_MNT_ID, stx);
}

static int stat_name(int dirfd, const char *name, struct statx *stx)
{
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;

    return statx(dirfd, name, flags, ATTR_STATX_MASK | STATX_MNT_ID, stx) < 0 ? -errno : 0;
}

/* ---- the long way: by descriptor ---- */

static void warn_no_handles(struct local *local, struct mount *mount)
{
    if (!local->may_handle || mount->handles || atomic_exchange(&mount->warned, true))
        return;
    event_log(local->fs.log, OVFS_EVENT_WARNING,
              "the file system on device %u:%u (type 0x%llx) has no file handles: each file of it "
              "that the guest knows costs a file descriptor",
              major(mount->dev), minor(mount->dev), (unsigned long long)mount->fs_type);
}

/* The mount of fd, counted. */
static int enter_mount(struct local *local, int fd, int mnt_id)
{
    int index = mount_enter(local->mounts, fd, mnt_id, local->may_handle);

    if (index < 0 && node_make_room(local, index, 0))
        index = mount_enter(local->mounts, fd, mnt_id, local->may_handle);
    if (index < 0)
        return node_errno(index);
    warn_no_handles(local, mount_at(local->mounts, (uint32_t)index));
    return index;
}

/* An O_PATH descriptor of its own for what any descriptor refers to. */
static int open_path(struct local *local, int fd)
{
    char path[NODE_PATH];
    int opened;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    opened = open(path, O_PATH | O_CLOEXEC);
    if (opened < 0 && node_make_room(local, -errno, 0))
        opened = open(path, O_PATH | O_CLOEXEC);
    return opened < 0 ? node_errno(-errno) : opened;
}

/* Enter the node of a key whose mount has been counted for it; own: its O_PATH descriptor or -1,
 * taken over. The node is pinned. NULL: -ENFILE, the count has been taken back. */
static struct inode *enter_node(struct local *local, const struct inode_key *key, uint16_t type,
                                int own)
{
    bool made;
    struct inode *inode = inode_enter(local->fs.inodes, key, type, own, &made);

    if (inode && made) {
        if (own >= 0)
            node_added(local, inode);
        return inode;
    }
    mount_leave(local->mounts, key->mount);
    if (inode && own >= 0)
        node_offer(local, inode, own);
    else if (inode)
        node_reopen(local, inode);
    else if (own >= 0)
        close(own);
    return inode;
}

int lookup_enter(struct local *local, int fd, bool owned, struct statx *stx, struct inode **out)
{
    struct handle_at handle;
    struct ino_key ino;
    struct inode_key key;
    int index, err = stat_fd(fd, stx);
    bool has_handle;
    int own = owned ? fd : -1;

    if (err < 0)
        goto err;
    has_handle = local->may_handle && handle_at_fd(fd, &handle) == 0;
    index = enter_mount(local, fd, has_handle ? handle.mnt_id : (int)stx->stx_mnt_id);
    err = index;
    if (err < 0)
        goto err;
    key = ino_key((uint32_t)index, stx, &ino);
    if (has_handle && mount_at(local->mounts, (uint32_t)index)->handles)
        key = handle_key((uint32_t)index, &handle);
    else if (!owned)
        own = open_path(local, fd);
    if (key.type == INODE_KEY_INO && own < 0) {
        mount_leave(local->mounts, (uint32_t)index);
        return own;
    }
    *out = enter_node(local, &key, stx->stx_mode & S_IFMT, own);
    return *out ? 0 : -ENFILE;
err:
    if (owned)
        close(fd);
    return err;
}

static int enter_fd(struct local *local, int fd, bool owned, const struct inode *dir,
                    struct fuse_entry_out *out)
{
    struct inode *inode;
    struct statx stx;
    int err = lookup_enter(local, fd, owned, &stx, &inode);

    if (err < 0)
        return err;
    fill_entry(local, inode, dir, &stx, out);
    inode_unpin(local->fs.inodes, inode);
    return 0;
}

int lookup_fd(struct local *local, int fd, const struct inode *dir, struct fuse_entry_out *out)
{
    return enter_fd(local, fd, false, dir, out);
}

/* ---- the quickest way: by a guess ---- */

/* 0, or LONG_WAY: the guest has forgotten it just now. */
static int enter_guessed(struct local *local, struct inode *inode, const struct inode *dir,
                         const struct statx *stx, struct fuse_entry_out *out)
{
    if (!inode_count_lookup(local->fs.inodes, inode))
        return LONG_WAY;
    fill_entry(local, inode, dir, stx, out);
    return 0;
}

static int lookup_guess(struct local *local, const struct inode *dir, int dirfd, const char *name,
                        struct fuse_entry_out *out)
{
    struct name_guess guess;
    struct inode *inode = guess_node(local, dir, name, &guess);
    struct statx stx;
    int err;

    if (!inode)
        return LONG_WAY;
    err = stat_name(dirfd, name, &stx);
    if (err == 0 && guess_is_proof(&stx, &guess) &&
        (int)stx.stx_mnt_id == mount_at(local->mounts, dir->mount)->mnt_id)
        err = enter_guessed(local, inode, dir, &stx, out);
    else if (err == 0)
        err = LONG_WAY;
    inode_unpin(local->fs.inodes, inode);
    return err;
}

int lookup_listed(struct local *local, struct inode *dir, const char *name, uint64_t ino,
                  struct fuse_entry_out *out)
{
    struct name_guess guess;
    struct inode *inode = guess_node(local, dir, name, &guess);
    struct statx stx;
    int err = LONG_WAY;

    if (inode && guess.ino == ino && stat_fd(node_fd(local, inode), &stx) == 0 &&
        guess_is_proof(&stx, &guess) && stx.stx_nlink > 0)
        err = enter_guessed(local, inode, dir, &stx, out);
    if (inode)
        inode_unpin(local->fs.inodes, inode);
    return err == LONG_WAY ? lookup_name(local, dir, name, out) : err;
}

/* ---- the next quickest way: by a handle that holds the inode number ---- */

/* No descriptor is opened for what is looked up for the first time, and may never be used. The
 * handle is asked for first. If another object has got the number since, then that handle leads
 * nowhere for good: no node is ever of one object and its type of another. */
static int lookup_numbered(struct local *local, const struct inode *dir, int dirfd,
                           const char *name, struct fuse_entry_out *out)
{
    const struct mount *mount = mount_at(local->mounts, dir->mount);
    struct handle_at handle;
    struct inode_key key;
    struct inode *inode;
    struct statx stx;
    int err = handle_at_name(dirfd, name, &handle);

    if (err < 0)
        return handle_at_unsupported(err) ? LONG_WAY : err;
    if (handle.mnt_id != mount->mnt_id)
        return LONG_WAY;
    err = stat_name(dirfd, name, &stx);
    if (err < 0)
        return err;
    if ((int)stx.stx_mnt_id != mount->mnt_id ||
        stx.stx_ino != handle_at_ino(&handle, mount->fs_type))
        return LONG_WAY;
    mount_count_node(local->mounts, dir->mount);
    key = handle_key(dir->mount, &handle);
    inode = enter_node(local, &key, stx.stx_mode & S_IFMT, -1);
    if (!inode)
        return -ENFILE;
    guess_learn(local, dir, name, inode, &stx);
    fill_entry(local, inode, dir, &stx, out);
    inode_unpin(local->fs.inodes, inode);
    return 0;
}

/* ---- the quick way: a node that the guest holds, by handle ---- */

/* The index of a mount by its id, mostly the directory's; -1: not met yet. */
static int find_mount(struct local *local, const struct inode *dir, int mnt_id)
{
    if (mount_at(local->mounts, dir->mount)->mnt_id == mnt_id)
        return (int)dir->mount;
    return mount_find(local->mounts, mnt_id);
}

/* The node of a handle, pinned; NULL: unknown. *mount: the handle's, or -1. */
static struct inode *find_handle(struct local *local, const struct inode *dir,
                                 const struct handle_at *handle, bool count, int *mount)
{
    struct inode_key key;
    struct inode *inode;

    *mount = find_mount(local, dir, handle->mnt_id);
    if (*mount < 0)
        return NULL;
    key = handle_key((uint32_t)*mount, handle);
    inode = inode_find(local->fs.inodes, &key, count);
    if (!inode || mount_at(local->mounts, inode->mount)->mnt_id == handle->mnt_id)
        return inode;
    /* the mount went, and another one has got its entry, before the node was pinned */
    if (count)
        inode_forget(local->fs.inodes, inode_id(local->fs.inodes, inode), 1);
    inode_unpin(local->fs.inodes, inode);
    *mount = -1;
    return NULL;
}

/* inode is pinned and its lookup counted. */
static int enter_known(struct local *local, struct inode *inode, const struct inode *dir,
                       const char *name, struct fuse_entry_out *out)
{
    struct statx stx;
    int fd = node_fd(local, inode);
    int err = fd < 0 ? fd : stat_fd(fd, &stx);

    if (err < 0) {
        inode_forget(local->fs.inodes, inode_id(local->fs.inodes, inode), 1);
    } else {
        guess_learn(local, dir, name, inode, &stx);
        fill_entry(local, inode, dir, &stx, out);
    }
    inode_unpin(local->fs.inodes, inode);
    /* removed after its name was resolved: see what the name stands for now */
    return err == -ESTALE ? LONG_WAY : err;
}

/* Only for what is likely to be known: to open another node by its handle costs more than to walk
 * to it twice. */
static int lookup_quick(struct local *local, const struct inode *dir, int dirfd, const char *name,
                        struct fuse_entry_out *out)
{
    struct handle_at handle;
    struct inode *inode;
    int mount, err = handle_at_name(dirfd, name, &handle);

    if (err < 0)
        return handle_at_unsupported(err) ? LONG_WAY : err;
    inode = find_handle(local, dir, &handle, true, &mount);
    return inode ? enter_known(local, inode, dir, name, out) : LONG_WAY;
}

/* ---- any way: by a descriptor of its own ---- */

static int lookup_long(struct local *local, const struct inode *dir, int dirfd, const char *name,
                       struct fuse_entry_out *out)
{
    int flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
    int err, fd = openat(dirfd, name, flags);
    struct inode *inode;
    struct statx stx;

    if (fd < 0 && node_make_room(local, -errno, 0))
        fd = openat(dirfd, name, flags);
    if (fd < 0)
        return node_errno(-errno);
    err = lookup_enter(local, fd, true, &stx, &inode);
    if (err < 0)
        return err;
    guess_learn(local, dir, name, inode, &stx);
    fill_entry(local, inode, dir, &stx, out);
    inode_unpin(local->fs.inodes, inode);
    return 0;
}

int lookup_name(struct local *local, struct inode *dir, const char *name,
                struct fuse_entry_out *out)
{
    const struct mount *mount = mount_at(local->mounts, dir->mount);
    int err, dirfd = node_fd(local, dir);

    if (dirfd < 0)
        return dirfd;
    err = lookup_guess(local, dir, dirfd, name, out);
    if (err == LONG_WAY && mount->ino_handles)
        err = lookup_numbered(local, dir, dirfd, name, out);
    else if (err == LONG_WAY && mount->handles && guess_is_known(local, dir, name))
        err = lookup_quick(local, dir, dirfd, name, out);
    if (err == LONG_WAY)
        err = lookup_long(local, dir, dirfd, name, out);
    return err;
}

struct inode *lookup_known(struct local *local, struct inode *dir, const char *name)
{
    int mount, err = -EOPNOTSUPP, dirfd = node_fd(local, dir);
    struct handle_at handle;
    struct ino_key bytes;
    struct inode_key key;
    struct statx stx;

    if (dirfd < 0)
        return NULL;
    if (local->may_handle)
        err = handle_at_name(dirfd, name, &handle);
    if (err == 0) {
        struct inode *inode = find_handle(local, dir, &handle, false, &mount);

        if (inode || (mount == (int)dir->mount && mount_at(local->mounts, dir->mount)->handles))
            return inode;
    } else if (!handle_at_unsupported(err)) {
        return NULL;
    }
    if (statx(dirfd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_INO | STATX_MNT_ID, &stx) <
        0)
        return NULL;
    mount = find_mount(local, dir, (int)stx.stx_mnt_id);
    if (mount < 0)
        return NULL;
    key = ino_key((uint32_t)mount, &stx, &bytes);
    return inode_find(local->fs.inodes, &key, false);
}

void lookup_undo(struct local *local, const struct fuse_entry_out *entry)
{
    if (entry->nodeid != 0)
        inode_forget(local->fs.inodes, entry->nodeid, 1);
}

/* ---- LOOKUP ---- */

int local_lookup(struct fuse_req *req)
{
    struct local *local = req->local;
    struct fuse_entry_out out;
    int err = lookup_name(local, req->inode, req->name[0], &out);

    /* That there is no such name is worth remembering as well: node id 0 says so. */
    if (err == -ENOENT && local->fs.options.entry_timeout_ns > 0) {
        memset(&out, 0, sizeof(out));
        set_valid(local, &out);
        err = 0;
    }
    if (err < 0)
        return err;
    err = fuse_req_put(req, &out, sizeof(out));
    if (err < 0)
        lookup_undo(local, &out);
    return err;
}
