/* SPDX-License-Identifier: Apache-2.0
 * Description: names to nodes, with and without file handles, over hard links, mounts and replaced
 * files. */
#include <sched.h>
#include <sys/mount.h>

#include "local/mount.h"
#include "local_fixture.h"

static bool may_mount; /* in a mount namespace of our own */

static void unpin(struct fixture *fixture, struct inode *inode)
{
    inode_unpin(fixture->local->fs.inodes, inode);
}

static uint64_t id_of(struct fixture *fixture, const char *name)
{
    struct fuse_entry_out out;

    unpin(fixture, fixture_lookup(fixture, name, &out));
    return out.nodeid;
}

static void entries_are_filled_in(struct fixture *fixture)
{
    struct fuse_entry_out out;
    struct inode *inode;
    struct stat st;

    fixture_file(fixture, "file", "hello");
    inode = fixture_lookup(fixture, "file", &out);
    CHECK(fstatat(fixture->dirfd, "file", &st, 0) == 0);
    CHECK(out.attr.ino == st.st_ino && out.attr.size == 5 && out.attr.mode == st.st_mode);
    CHECK(out.entry_valid == 2 && out.entry_valid_nsec == 1);
    CHECK(out.attr_valid == 1 && out.attr_valid_nsec == 500000000);
    CHECK(out.generation == 0 && out.attr.flags == 0 && inode->type == S_IFREG);
    CHECK(inode->lookups == 1);
    CHECK(id_of(fixture, "file") == out.nodeid && inode->lookups == 2);
    lookup_undo(fixture->local, &out);
    CHECK(inode->lookups == 1);
    unpin(fixture, inode);
    inode_forget(fixture->local->fs.inodes, out.nodeid, 1);
    CHECK(!inode_pin(fixture->local->fs.inodes, out.nodeid));
    CHECK(id_of(fixture, "file") != out.nodeid);
}

static void errors_are_the_hosts(struct fixture *fixture)
{
    char name[300];
    struct fuse_entry_out out;
    struct inode *file = fixture_lookup(fixture, "file", &out);

    CHECK(lookup_name(fixture->local, fixture->root, "absent", &out) == -ENOENT);
    CHECK(lookup_name(fixture->local, file, "below", &out) == -ENOTDIR);
    memset(name, 'n', sizeof(name));
    name[256] = '\0';
    CHECK(lookup_name(fixture->local, fixture->root, name, &out) == -ENAMETOOLONG);
    unpin(fixture, file);
}

static void links_of_one_file_are_one_node(struct fixture *fixture)
{
    CHECK(linkat(fixture->dirfd, "file", fixture->dirfd, "link", 0) == 0);
    CHECK(id_of(fixture, "file") == id_of(fixture, "link"));
}

static void nothing_is_followed_or_opened(struct fixture *fixture)
{
    struct fuse_entry_out out;
    struct inode *inode;

    CHECK(symlinkat("/etc", fixture->dirfd, "symlink") == 0);
    CHECK(mkfifoat(fixture->dirfd, "fifo", 0600) == 0);
    inode = fixture_lookup(fixture, "symlink", &out);
    CHECK(inode->type == S_IFLNK && out.attr.size == 4);
    CHECK(node_open(fixture->local, inode, O_RDONLY) == -ELOOP);
    CHECK(lookup_name(fixture->local, inode, "passwd", &out) == -ENOTDIR);
    unpin(fixture, inode);
    inode = fixture_lookup(fixture, "fifo", &out); /* would wait for a writer if opened */
    CHECK(inode->type == S_IFIFO && node_open(fixture->local, inode, O_RDONLY) == -ENXIO);
    CHECK(node_fd(fixture->local, inode) >= 0);
    unpin(fixture, inode);
}

/* A file system may give the number of a removed file to the next one. */
static void a_replaced_file_is_a_new_node(struct fixture *fixture)
{
    struct fuse_entry_out out, again;
    int i;

    for (i = 0; i < 20; i++) {
        fixture_file(fixture, "replaced", "old");
        unpin(fixture, fixture_lookup(fixture, "replaced", &out));
        CHECK(unlinkat(fixture->dirfd, "replaced", 0) == 0);
        fixture_file(fixture, "replaced", "younger");
        unpin(fixture, fixture_lookup(fixture, "replaced", &again));
        CHECK(out.nodeid != again.nodeid && again.attr.size == 7);
        CHECK(unlinkat(fixture->dirfd, "replaced", 0) == 0);
        inode_forget(fixture->local->fs.inodes, again.nodeid, 1);
        inode_forget(fixture->local->fs.inodes, out.nodeid, 1);
    }
}

static void known_names_are_found(struct fixture *fixture)
{
    struct fuse_entry_out out;
    struct inode *inode, *known;

    fixture_file(fixture, "other", "");
    CHECK(!lookup_known(fixture->local, fixture->root, "other"));
    CHECK(!lookup_known(fixture->local, fixture->root, "absent"));
    inode = fixture_lookup(fixture, "other", &out);
    known = lookup_known(fixture->local, fixture->root, "other");
    CHECK(known == inode && inode->lookups == 1);
    unpin(fixture, known);
    unpin(fixture, inode);
}

static void a_descriptor_has_an_entry(struct fixture *fixture)
{
    int fd = openat(fixture->dirfd, "made", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    struct fuse_entry_out out;
    struct inode *inode;

    CHECK(lookup_fd(fixture->local, fd, fixture->root, &out) == 0);
    close(fd);
    CHECK(id_of(fixture, "made") == out.nodeid);
    inode = inode_pin(fixture->local->fs.inodes, out.nodeid);
    CHECK(inode->lookups == 2 && node_fd(fixture->local, inode) >= 0);
    fd = node_open(fixture->local, inode, O_RDWR);
    CHECK(fd >= 0 && write(fd, "x", 1) == 1);
    close(fd);
    unpin(fixture, inode);
}

static void a_file_without_a_name_has_an_entry(struct fixture *fixture)
{
    int fd = openat(fixture->dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    struct fuse_entry_out out;
    struct inode *inode;

    CHECK(fd >= 0 && lookup_fd(fixture->local, fd, fixture->root, &out) == 0);
    CHECK(out.attr.nlink == 0);
    inode = inode_pin(fixture->local->fs.inodes, out.nodeid);
    node_hold(fixture->local, inode);
    close(fd);
    fd = node_fd(fixture->local, inode);
    CHECK(fd >= 0);
    CHECK(linkat(fd, "", fixture->dirfd, "named", AT_EMPTY_PATH) == 0 || errno == ENOENT);
    unpin(fixture, inode);
}

static int request(struct fixture *fixture, int (*handler)(struct fuse_req *), const char *name,
                   void *out, size_t room)
{
    struct iovec iov = {out, room};
    struct fuse_req req = {
        .local = fixture->local,
        .out = {&iov, 1, room},
        .inode = fixture->root,
        .name = {name},
    };
    int err = handler(&req);

    CHECK(err < 0 || req.out_len == sizeof(struct fuse_entry_out));
    return err;
}

static void lookup_requests(struct fixture *fixture)
{
    struct fuse_entry_out out;
    struct inode *inode = fixture_lookup(fixture, "file", &out);
    uint64_t lookups = inode->lookups;

    CHECK(request(fixture, local_lookup, "file", &out, sizeof(out)) == 0);
    CHECK(out.nodeid == inode_id(fixture->local->fs.inodes, inode));
    CHECK(inode->lookups == lookups + 1);
    /* a reply that does not fit leaves no lookup behind */
    CHECK(request(fixture, local_lookup, "file", &out, 40) == -ERANGE);
    CHECK(inode->lookups == lookups + 1);
    /* absence is remembered as long as presence */
    memset(&out, 0xff, sizeof(out));
    CHECK(request(fixture, local_lookup, "absent", &out, sizeof(out)) == 0);
    CHECK(out.nodeid == 0 && out.entry_valid == 2 && out.attr.ino == 0);
    fixture->local->fs.options.entry_timeout_ns = 0;
    CHECK(request(fixture, local_lookup, "absent", &out, sizeof(out)) == -ENOENT);
    fixture->local->fs.options.entry_timeout_ns = fixture_options().entry_timeout_ns;
    unpin(fixture, inode);
}

static void forget_requests(struct fixture *fixture)
{
    struct fuse_forget_one list[3] = {{id_of(fixture, "file"), 1000}, {12345678, 1}};
    struct iovec iov = {list, sizeof(list)};
    struct fuse_req batch = {
        .local = fixture->local,
        .in = {&iov, 1, sizeof(list)},
        .arg.batch_forget.count = UINT32_MAX, /* a lie: the chain holds three */
    };
    struct fuse_req one = {.local = fixture->local, .arg.forget.nlookup = 1};

    fixture_file(fixture, "fourth", "");
    one.in_header.nodeid = id_of(fixture, "fourth");
    list[2] = (struct fuse_forget_one){FUSE_ROOT_ID, UINT64_MAX};
    CHECK(fs_batch_forget(&batch) == 0 && fs_forget(&one) == 0);
    CHECK(!inode_pin(fixture->local->fs.inodes, list[0].nodeid));
    CHECK(!inode_pin(fixture->local->fs.inodes, one.in_header.nodeid));
    CHECK(fs_forget(&one) == 0); /* again: ignored */
}

static void a_mount_below_is_a_submount(struct fixture *fixture)
{
    struct fuse_entry_out out, below;
    struct inode *dir, *file;
    char path[64];

    if (!may_mount)
        return;
    CHECK(mkdirat(fixture->dirfd, "mnt", 0755) == 0);
    snprintf(path, sizeof(path), "%s/mnt", fixture->dir);
    unpin(fixture, fixture_lookup(fixture, "mnt", &out));
    CHECK(mount("none", path, "tmpfs", 0, NULL) == 0);
    atomic_store(&fixture->local->fs.features, FUSE_SUBMOUNTS);
    dir = fixture_lookup(fixture, "mnt", &below);
    CHECK(below.nodeid != out.nodeid && below.attr.flags == FUSE_ATTR_SUBMOUNT);
    CHECK(dir->mount != fixture->root->mount && mount_count(fixture->local->mounts) == 2);
    CHECK(mount_at(fixture->local->mounts, dir->mount)->memory_fs);
    CHECK(lookup_name(fixture->local, dir, "x", &out) == -ENOENT);
    snprintf(path, sizeof(path), "%s/mnt/x", fixture->dir);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    CHECK(lookup_name(fixture->local, dir, "x", &out) == 0 && out.attr.flags == 0);
    file = lookup_known(fixture->local, dir, "x");
    CHECK(file && file->mount == dir->mount);
    unpin(fixture, file);
    unpin(fixture, dir);
    CHECK(id_of(fixture, "mnt") == below.nodeid); /* from outside, by the mount's own handles */
    snprintf(path, sizeof(path), "%s/mnt", fixture->dir);
    CHECK(umount(path) < 0 && errno == EBUSY);
    inode_forget(fixture->local->fs.inodes, out.nodeid, 1);
    inode_forget(fixture->local->fs.inodes, below.nodeid, 2);
    CHECK(mount_count(fixture->local->mounts) == 1);
    CHECK(umount(path) == 0); /* nothing holds it any more */
    id_of(fixture, "mnt");
    CHECK(mount_count(fixture->local->mounts) == 1);
    atomic_store(&fixture->local->fs.features, 0);
}

/* ramfs has none: nodes live by their descriptors, and the log says so once. */
static void a_mount_without_handles(struct fixture *fixture)
{
    struct fuse_entry_out dir_out, out;
    struct inode *dir, *file;
    char path[64];
    int expected = fixture->local->may_handle;

    if (!may_mount)
        return;
    snprintf(path, sizeof(path), "%s/mnt", fixture->dir);
    CHECK(mount("none", path, "ramfs", 0, NULL) == 0);
    fixture_logged(fixture, "");
    dir = fixture_lookup(fixture, "mnt", &dir_out);
    CHECK(fixture_logged(fixture, "has no file handles") == expected);
    snprintf(path, sizeof(path), "%s/mnt/x", fixture->dir);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    CHECK(lookup_name(fixture->local, dir, "x", &out) == 0);
    file = lookup_known(fixture->local, dir, "x");
    CHECK(file && inode_id(fixture->local->fs.inodes, file) == out.nodeid);
    CHECK(file->key_type == INODE_KEY_INO && atomic_load(&file->fd) >= 0);
    CHECK(unlink(path) == 0 && node_fd(fixture->local, file) >= 0);
    unpin(fixture, file);
    unpin(fixture, dir);
    CHECK(!fixture_logged(fixture, "has no file handles"));
    inode_forget(fixture->local->fs.inodes, out.nodeid, 1);
    inode_forget(fixture->local->fs.inodes, dir_out.nodeid, 1);
    snprintf(path, sizeof(path), "%s/mnt", fixture->dir);
    CHECK(umount(path) == 0);
}

static void a_reset_forgets_all_but_the_root(struct fixture *fixture)
{
    struct ovfs_stats stats;
    uint64_t id = id_of(fixture, "file");
    struct handle *handle =
        handle_new(fixture->local->fs.handles, id, open("/dev/null", O_RDONLY | O_CLOEXEC));
    uint64_t fh = handle_id(fixture->local->fs.handles, handle);

    handle_unpin(fixture->local->fs.handles, handle);
    CHECK(!handle_pin(fixture->local->fs.handles, fh, id + 1)); /* of another node */
    CHECK(handle_pin(fixture->local->fs.handles, fh, id) == handle);
    handle_unpin(fixture->local->fs.handles, handle);
    CHECK(fixture->local->fs.ops->sync(&fixture->local->fs) == 0);
    fs_reset(&fixture->local->fs);
    CHECK(!handle_pin(fixture->local->fs.handles, fh, id));
    CHECK(!inode_pin(fixture->local->fs.inodes, id));
    fs_stats(&fixture->local->fs, &stats);
    CHECK(stats.inodes == 1 && stats.handles == 0 && stats.cached_fds == 1 && stats.mounts == 1);
    CHECK(id_of(fixture, "file") != id);
}

static void all(enum ovfs_file_handles file_handles)
{
    struct ovfs_options options = fixture_options();
    struct fixture fixture;
    unsigned fds = fixture_open_fds();

    options.file_handles = file_handles;
    fixture_new(&fixture, options);
    entries_are_filled_in(&fixture);
    errors_are_the_hosts(&fixture);
    links_of_one_file_are_one_node(&fixture);
    nothing_is_followed_or_opened(&fixture);
    a_replaced_file_is_a_new_node(&fixture);
    known_names_are_found(&fixture);
    a_descriptor_has_an_entry(&fixture);
    a_file_without_a_name_has_an_entry(&fixture);
    lookup_requests(&fixture);
    forget_requests(&fixture);
    a_mount_below_is_a_submount(&fixture);
    a_mount_without_handles(&fixture);
    a_reset_forgets_all_but_the_root(&fixture);
    fixture_free(&fixture);
    CHECK(fixture_open_fds() == fds);
}

int main(void)
{
    may_mount = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    all(OVFS_HANDLES_PREFER);
    all(OVFS_HANDLES_NEVER);
    if (!may_mount)
        SKIP("all else passed, but mounts take root, and a root directory that is a mount point");
    return 0;
}
