/* SPDX-License-Identifier: Apache-2.0 */
/* Description: names are made, linked, moved and removed as on the host; what the guest knows
 * outlives its last name. */
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "handler.h"

enum { USER = 1000, GROUP = 1001, NOWHERE = 1 << 20 }; /* no table of these tests is so large */

static const uint64_t ROOT = FUSE_ROOT_ID;

/* ---- making ---- */

static int mkdir_as(uint32_t uid, uint64_t dir, const char *name, uint32_t mode)
{
    struct fuse_req req = request(FUSE_MKDIR, dir, name, NULL);

    req.in_header.uid = uid;
    req.in_header.gid = uid ? GROUP : 0;
    req.arg.mkdir.mode = mode;
    return run(&req);
}

static int mknod_as(uint32_t uid, const char *name, uint32_t mode, uint32_t rdev)
{
    struct fuse_req req = request(FUSE_MKNOD, ROOT, name, NULL);

    req.in_header.uid = uid;
    req.in_header.gid = uid ? GROUP : 0;
    req.arg.mknod.mode = mode;
    req.arg.mknod.rdev = rdev;
    return run(&req);
}

static int symlink_as(uint32_t uid, const char *name, const char *target)
{
    struct fuse_req req = request(FUSE_SYMLINK, ROOT, name, target);

    req.in_header.uid = uid;
    req.in_header.gid = uid ? GROUP : 0;
    return run(&req);
}

/* The reply names the object that the host now has, and counts it once. */
static void entry_is(const char *path)
{
    struct fuse_entry_out entry = *(struct fuse_entry_out *)reply();
    struct stat st = host(path);
    struct fuse_attr attr;

    CHECK(entry.nodeid > ROOT && entry.attr.ino == st.st_ino);
    CHECK(entry.attr.mode == st.st_mode && entry.attr.nlink == st.st_nlink);
    CHECK(entry.attr.uid == st.st_uid && entry.attr.gid == st.st_gid);
    CHECK(entry.attr_valid == 1 && entry.attr_valid_nsec == 500000000 && entry.entry_valid == 2);
    CHECK(getattr(entry.nodeid, &attr) == 0);
    forget(entry.nodeid);
    CHECK(getattr(entry.nodeid, &attr) == -ESTALE);
}

static void mkdirs(void)
{
    static const char latin[] = "caf\xe9";
    char longest[256];
    uint64_t dir;

    CHECK(fchmodat(root, ".", 0777, 0) == 0);
    CHECK(mkdir_as(0, ROOT, "dir", 0755) == 0);
    entry_is("dir");
    CHECK(host("dir").st_mode == (S_IFDIR | 0755));
    CHECK(mkdir_as(0, ROOT, "dir", 0755) == -EEXIST);
    CHECK(mkdir_as(USER, ROOT, "sticky", 01777) == 0);
    entry_is("sticky");
    CHECK(host("sticky").st_mode == (S_IFDIR | 01777));
    CHECK(host("sticky").st_uid == (queue.cred.privileged ? USER : geteuid()));
    CHECK(mkdir_as(0, ROOT, latin, 0700) == 0);
    entry_is(latin);
    memset(longest, 'n', 255);
    longest[255] = '\0';
    CHECK(mkdir_as(0, ROOT, longest, 0700) == 0);
    entry_is(longest);

    host_file("plain", 0644);
    dir = lookup(ROOT, "plain");
    CHECK(mkdir_as(0, dir, "below", 0755) == -ENOTDIR);
    CHECK(mkdir_as(0, NOWHERE, "below", 0755) == -ESTALE);
    forget(dir);
    dir = lookup(ROOT, "dir");
    CHECK(mkdir_as(0, dir, "below", 0755) == 0);
    entry_is("dir/below");
    forget(dir);
}

static void umask_is_applied_once(void)
{
    struct fuse_req req = request(FUSE_MKDIR, ROOT, "masked-by-us", NULL);

    req.arg.mkdir.mode = 0777;
    req.arg.mkdir.umask = 027;
    atomic_fetch_or(&local->fs.features, FUSE_DONT_MASK);
    CHECK(run(&req) == 0);
    entry_is("masked-by-us");
    CHECK(host("masked-by-us").st_mode == (S_IFDIR | 0750));
    atomic_fetch_and(&local->fs.features, ~FUSE_DONT_MASK);
    req = request(FUSE_MKDIR, ROOT, "masked-by-guest", NULL);
    req.arg.mkdir.mode = 0775;
    req.arg.mkdir.umask = 0777;
    CHECK(run(&req) == 0);
    entry_is("masked-by-guest");
    CHECK(host("masked-by-guest").st_mode == (S_IFDIR | 0775));
}

static void mknods(void)
{
    uint32_t rdev = (0x34567 & 0xff) | 0x123 << 8 | (0x34567 & ~0xffu) << 12;

    CHECK(mknod_as(USER, "file", S_IFREG | 0640, 0) == 0);
    entry_is("file");
    CHECK(host("file").st_mode == (S_IFREG | 0640));
    CHECK(mknod_as(USER, "fifo", S_IFIFO | 0666, 0) == 0);
    entry_is("fifo");
    CHECK(S_ISFIFO(host("fifo").st_mode));
    CHECK(mknod_as(USER, "socket", S_IFSOCK | 0755, 0) == 0);
    entry_is("socket");
    CHECK(S_ISSOCK(host("socket").st_mode));
    CHECK(mknod_as(0, "set-id", S_IFREG | 06755, 0) == 0);
    entry_is("set-id");
    CHECK(host("set-id").st_mode == (S_IFREG | 06755));
    if (!queue.cred.privileged)
        return;
    CHECK(mknod_as(0, "device", S_IFCHR | 0600, rdev) == 0);
    CHECK(((struct fuse_entry_out *)reply())->attr.rdev == rdev);
    entry_is("device");
    CHECK(host("device").st_rdev == makedev(0x123, 0x34567));
    CHECK(S_ISCHR(host("device").st_mode));
    CHECK(mknod_as(USER, "no-device", S_IFBLK | 0600, rdev) == -EPERM);
}

static void symlinks(void)
{
    char target[4096];
    struct stat st;
    struct fuse_req req;
    uint64_t node;

    CHECK(symlink_as(USER, "link", "../../etc/passwd") == 0);
    st = host("link");
    CHECK(S_ISLNK(st.st_mode) && st.st_uid == (queue.cred.privileged ? USER : geteuid()));
    entry_is("link");
    node = lookup(ROOT, "link");
    req = request(FUSE_READLINK, node, NULL, NULL);
    CHECK(run(&req) == 0);
    CHECK(req.out_len == strlen("../../etc/passwd"));
    CHECK(memcmp(reply(), "../../etc/passwd", req.out_len) == 0);
    handler_room = 4;
    CHECK(run(&req) == -ERANGE);
    handler_room = HANDLER_ROOM;
    forget(node);

    memset(target, '/', 4095);
    target[4095] = '\0';
    CHECK(symlink_as(0, "longest", target) == 0);
    node = ((struct fuse_entry_out *)reply())->nodeid;
    req = request(FUSE_READLINK, node, NULL, NULL);
    CHECK(run(&req) == 0 && req.out_len == 4095 && memcmp(reply(), target, 4095) == 0);
    forget(node);
    node = lookup(ROOT, "plain");
    req = request(FUSE_READLINK, node, NULL, NULL);
    CHECK(run(&req) == -EINVAL);
    forget(node);
}

static int make_with_context(uint32_t opcode, const char *name, const char *attribute)
{
    struct fuse_req req = request(opcode, ROOT, name, "target");

    if (opcode == FUSE_MKDIR)
        req.arg.mkdir.mode = 0755;
    if (opcode == FUSE_MKNOD)
        req.arg.mknod.mode = S_IFREG | 0644;
    req.in_header.uid = USER;
    req.in_header.gid = GROUP;
    req.ext.secctx_name = attribute;
    req.ext.secctx = "label";
    req.ext.secctx_len = 5;
    return run(&req);
}

/* The object has its context before the guest hears of it, or is not there. */
static void security_contexts(void)
{
    static const uint32_t opcodes[] = {FUSE_MKDIR, FUSE_MKNOD, FUSE_SYMLINK};
    static const char *const names[] = {"ctx-dir", "ctx-file", "ctx-link"};
    uint32_t nodes = inode_count(local->fs.inodes);
    char path[64], value[8];

    for (size_t i = 0; i < 3; i++) {
        CHECK(make_with_context(opcodes[i], names[i], "user.label") == -EINVAL);
        CHECK(!exists(names[i]));
        CHECK(inode_count(local->fs.inodes) == nodes);
        if (!queue.cred.privileged)
            continue;
        CHECK(make_with_context(opcodes[i], names[i], "security.ovfs") == 0);
        entry_is(names[i]);
        snprintf(path, sizeof(path), "handler-scratch/%s", names[i]);
        CHECK(lgetxattr(path, "security.ovfs", value, sizeof(value)) == 5);
        CHECK(memcmp(value, "label", 5) == 0);
    }
}

static void no_room_for_the_entry(void)
{
    uint32_t nodes = inode_count(local->fs.inodes);

    handler_room = sizeof(struct fuse_entry_out) - 1;
    CHECK(mkdir_as(0, ROOT, "unheard", 0755) == -ERANGE);
    handler_room = HANDLER_ROOM;
    CHECK(inode_count(local->fs.inodes) == nodes);
}

/* ---- LINK ---- */

static bool is_held(uint64_t nodeid)
{
    struct inode *inode = inode_pin(local->fs.inodes, nodeid);
    bool held;

    CHECK(inode);
    held = atomic_load(&inode->held);
    inode_unpin(local->fs.inodes, inode);
    return held;
}

static int link_node(uint64_t node, uint64_t dir, const char *name)
{
    struct fuse_req req = request(FUSE_LINK, dir, name, NULL);

    req.arg.link.oldnodeid = node;
    return run(&req);
}

static void links(void)
{
    uint64_t file = lookup(ROOT, "plain"), dir = lookup(ROOT, "dir"), link;
    struct fuse_entry_out *entry = reply();

    CHECK(link_node(file, dir, "plain-too") == 0);
    CHECK(entry->nodeid == file && entry->attr.nlink == 2);
    CHECK(host("dir/plain-too").st_ino == host("plain").st_ino);
    forget(file);
    CHECK(link_node(file, dir, "plain-too") == -EEXIST);
    CHECK(link_node(dir, ROOT, "dir-too") == -EPERM);
    CHECK(link_node(NOWHERE, ROOT, "x") == -ESTALE);
    CHECK(link_node(file, file, "x") == -ENOTDIR);

    link = lookup(ROOT, "link"); /* the symlink itself, not what it points to */
    CHECK(link_node(link, ROOT, "link-too") == 0);
    CHECK(entry->nodeid == link && host("link-too").st_ino == host("link").st_ino);
    forget(link);
    forget(link);
    forget(file);
    forget(dir);
}

/* A file that was made without a name gets one, and then needs no descriptor any more. */
static void link_of_a_nameless_file(void)
{
    struct fuse_req req = request(FUSE_TMPFILE, ROOT, "ignored", NULL);
    struct fuse_entry_out *entry = reply();
    struct fuse_open_out *open = (struct fuse_open_out *)(entry + 1);
    uint64_t node, fh;
    struct fuse_attr attr;

    req.arg.create.flags = O_RDWR;
    req.arg.create.mode = S_IFREG | 0600;
    CHECK(run(&req) == 0);
    node = entry->nodeid;
    fh = open->fh;
    CHECK(getattr(node, &attr) == 0 && attr.nlink == 0 && is_held(node));
    CHECK(link_node(node, ROOT, "named") == 0 && entry->nodeid == node);
    CHECK(host("named").st_ino == attr.ino && host("named").st_nlink == 1);
    CHECK(!is_held(node));
    req = request(FUSE_RELEASE, node, NULL, NULL);
    req.arg.release.fh = fh;
    CHECK(run(&req) == 0);
    forget(node);
    forget(node);
}

/* ---- removing ---- */

static int unlink_name(uint64_t dir, const char *name)
{
    struct fuse_req req = request(FUSE_UNLINK, dir, name, NULL);

    return run(&req);
}

static int rmdir_name(uint64_t dir, const char *name)
{
    struct fuse_req req = request(FUSE_RMDIR, dir, name, NULL);

    return run(&req);
}

static void unlinks(void)
{
    uint64_t node, dir = lookup(ROOT, "dir");
    struct fuse_attr attr;
    char name[32];

    CHECK(unlink_name(ROOT, "absent") == -ENOENT);
    CHECK(unlink_name(ROOT, "dir") == -EISDIR);
    CHECK(unlink_name(dir, "plain-too") == 0); /* the guest does not know it */
    CHECK(!exists("dir/plain-too"));

    host_file("two", 0644);
    CHECK(linkat(root, "two", root, "two-too", 0) == 0);
    node = lookup(ROOT, "two");
    CHECK(unlink_name(ROOT, "two") == 0);
    CHECK(!is_held(node)); /* it has another name, so its handle stays good */
    CHECK(getattr(node, &attr) == 0 && attr.nlink == 1);
    CHECK(unlink_name(ROOT, "two-too") == 0);
    CHECK(is_held(node));

    /* more other nodes than descriptors are kept for, and the removed file is still there */
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "other-%d", i);
        host_file(name, 0600);
        lookup(ROOT, name);
    }
    CHECK(getattr(node, &attr) == 0 && attr.nlink == 0);
    forget(node);
    CHECK(getattr(node, &attr) == -ESTALE);
    forget(dir);
}

static void rmdirs(void)
{
    uint64_t full, empty;
    struct fuse_attr attr;

    CHECK(mkdirat(root, "empty", 0755) == 0);
    CHECK(mkdirat(root, "full", 0755) == 0);
    host_file("full/file", 0644);
    full = lookup(ROOT, "full");
    empty = lookup(ROOT, "empty");
    CHECK(rmdir_name(ROOT, "full") == -ENOTEMPTY);
    CHECK(!is_held(full));
    CHECK(rmdir_name(ROOT, "plain") == -ENOTDIR);
    CHECK(rmdir_name(ROOT, "absent") == -ENOENT);
    CHECK(rmdir_name(ROOT, "empty") == 0);
    CHECK(!exists("empty") && is_held(empty));
    CHECK(getattr(empty, &attr) == 0 && attr.nlink == 0);
    CHECK(mkdir_as(0, empty, "below", 0755) == -ENOENT);
    forget(empty);
    forget(full);
}

/* ---- moving ---- */

static int rename2_name(uint64_t from, const char *old, uint64_t to, const char *new,
                        uint32_t flags)
{
    struct fuse_req req = request(FUSE_RENAME2, from, old, new);

    req.arg.rename2.newdir = to;
    req.arg.rename2.flags = flags;
    return run(&req);
}

static int rename_name(uint64_t from, const char *old, uint64_t to, const char *new)
{
    struct fuse_req req = request(FUSE_RENAME, from, old, new);

    req.arg.rename.newdir = to;
    return run(&req);
}

static void renames(void)
{
    uint64_t dir = lookup(ROOT, "dir"), moved, replaced;
    struct fuse_attr attr;
    ino_t a, b;

    host_file("a", 0644);
    host_file("b", 0644);
    a = host("a").st_ino;
    b = host("b").st_ino;
    moved = lookup(ROOT, "a");
    replaced = lookup(ROOT, "b");
    CHECK(rename_name(ROOT, "absent", ROOT, "b") == -ENOENT);
    CHECK(!is_held(replaced) && host("b").st_ino == b);
    CHECK(rename_name(ROOT, "a", ROOT, "b") == 0);
    CHECK(!exists("a") && host("b").st_ino == a);
    CHECK(!is_held(moved) && is_held(replaced));
    CHECK(getattr(replaced, &attr) == 0 && attr.nlink == 0 && attr.ino == b);
    CHECK(rename_name(ROOT, "b", dir, "c") == 0);
    CHECK(getattr(moved, &attr) == 0 && attr.ino == a && host("dir/c").st_ino == a);
    CHECK(rename_name(ROOT, "dir", dir, "self") == -EINVAL);
    CHECK(rename_name(dir, "c", NOWHERE, "c") == -ESTALE);
    CHECK(rename_name(dir, "c", moved, "c") == -ENOTDIR);
    CHECK(rename_name(dir, "c", ROOT, "full") == -EISDIR);
    forget(moved);
    forget(replaced);
    forget(dir);
}

/* A victim is held where nothing told of it beforehand, too. */
static void renames_over_what_the_host_put_there(void)
{
    uint64_t moved, replaced;
    struct fuse_attr attr;

    host_file("p", 0644);
    host_file("q", 0644);
    moved = lookup(ROOT, "p");
    replaced = lookup(ROOT, "q");
    CHECK(rename_name(ROOT, "q", ROOT, "elsewhere") == 0);
    CHECK(renameat(root, "elsewhere", root, "q") == 0);
    CHECK(rename_name(ROOT, "p", ROOT, "q") == 0);
    CHECK(is_held(replaced) && !is_held(moved));
    CHECK(getattr(replaced, &attr) == 0 && attr.nlink == 0);
    forget(moved);
    forget(replaced);
}

/* Two names of one file: nothing is done, and both stay. */
static void renames_of_a_link_to_its_twin(void)
{
    uint64_t node;

    host_file("one", 0644);
    CHECK(linkat(root, "one", root, "two", 0) == 0);
    node = lookup(ROOT, "one");
    CHECK(rename_name(ROOT, "one", ROOT, "two") == 0);
    CHECK(exists("one") && exists("two") && !is_held(node));
    forget(node);
}

static void renames_with_flags(void)
{
    uint64_t x, y;
    struct fuse_attr attr;
    ino_t x_ino, y_ino;

    host_file("x", 0644);
    host_file("y", 0644);
    x_ino = host("x").st_ino;
    y_ino = host("y").st_ino;
    x = lookup(ROOT, "x");
    y = lookup(ROOT, "y");
    CHECK(rename2_name(ROOT, "x", ROOT, "y", RENAME_NOREPLACE) == -EEXIST);
    CHECK(rename2_name(ROOT, "x", ROOT, "y", RENAME_EXCHANGE) == 0);
    CHECK(host("x").st_ino == y_ino && host("y").st_ino == x_ino);
    CHECK(!is_held(x) && !is_held(y));
    CHECK(getattr(x, &attr) == 0 && attr.ino == x_ino);
    CHECK(rename2_name(ROOT, "x", ROOT, "z", RENAME_NOREPLACE) == 0 && exists("z"));
    CHECK(rename2_name(ROOT, "z", ROOT, "x", RENAME_EXCHANGE) == -ENOENT);
    CHECK(rename2_name(ROOT, "z", ROOT, "x", RENAME_WHITEOUT) == -EINVAL);
    CHECK(rename2_name(ROOT, "z", ROOT, "x", 1u << 31) == -EINVAL);
    CHECK(rename2_name(ROOT, "z", ROOT, "y", RENAME_EXCHANGE | RENAME_NOREPLACE) == -EINVAL);
    CHECK(exists("z") && !exists("x"));
    CHECK(rename2_name(ROOT, "z", ROOT, "y", 0) == 0);
    CHECK(is_held(x) && !is_held(y));
    forget(x);
    forget(y);
}

int main(void)
{
    handler_begin(NULL);
    mkdirs();
    umask_is_applied_once();
    mknods();
    symlinks();
    security_contexts();
    no_room_for_the_entry();
    links();
    link_of_a_nameless_file();
    unlinks();
    rmdirs();
    renames();
    renames_over_what_the_host_put_there();
    renames_of_a_link_to_its_twin();
    renames_with_flags();
    handler_end();
    return 0;
}
