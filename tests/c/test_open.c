/* SPDX-License-Identifier: Apache-2.0 */
/* Description: OPEN, CREATE, TMPFILE: what is opened, as whom, and what the guest may cache. */
#include "files.h"

/* ---- CREATE, TMPFILE, OPEN ---- */

static void test_truncate(void)
{
    uint64_t node, fh;

    host_write(&guest, "trunc", "12345", 5);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "trunc");
    fh = guest_open(&guest, node, O_WRONLY | O_TRUNC);
    CHECK(stat_of("trunc").st_size == 0);
    release(node, fh);
}

static void test_create(void)
{
    uint64_t node, fh, again, fh_again;
    struct stat st;

    CHECK(create("new", O_RDWR | O_EXCL, 0640, geteuid() ? 0 : 1000, &node, &fh) == 0);
    st = stat_of("new");
    CHECK((st.st_mode & 07777) == 0640);
    CHECK(geteuid() != 0 || (st.st_uid == 1000 && st.st_gid == 1000));
    CHECK(create("new", O_RDWR | O_EXCL, 0640, 0, &again, &fh_again) == -EEXIST);
    CHECK(write_at(node, fh, 0, "12345", 5) == 5);
    CHECK(create("new", O_RDWR, 0600, 0, &again, &fh_again) == 0); /* opened as it is */
    CHECK(again == node && fh_again != fh);
    CHECK((stat_of("new").st_mode & 07777) == 0640);
    check_read(again, fh_again, 0, 10, "12345", 5);
    release(again, fh_again);
    CHECK(create("new", O_RDWR | O_TRUNC, 0600, 0, &again, &fh_again) == 0);
    CHECK(stat_of("new").st_size == 0);
    release(again, fh_again);
    release(node, fh);
}

/* What came up under the name meanwhile is not opened if the caller may not, or if opening it is
 * not the daemon's affair. */
static void test_create_on_existing(void)
{
    struct ovfs_stats before, after;
    uint64_t node, fh;

    host_write(&guest, "secret", "12345", 5);
    CHECK(fchmodat(guest.root_fd, "secret", 0600, 0) == 0);
    ovfs_plane_stats(guest.plane, &before);
    if (geteuid() == 0)
        CHECK(create("secret", O_RDONLY, 0644, 1000, &node, &fh) == -EACCES);
    CHECK(mknodat(guest.root_fd, "fifo", S_IFIFO | 0666, 0) == 0);
    CHECK(create("fifo", O_RDONLY, 0644, 0, &node, &fh) == -ENXIO);
    CHECK(symlinkat("secret", guest.root_fd, "link") == 0);
    CHECK(create("link", O_RDONLY, 0644, 0, &node, &fh) == -ELOOP);
    CHECK(mkdirat(guest.root_fd, "dir", 0755) == 0);
    CHECK(create("dir", O_RDONLY, 0644, 0, &node, &fh) == -EISDIR);
    ovfs_plane_stats(guest.plane, &after);
    CHECK(after.inodes == before.inodes && after.handles == before.handles);
}

/* A second opening for reading finds the descriptor of the first one, which is closed by then; two
 * at once have two. */
static void test_open_again(void)
{
    struct ovfs_stats before, after;
    uint64_t node, fh, other;

    host_write(&guest, "again", "12345", 5);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "again");
    release(node, guest_open(&guest, node, O_RDONLY));
    ovfs_plane_stats(guest.plane, &before);
    fh = guest_open(&guest, node, O_RDONLY);
    ovfs_plane_stats(guest.plane, &after);
    CHECK(after.cached_fds == before.cached_fds - (geteuid() == 0));
    other = guest_open(&guest, node, O_RDONLY);
    host_write(&guest, "again", "abcdef", 6); /* the same file: what is open sees it */
    check_read(node, fh, 0, 10, "abcdef", 6);
    release(node, fh);
    check_read(node, other, 0, 10, "abcdef", 6);
    release(node, other);
    fh = guest_open(&guest, node, O_RDWR); /* not to be had from one for reading */
    CHECK(write_at(node, fh, 0, "x", 1) == 1);
    release(node, fh);
    CHECK(unlinkat(guest.root_fd, "again", 0) == 0);
    fh = guest_open(&guest, node, O_RDONLY); /* the node is what is opened, not its name */
    check_read(node, fh, 0, 10, "xbcdef", 6);
    release(node, fh);
}

static void test_open_refuses(void)
{
    uint64_t node = guest_lookup(&guest, FUSE_ROOT_ID, "fifo");

    CHECK(guest_try_open(&guest, node, O_RDONLY, 0).error == -ENXIO);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "link");
    CHECK(guest_try_open(&guest, node, O_RDONLY, 0).error == -ELOOP);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "dir");
    CHECK(guest_try_open(&guest, node, O_RDONLY, 0).error == -EISDIR);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "new");
    CHECK(guest_try_open(&guest, node, O_RDONLY | O_DIRECTORY, 0).error == -ENOTDIR);
    CHECK(guest_try_open(&guest, node, O_ACCMODE, 0).error == -EINVAL);
    CHECK(guest_try_open(&guest, node + (UINT64_C(1) << 32), O_RDONLY, 0).error == -ESTALE);
}

static void test_tmpfile(void)
{
    struct fuse_create_in in = {.flags = O_RDWR, .mode = S_IFREG | 0600};
    struct fuse_link_in link = {0};
    struct fuse_entry_out entry;
    struct fuse_open_out open;
    struct reply reply =
        guest_call(&guest, &(struct call){.opcode = FUSE_TMPFILE,
                                          .nodeid = FUSE_ROOT_ID,
                                          ARG_OF(in),
                                          .name = {"/"},
                                          .out_len = sizeof(entry) + sizeof(open)});

    CHECK(reply.error == 0 && reply.len == sizeof(entry) + sizeof(open));
    memcpy(&entry, reply.at, sizeof(entry));
    memcpy(&open, reply.at + sizeof(entry), sizeof(open));
    CHECK(entry.attr.nlink == 0);
    CHECK(write_at(entry.nodeid, open.fh, 0, "12345", 5) == 5);
    release(entry.nodeid, open.fh); /* the guest still knows the node: it stays */
    link.oldnodeid = entry.nodeid;
    CHECK(guest_call(&guest, &(struct call){.opcode = FUSE_LINK,
                                            .nodeid = FUSE_ROOT_ID,
                                            ARG_OF(link),
                                            .name = {"linked"},
                                            .out_len = sizeof(entry)})
              .error == 0);
    check_host("linked", "12345", 5);
    CHECK(guest_lookup(&guest, FUSE_ROOT_ID, "linked") == entry.nodeid);
}

/* A reply without room: nothing is opened and no file made. */
static void test_no_room(void)
{
    struct fuse_create_in in = {.flags = O_RDWR | O_CREAT, .mode = S_IFREG | 0600};
    struct fuse_open_in open = {.flags = O_RDONLY};
    uint64_t node = guest_lookup(&guest, FUSE_ROOT_ID, "new");
    struct ovfs_stats before, after;

    ovfs_plane_stats(guest.plane, &before);
    CHECK(guest_call(&guest, &(struct call){.opcode = FUSE_CREATE,
                                            .nodeid = FUSE_ROOT_ID,
                                            ARG_OF(in),
                                            .name = {"none"},
                                            .out_len = 130})
              .error == -ERANGE);
    CHECK(faccessat(guest.root_fd, "none", F_OK, 0) < 0);
    CHECK(
        guest_call(&guest,
                   &(struct call){.opcode = FUSE_OPEN, .nodeid = node, ARG_OF(open), .out_len = 8})
            .error == -ERANGE);
    ovfs_plane_stats(guest.plane, &after);
    CHECK(after.handles == before.handles);
}

/* ---- policies ---- */

static uint32_t open_flags_of(uint64_t node, uint32_t flags)
{
    struct reply reply = guest_try_open(&guest, node, flags, 0);
    struct fuse_open_out out;

    CHECK(reply.error == 0);
    memcpy(&out, reply.at, sizeof(out));
    return out.open_flags;
}

static void test_policy(enum ovfs_cache cache, int posix_lock, uint32_t file, uint32_t dir)
{
    uint64_t node;

    guest_start(&guest, &(struct ovfs_options){.cache = cache, .posix_lock = posix_lock});
    host_write(&guest, "file", "x", 1);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "file");
    CHECK(open_flags_of(node, O_RDWR) == (file & ~FOPEN_NOFLUSH));
    CHECK(open_flags_of(node, O_RDONLY) == file);
    CHECK(open_flags_of(FUSE_ROOT_ID, O_DIRECTORY) == dir);
    guest_stop(&guest);
}

static void test_readonly(void)
{
    struct fuse_fallocate_in grow = {.length = 10};
    uint64_t node, fh;

    guest_start(&guest, &(struct ovfs_options){.cache = OVFS_CACHE_AUTO, .readonly = 1});
    host_write(&guest, "file", "12345", 5);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "file");
    CHECK(guest_try_open(&guest, node, O_WRONLY, 0).error == -EROFS);
    CHECK(guest_try_open(&guest, node, O_RDWR, 0).error == -EROFS);
    CHECK(guest_try_open(&guest, node, O_RDONLY | O_TRUNC, 0).error == -EROFS);
    CHECK(create("new", O_WRONLY, 0644, 0, &node, &fh) == -EROFS);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "file");
    fh = guest_open(&guest, node, O_RDONLY);
    check_read(node, fh, 0, 10, "12345", 5);
    CHECK(simple(FUSE_FALLOCATE, node, &grow, sizeof(grow)) == -EROFS);
    guest_stop(&guest);
}

/* With write-back the guest reads what it opens for writing, and appends by itself. */
static void test_writeback(void)
{
    uint64_t node, fh;

    guest_start(&guest, &(struct ovfs_options){.cache = OVFS_CACHE_ALWAYS, .writeback = 1});
    host_write(&guest, "file", "12345", 5);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "file");
    fh = guest_open(&guest, node, O_WRONLY | O_APPEND);
    check_read(node, fh, 0, 10, "12345", 5);
    CHECK(write_at(node, fh, 1, "x", 1) == 1);
    check_host("file", "1x345", 5);
    guest_stop(&guest);
}

/* Everything, on one kind of share. */
static void test_share(enum ovfs_file_handles handles)
{
    guest_start(&guest, &(struct ovfs_options){.cache = OVFS_CACHE_NEVER,
                                               .allow_direct_io = 1,
                                               .file_handles = handles});
    test_truncate();
    test_create();
    test_create_on_existing();
    test_open_again();
    test_open_refuses();
    test_tmpfile();
    test_no_room();
    guest_stop(&guest);
}

int main(void)
{
    const uint32_t direct = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;

    test_share(OVFS_HANDLES_NEVER);
    test_share(OVFS_HANDLES_PREFER);
    test_policy(OVFS_CACHE_NEVER, 0, direct | FOPEN_NOFLUSH, 0);
    test_policy(OVFS_CACHE_METADATA, 1, direct, FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR);
    test_policy(OVFS_CACHE_AUTO, 0, FOPEN_NOFLUSH, 0);
    test_policy(OVFS_CACHE_ALWAYS, 0, FOPEN_KEEP_CACHE | FOPEN_NOFLUSH,
                FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR);
    test_readonly();
    test_writeback();
    if (chdir("/dev/shm") == 0) /* where nothing waits for a device */
        test_share(OVFS_HANDLES_PREFER);
    return 0;
}
