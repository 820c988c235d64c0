/* SPDX-License-Identifier: Apache-2.0 */
/* Description: GETATTR, SETATTR, STATX and ACCESS say and do what the same calls do on the host. */
#include <sched.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include "handler.h"

enum { USER = 1000, GROUP = 1001 };

static const uint64_t ROOT = FUSE_ROOT_ID;

/* ---- reading ---- */

static void attr_is(const struct fuse_attr *attr, const struct stat *st)
{
    CHECK(attr->ino == st->st_ino && attr->size == (uint64_t)st->st_size);
    CHECK(attr->blocks == (uint64_t)st->st_blocks && attr->mode == st->st_mode);
    CHECK(attr->nlink == st->st_nlink && attr->uid == st->st_uid && attr->gid == st->st_gid);
    CHECK(attr->blksize == (uint64_t)st->st_blksize);
    CHECK(attr->rdev == (uint32_t)((minor(st->st_rdev) & 0xff) | major(st->st_rdev) << 8 |
                                   (minor(st->st_rdev) & ~0xffu) << 12));
    CHECK(attr->atime == (uint64_t)st->st_atim.tv_sec && attr->atimensec == st->st_atim.tv_nsec);
    CHECK(attr->mtime == (uint64_t)st->st_mtim.tv_sec && attr->mtimensec == st->st_mtim.tv_nsec);
    CHECK(attr->ctime == (uint64_t)st->st_ctim.tv_sec && attr->ctimensec == st->st_ctim.tv_nsec);
    CHECK(attr->flags == 0);
}

static void sx_time_is(const struct fuse_sx_time *time, const struct timespec *ts)
{
    CHECK(time->tv_sec == ts->tv_sec && time->tv_nsec == ts->tv_nsec);
}

static void statx_is(uint64_t node, const struct stat *st)
{
    struct fuse_req req = request(FUSE_STATX, node, NULL, NULL);
    struct fuse_statx_out out;

    req.arg.statx.sx_mask = UINT32_MAX; /* what the wire cannot carry is not asked of the host */
    req.arg.statx.sx_flags = AT_STATX_DONT_SYNC | 0x80000000u;
    CHECK(run(&req) == 0 && req.out_len == sizeof(out));
    out = *(struct fuse_statx_out *)reply();
    CHECK(out.attr_valid == 1 && out.attr_valid_nsec == 500000000);
    CHECK((out.stat.mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
    CHECK((out.stat.mask & ~(uint32_t)ATTR_STATX_MASK) == 0);
    CHECK(out.stat.ino == st->st_ino && out.stat.size == (uint64_t)st->st_size);
    CHECK(out.stat.mode == st->st_mode && out.stat.nlink == st->st_nlink);
    CHECK(out.stat.uid == st->st_uid && out.stat.gid == st->st_gid);
    CHECK(out.stat.rdev_major == major(st->st_rdev) && out.stat.rdev_minor == minor(st->st_rdev));
    CHECK(out.stat.dev_major == major(st->st_dev) && out.stat.dev_minor == minor(st->st_dev));
    sx_time_is(&out.stat.atime, &st->st_atim);
    sx_time_is(&out.stat.mtime, &st->st_mtim);
    sx_time_is(&out.stat.ctime, &st->st_ctim);
}

static void attributes_are_the_hosts(void)
{
    static const char *const names[] = {"file", "dir", "link", "fifo", "device"};
    struct fuse_attr attr;

    host_file("file", 06754);
    CHECK(mkdirat(root, "dir", 01777) == 0);
    CHECK(symlinkat("nowhere", root, "link") == 0);
    CHECK(mkfifoat(root, "fifo", 0600) == 0);
    if (queue.cred.privileged)
        CHECK(mknodat(root, "device", S_IFCHR | 0600, makedev(300, 70000)) == 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct stat st;
        uint64_t node;

        if (!exists(names[i]))
            continue;
        st = host(names[i]);
        node = lookup(ROOT, names[i]);
        CHECK(getattr(node, &attr) == 0);
        attr_is(&attr, &st);
        statx_is(node, &st);
        forget(node);
    }
    CHECK(getattr(ROOT, &attr) == 0 && attr.ino == host(".").st_ino);
    CHECK(getattr(99, &attr) == -ESTALE);
}

/* A directory on which something is mounted is announced as such, the shared root is not. */
static void mounted_directories(void)
{
    uint64_t node;
    struct fuse_attr attr;

    handler_begin(NULL);
    CHECK(mkdirat(root, "mounted", 0755) == 0);
    CHECK(mount("none", "handler-scratch/mounted", "tmpfs", 0, NULL) == 0);
    node = lookup(ROOT, "mounted");
    CHECK(getattr(node, &attr) == 0 && attr.flags == 0); /* the client knows no submounts */
    atomic_fetch_or(&local->fs.features, FUSE_SUBMOUNTS);
    CHECK(getattr(node, &attr) == 0 && attr.flags == FUSE_ATTR_SUBMOUNT);
    CHECK(attr.ino == host("mounted").st_ino);
    CHECK(getattr(ROOT, &attr) == 0 && attr.flags == 0);
    forget(node);
    CHECK(umount2("handler-scratch/mounted", MNT_DETACH) == 0);
    handler_end();
}

/* ---- open files ---- */

static uint64_t open_node(uint64_t node, const char *path, int flags)
{
    struct handle *handle;
    uint64_t fh;
    int fd = openat(root, path, flags | O_CLOEXEC);

    CHECK(fd >= 0);
    handle = handle_new(local->fs.handles, node, fd);
    CHECK(handle);
    handle->flags = flags;
    fh = handle_id(local->fs.handles, handle);
    handle_unpin(local->fs.handles, handle);
    return fh;
}

static void close_handle(uint64_t node, uint64_t fh)
{
    struct handle *handle = handle_pin(local->fs.handles, fh, node);

    CHECK(handle);
    handle_release(local->fs.handles, handle);
    handle_unpin(local->fs.handles, handle);
}

static int getattr_open(uint64_t node, uint64_t fh)
{
    struct fuse_req req = request(FUSE_GETATTR, node, NULL, NULL);

    req.arg.getattr.getattr_flags = FUSE_GETATTR_FH;
    req.arg.getattr.fh = fh;
    return run(&req);
}

static void attributes_of_open_files(void)
{
    uint64_t file = lookup(ROOT, "file"), dir = lookup(ROOT, "dir");
    uint64_t fh = open_node(file, "file", O_RDONLY);
    struct fuse_attr_out *out = reply();
    struct fuse_req req = request(FUSE_STATX, file, NULL, NULL);

    CHECK(getattr_open(file, fh) == 0 && out->attr.ino == host("file").st_ino);
    CHECK(getattr_open(dir, fh) == -EBADF); /* another node's */
    CHECK(getattr_open(file, fh + 1) == -EBADF);
    req.arg.statx.getattr_flags = FUSE_GETATTR_FH;
    req.arg.statx.fh = fh;
    req.arg.statx.sx_mask = STATX_BASIC_STATS;
    CHECK(run(&req) == 0);
    req.arg.statx.fh = fh + 1;
    CHECK(run(&req) == -EBADF);
    close_handle(file, fh);
    CHECK(getattr_open(file, fh) == -EBADF);
    CHECK(handle_count(local->fs.handles) == 0); /* each request took its pin back */
    forget(file);
    forget(dir);
}

/* ---- changing ---- */

static struct fuse_req setattr(uint64_t node, uint32_t valid)
{
    struct fuse_req req = request(FUSE_SETATTR, node, NULL, NULL);

    req.arg.setattr.valid = valid;
    return req;
}

static int chmod_node(uint64_t node, uint32_t mode)
{
    struct fuse_req req = setattr(node, FATTR_MODE);

    req.arg.setattr.mode = mode;
    return run(&req);
}

static int chown_node(uint64_t node, uint32_t valid, uint32_t uid, uint32_t gid)
{
    struct fuse_req req = setattr(node, valid);

    req.arg.setattr.uid = uid;
    req.arg.setattr.gid = gid;
    return run(&req);
}

static int truncate_node(uint64_t node, uint32_t valid, uint64_t fh, uint64_t size)
{
    struct fuse_req req = setattr(node, FATTR_SIZE | valid);

    req.arg.setattr.fh = fh;
    req.arg.setattr.size = size;
    return run(&req);
}

static void modes(void)
{
    uint64_t file = lookup(ROOT, "file"), dir = lookup(ROOT, "dir"), link = lookup(ROOT, "link");
    struct fuse_attr_out *out = reply();
    uint64_t fh;
    struct fuse_req req;

    CHECK(chmod_node(file, S_IFDIR | 0640) == 0); /* the type's bits mean nothing */
    CHECK(host("file").st_mode == (S_IFREG | 0640) && out->attr.mode == (S_IFREG | 0640));
    CHECK(out->attr_valid == 1 && out->attr_valid_nsec == 500000000);
    CHECK(chmod_node(dir, 03755) == 0);
    CHECK(host("dir").st_mode == (S_IFDIR | 03755));
    CHECK(chmod_node(link, 0600) == -EOPNOTSUPP);
    CHECK(host("link").st_mode == (S_IFLNK | 0777));
    fh = open_node(file, "file", O_RDONLY);
    req = setattr(file, FATTR_MODE | FATTR_FH);
    req.arg.setattr.mode = 0604;
    req.arg.setattr.fh = fh;
    CHECK(run(&req) == 0 && host("file").st_mode == (S_IFREG | 0604));
    req.arg.setattr.fh = fh + 1;
    CHECK(run(&req) == -EBADF);
    close_handle(file, fh);
    forget(file);
    forget(dir);
    forget(link);
}

static void owners(void)
{
    uint64_t file = lookup(ROOT, "file"), link = lookup(ROOT, "link");

    CHECK(chown_node(file, FATTR_UID, UINT32_MAX, 0) == -EINVAL);
    CHECK(chown_node(file, FATTR_GID, 0, UINT32_MAX) == -EINVAL);
    if (!queue.cred.privileged) {
        CHECK(chown_node(file, FATTR_UID, geteuid() + 1, 0) == -EPERM);
    } else {
        CHECK(chown_node(file, FATTR_UID | FATTR_GID, USER, GROUP) == 0);
        CHECK(host("file").st_uid == USER && host("file").st_gid == GROUP);
        CHECK(chown_node(file, FATTR_UID, 0, 7) == 0); /* gid is not asked for */
        CHECK(host("file").st_uid == 0 && host("file").st_gid == GROUP);
        CHECK(chown_node(link, FATTR_UID | FATTR_GID, USER, GROUP) == 0);
        CHECK(host("link").st_uid == USER && host("link").st_gid == GROUP);
    }
    forget(file);
    forget(link);
}

static void sizes(void)
{
    uint64_t file = lookup(ROOT, "file"), dir = lookup(ROOT, "dir"), fifo = lookup(ROOT, "fifo");
    struct fuse_attr_out *out = reply();
    uint64_t fh;

    CHECK(truncate_node(file, 0, 0, 10000) == 0);
    CHECK(host("file").st_size == 10000 && out->attr.size == 10000);
    CHECK(truncate_node(file, 0, 0, UINT64_C(5) << 30) == 0);
    CHECK(host("file").st_size == (off_t)5 << 30);
    CHECK(truncate_node(file, 0, 0, 3) == 0 && host("file").st_size == 3);
    CHECK(truncate_node(file, 0, 0, UINT64_MAX) == -EINVAL);
    CHECK(truncate_node(file, 0, 0, UINT64_C(1) << 63) == -EINVAL);
    CHECK(truncate_node(dir, 0, 0, 0) == -EISDIR);
    CHECK(truncate_node(fifo, 0, 0, 0) == -EINVAL);
    fh = open_node(file, "file", O_RDWR);
    CHECK(truncate_node(file, FATTR_FH | FATTR_LOCKOWNER, fh, 77) == 0);
    CHECK(host("file").st_size == 77);
    close_handle(file, fh);
    fh = open_node(file, "file", O_RDONLY); /* open(O_RDONLY | O_TRUNC) in the guest */
    CHECK(truncate_node(file, FATTR_FH, fh, 0) == 0 && host("file").st_size == 0);
    close_handle(file, fh);
    forget(file);
    forget(dir);
    forget(fifo);
}

/* Which of the set-id bits a change of size or owner leaves, and for whom. */
static void set_id_bits(void)
{
    uint64_t file = lookup(ROOT, "file");
    struct fuse_req req;

    if (!queue.cred.privileged)
        return;
    CHECK(chown_node(file, FATTR_UID | FATTR_GID, USER, GROUP) == 0);
    cred_fsetid(&queue.cred, false); /* as after a WRITE */
    CHECK(chmod_node(file, 06755) == 0 && host("file").st_mode == (S_IFREG | 06755));
    CHECK(truncate_node(file, 0, 0, 5) == 0); /* root in the guest: they stay */
    CHECK(host("file").st_mode == (S_IFREG | 06755));
    CHECK(truncate_node(file, FATTR_KILL_SUIDGID, 0, 6) == 0);
    CHECK(host("file").st_mode == (S_IFREG | 0755));

    CHECK(chmod_node(file, 06755) == 0);
    req = setattr(file, FATTR_GID | FATTR_KILL_SUIDGID);
    req.arg.setattr.gid = GROUP + 1;
    CHECK(run(&req) == 0 && host("file").st_mode == (S_IFREG | 0755));

    /* without group execution S_ISGID is no set-id bit; root's chown leaves it */
    CHECK(chmod_node(file, 02644) == 0);
    req.arg.setattr.gid = GROUP;
    CHECK(run(&req) == 0 && host("file").st_mode == (S_IFREG | 02644));
    forget(file);
}

static void time_is(const struct timespec *ts, int64_t sec, long nsec)
{
    CHECK(ts->tv_sec == sec && ts->tv_nsec == nsec);
}

static void times(void)
{
    uint64_t file = lookup(ROOT, "file"), link = lookup(ROOT, "link");
    struct fuse_req req = setattr(file, FATTR_ATIME | FATTR_MTIME | FATTR_CTIME);
    struct timespec now;
    struct stat st;

    req.arg.setattr.atime = 1000;
    req.arg.setattr.atimensec = 999999999;
    req.arg.setattr.mtime = (uint64_t)-5; /* before 1970 */
    req.arg.setattr.mtimensec = 7;
    req.arg.setattr.ctime = 1;
    CHECK(run(&req) == 0);
    st = host("file");
    time_is(&st.st_atim, 1000, 999999999);
    time_is(&st.st_mtim, -5, 7);
    CHECK(st.st_ctim.tv_sec > 1000); /* the host keeps that one */

    req.arg.setattr.valid = FATTR_ATIME;
    req.arg.setattr.atime = 2000;
    req.arg.setattr.mtimensec = UINT32_MAX; /* not looked at */
    CHECK(run(&req) == 0);
    st = host("file");
    time_is(&st.st_atim, 2000, 999999999);
    time_is(&st.st_mtim, -5, 7);

    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    req.arg.setattr.valid = FATTR_MTIME | FATTR_MTIME_NOW;
    CHECK(run(&req) == 0);
    st = host("file");
    time_is(&st.st_atim, 2000, 999999999);
    CHECK(st.st_mtim.tv_sec >= now.tv_sec && st.st_mtim.tv_sec <= now.tv_sec + 60);

    req.arg.setattr.valid = FATTR_MTIME;
    req.arg.setattr.mtimensec = 1000000000;
    CHECK(run(&req) == -EINVAL);
    req.arg.setattr.mtimensec = UTIME_NOW; /* the host's special values are not the wire's */
    CHECK(run(&req) == -EINVAL);
    req.arg.setattr.mtimensec = UTIME_OMIT;
    CHECK(run(&req) == -EINVAL);

    req.in_header.nodeid = link;
    req.arg.setattr.mtime = 4000;
    req.arg.setattr.mtimensec = 4;
    CHECK(run(&req) == 0);
    st = host("link");
    time_is(&st.st_mtim, 4000, 4);
    forget(file);
    forget(link);
}

/* One request for all; and the first failure ends it. */
static void several_at_once(void)
{
    uint64_t file = lookup(ROOT, "file");
    struct fuse_req req =
        setattr(file, FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_SIZE | FATTR_ATIME | FATTR_MTIME);
    struct stat st;

    req.arg.setattr.mode = 0600;
    req.arg.setattr.uid = geteuid();
    req.arg.setattr.gid = getegid();
    req.arg.setattr.size = 123;
    req.arg.setattr.atime = 11;
    req.arg.setattr.mtime = 22;
    CHECK(run(&req) == 0);
    st = host("file");
    CHECK(st.st_mode == (S_IFREG | 0600) && st.st_uid == geteuid() && st.st_gid == getegid());
    CHECK(st.st_size == 123);
    time_is(&st.st_atim, 11, 0);
    time_is(&st.st_mtim, 22, 0); /* not the time of the truncation */
    attr_is(&((struct fuse_attr_out *)reply())->attr, &st);

    req.arg.setattr.mode = 0640;
    req.arg.setattr.size = UINT64_MAX;
    req.arg.setattr.mtime = 33;
    CHECK(run(&req) == -EINVAL);
    st = host("file");
    CHECK(st.st_mode == (S_IFREG | 0640) && st.st_size == 123);
    time_is(&st.st_mtim, 22, 0);
    forget(file);
}

static void removed_files_change_too(void)
{
    uint64_t node;
    struct fuse_req req;
    struct fuse_attr_out *out = reply();

    host_file("gone", 0644);
    node = lookup(ROOT, "gone");
    req = request(FUSE_UNLINK, ROOT, "gone", NULL);
    CHECK(run(&req) == 0);
    CHECK(chmod_node(node, 0600) == 0 && out->attr.mode == (S_IFREG | 0600));
    CHECK(truncate_node(node, 0, 0, 9) == 0 && out->attr.size == 9 && out->attr.nlink == 0);
    forget(node);
    CHECK(chmod_node(node, 0600) == -ESTALE);
}

/* ---- ACCESS ---- */

static int access_as(uint32_t uid, uint32_t gid, uint64_t node, uint32_t mask)
{
    struct fuse_req req = request(FUSE_ACCESS, node, NULL, NULL);

    req.in_header.uid = uid;
    req.in_header.gid = gid;
    req.arg.access.mask = mask;
    return run(&req);
}

static void access_by_mode(void)
{
    uint64_t file, dir = lookup(ROOT, "dir");
    uint32_t owner, group;

    host_file("guarded", 0640);
    file = lookup(ROOT, "guarded");
    owner = host("guarded").st_uid;
    group = host("guarded").st_gid;
    CHECK(access_as(1, 1, file, F_OK) == 0);
    CHECK(access_as(0, 0, file, R_OK | W_OK) == 0);
    CHECK(access_as(0, 0, file, X_OK) == -EACCES);
    CHECK(access_as(0, 0, dir, X_OK) == 0);
    CHECK(owner == 0 || access_as(owner, 1, file, R_OK | W_OK) == 0);
    CHECK(owner == 0 || access_as(owner, 1, file, X_OK) == -EACCES);
    CHECK(access_as(owner + 1, group, file, R_OK) == 0);
    CHECK(access_as(owner + 1, group, file, R_OK | W_OK) == -EACCES);
    CHECK(access_as(owner + 1, group + 1, file, R_OK) == -EACCES);
    CHECK(access_as(owner + 1, group + 1, file, 8) == -EINVAL);
    CHECK(access_as(0, 0, 99, F_OK) == -ESTALE);
    forget(file);
    forget(dir);
}

static void read_only(void)
{
    static const struct ovfs_options options = {.readonly = 1, .queues = 2, .fd_cache = 64};
    uint64_t file;

    handler_begin(&options);
    host_file("file", 0666);
    CHECK(mkfifoat(root, "fifo", 0666) == 0);
    file = lookup(ROOT, "file");
    CHECK(access_as(0, 0, file, R_OK) == 0);
    CHECK(access_as(0, 0, file, W_OK) == -EROFS);
    CHECK(access_as(0, 0, lookup(ROOT, "fifo"), W_OK) == 0); /* no write to the file system */
    CHECK(chmod_node(file, 0600) == -EROFS && host("file").st_mode == (S_IFREG | 0666));
    handler_end();
}

int main(void)
{
    handler_begin(NULL);
    attributes_are_the_hosts();
    attributes_of_open_files();
    modes();
    owners();
    sizes();
    set_id_bits();
    times();
    several_at_once();
    removed_files_change_too();
    access_by_mode();
    handler_end();
    read_only();
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        SKIP("all else passed, but mounts take root, and a root directory that is a mount point");
    mounted_directories();
    return 0;
}
