/* SPDX-License-Identifier: Apache-2.0 */
/* Description: READ, WRITE and the calls on ranges do what the host's calls do. */
#include <linux/falloc.h>
#include <sys/statfs.h>

#include "files.h"

/* ---- READ ---- */

static void drop_cache(const char *name)
{
    int fd = openat(guest.root_fd, name, O_RDONLY | O_CLOEXEC);

    CHECK(fdatasync(fd) == 0);
    CHECK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    close(fd);
}

static void test_read(void)
{
    uint64_t node, fh;

    host_write(&guest, "read", pattern, BIG);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "read");
    fh = guest_open(&guest, node, O_RDONLY);
    check_read(node, fh, 0, BIG, pattern, BIG);
    drop_cache("read");
    check_read(node, fh, 4096, BIG, pattern + 4096, BIG - 4096); /* cold, and short at the end */
    check_read(node, fh, 1, 4096, pattern + 1, 4096);
    check_read(node, fh, BIG - 1, 4096, pattern + BIG - 1, 1);
    check_read(node, fh, BIG, 4096, "", 0);
    check_read(node, fh, UINT64_C(1) << 50, 4096, "", 0);
    check_read(node, fh, 7, 0, "", 0);
    CHECK(read_at(node, fh, INT64_MAX, 4096, 0).error == -EINVAL);
    CHECK(read_at(node, fh + 1, 0, 4096, 0).error == -EBADF);
    CHECK(read_at(FUSE_ROOT_ID, fh, 0, 4096, 0).error == -EBADF);
    CHECK(write_at(node, fh, 0, "x", 1) == -EBADF);
    release(node, fh);
    CHECK(read_at(node, fh, 0, 4096, 0).error == -EBADF);
}

/* Half of the pages cached, the others not: one reply all the same. */
static void test_read_partly_cached(void)
{
    uint64_t node, fh;

    host_write(&guest, "partly", pattern, BIG);
    drop_cache("partly");
    node = guest_lookup(&guest, FUSE_ROOT_ID, "partly");
    fh = guest_open(&guest, node, O_RDONLY);
    check_read(node, fh, 0, 4096, pattern, 4096);
    check_read(node, fh, 0, BIG, pattern, BIG);
    release(node, fh);
}

/* More pieces than one call of the host's takes. */
static void test_many_pieces(void)
{
    uint64_t node, fh;

    CHECK(create("pieces", O_RDWR, 0644, 0, &node, &fh) == 0);
    seg = BIG / 1040;
    CHECK(write_at(node, fh, 0, pattern, BIG) == BIG);
    check_host("pieces", pattern, BIG);
    check_read(node, fh, 0, BIG, pattern, BIG);
    drop_cache("pieces");
    check_read(node, fh, 0, BIG, pattern, BIG);
    seg = 4096;
    release(node, fh);
}

/* ---- WRITE ---- */

static void test_write(void)
{
    struct fuse_write_in lie = {.size = 100};
    uint64_t node, fh;

    CHECK(create("write", O_RDWR | O_EXCL, 0644, 0, &node, &fh) == 0);
    CHECK(write_at(node, fh, 0, pattern, BIG) == BIG);
    check_host("write", pattern, BIG);
    CHECK(write_at(node, fh, 5, "hello", 5) == 5);
    check_read(node, fh, 4, 7, "\4hello\n", 7);
    CHECK(write_at(node, fh, 0, "", 0) == 0);
    CHECK(write_at(node, fh, INT64_MAX, "xy", 2) == -EFBIG);
    CHECK(write_at(node, fh, UINT64_C(5) << 30, "far", 3) == 3);
    CHECK(stat_of("write").st_size == (INT64_C(5) << 30) + 3);
    check_read(node, fh, UINT64_C(5) << 30, 10, "far", 3);
    lie.fh = fh;
    CHECK(write_call(node, &lie, "x", 1, 0, 0) == -EINVAL); /* a size that the data belies */
    release(node, fh);
}

static void test_append(void)
{
    uint64_t node, fh;

    host_write(&guest, "append", "12345", 5);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "append");
    fh = guest_open(&guest, node, O_WRONLY | O_APPEND);
    CHECK(write_at(node, fh, 0, "678", 3) == 3);
    check_host("append", "12345678", 8);
    release(node, fh);
}

/* Set-id bits go when the writer may not keep them, and stay when it may. */
static void test_suidgid(void)
{
    struct fuse_write_in in = {.size = 1, .write_flags = FUSE_WRITE_KILL_SUIDGID};
    struct fuse_fallocate_in grow = {.length = 4096};
    uint64_t node, fh;

    if (geteuid() != 0)
        return; /* without CAP_FSETID they always go, the host's kernel sees to that */
    host_write(&guest, "setid", "12345", 5);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "setid");
    in.fh = grow.fh = fh = guest_open(&guest, node, O_RDWR);
    CHECK(fchmodat(guest.root_fd, "setid", 06755, 0) == 0);
    CHECK(write_at(node, fh, 0, "x", 1) == 1);
    CHECK((stat_of("setid").st_mode & 07777) == 06755);
    CHECK(write_call(node, &in, "x", 1, 1000, 0) == 1);
    CHECK((stat_of("setid").st_mode & 07777) == 0755);
    CHECK(fchmodat(guest.root_fd, "setid", 06755, 0) == 0);
    CHECK(guest_call(&guest, &(struct call){.opcode = FUSE_FALLOCATE, .nodeid = node, ARG_OF(grow)})
              .error == 0);
    CHECK((stat_of("setid").st_mode & 07777) == 06755);
    grow.length = 8192;
    CHECK(guest_call(
              &guest,
              &(struct call){.opcode = FUSE_FALLOCATE, .nodeid = node, .uid = 1000, ARG_OF(grow)})
              .error == 0);
    CHECK((stat_of("setid").st_mode & 07777) == 0755);
    release(node, fh);
}

/* ---- O_DIRECT and O_SYNC ---- */

static void test_direct(void)
{
    struct fuse_write_in in = {.size = 65536};
    uint64_t node, fh;
    struct reply reply;

    host_write(&guest, "direct", pattern, BIG);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "direct");
    in.fh = fh = guest_open(&guest, node, O_RDWR | O_DIRECT);
    check_read(node, fh, 0, BIG, pattern, BIG);
    CHECK(write_call(node, &in, pattern + 4096, 65536, 0, 0) == 65536);
    check_read(node, fh, 0, 65536, pattern + 4096, 65536);
    /* What O_DIRECT refuses on the host: addresses, offsets and lengths of any kind. */
    reply = read_at(node, fh, 65536, 65536, 3);
    CHECK(reply.error == 0 && reply.len == 65536 && !memcmp(reply.at, pattern + 65536, 65536));
    check_read(node, fh, 65537, 777, pattern + 65537, 777);
    CHECK(write_call(node, &in, pattern, 65536, 0, 3) == 65536);
    check_read(node, fh, 0, 65536, pattern, 65536);
    CHECK(write_at(node, fh, 100, "odd", 3) == 3);
    check_read(node, fh, 99, 5, "codd\x67", 5);
    release(node, fh);
}

static void test_sync_writes(void)
{
    struct fuse_fsync_in sync = {.fsync_flags = FUSE_FSYNC_FDATASYNC};
    uint64_t node, fh;

    CHECK(create("sync", O_WRONLY | O_SYNC, 0600, 0, &node, &fh) == 0);
    CHECK(write_at(node, fh, 0, pattern, ODD) == ODD);
    check_host("sync", pattern, ODD);
    sync.fh = fh;
    CHECK(simple(FUSE_FSYNC, node, &sync, sizeof(sync)) == 0);
    sync.fsync_flags = 0;
    CHECK(simple(FUSE_FSYNC, node, &sync, sizeof(sync)) == 0);
    release(node, fh);
}

/* ---- ranges ---- */

static int punch(uint64_t node, uint64_t fh, uint32_t mode, uint64_t offset, uint64_t length)
{
    struct fuse_fallocate_in in = {.fh = fh, .offset = offset, .length = length, .mode = mode};

    return simple(FUSE_FALLOCATE, node, &in, sizeof(in));
}

static int64_t seek(uint64_t node, uint64_t fh, uint64_t offset, uint32_t whence)
{
    struct fuse_lseek_in in = {.fh = fh, .offset = offset, .whence = whence};
    struct fuse_lseek_out out;
    struct reply reply = guest_call(
        &guest, &(struct call){.opcode = FUSE_LSEEK, .nodeid = node, ARG_OF(in), .out_len = 8});

    if (reply.error)
        return reply.error;
    memcpy(&out, reply.at, sizeof(out));
    return (int64_t)out.offset;
}

static void test_ranges(void)
{
    uint64_t node, fh;

    host_write(&guest, "range", pattern, 65536);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "range");
    fh = guest_open(&guest, node, O_RDWR);
    CHECK(punch(node, fh, 0, 0, 131072) == 0);
    CHECK(stat_of("range").st_size == 131072);
    CHECK(punch(node, fh, FALLOC_FL_KEEP_SIZE, 0, 262144) == 0);
    CHECK(stat_of("range").st_size == 131072);
    CHECK(punch(node, fh, 0x8000, 0, 1) == -EOPNOTSUPP);
    CHECK(punch(node, fh, FALLOC_FL_NO_HIDE_STALE, 0, 1) == -EOPNOTSUPP);
    CHECK(punch(node, fh, 0, UINT64_MAX, 1) == -EINVAL);
    CHECK(punch(node, fh, 0, 0, 0) == -EINVAL);
    CHECK(punch(node, fh, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192) == 0);
    check_read(node, fh, 4096, 4, "\0\0\0\0", 4);
    CHECK(seek(node, fh, 0, SEEK_HOLE) == 4096);
    CHECK(seek(node, fh, 4096, SEEK_DATA) == 12288);
    CHECK(seek(node, fh, 0, SEEK_END) == 131072);
    CHECK(seek(node, fh, 1 << 20, SEEK_DATA) == -ENXIO);
    CHECK(seek(node, fh, 0, 99) == -EINVAL);
    release(node, fh);
}

static void test_copy(void)
{
    struct fuse_copy_file_range_in in = {.off_in = 10, .off_out = 3, .len = UINT64_MAX};
    uint64_t from, to;
    struct fuse_write_out out;
    struct reply reply;

    host_write(&guest, "from", pattern, ODD);
    host_write(&guest, "to", "abcdef", 6);
    from = guest_lookup(&guest, FUSE_ROOT_ID, "from");
    to = guest_lookup(&guest, FUSE_ROOT_ID, "to");
    in.fh_in = guest_open(&guest, from, O_RDONLY);
    in.fh_out = guest_open(&guest, to, O_WRONLY);
    in.nodeid_out = to;
    reply = guest_call(&guest, &(struct call){.opcode = FUSE_COPY_FILE_RANGE,
                                              .nodeid = from,
                                              ARG_OF(in),
                                              .out_len = sizeof(out)});
    CHECK(reply.error == 0 && reply.len == sizeof(out));
    memcpy(&out, reply.at, sizeof(out));
    CHECK(out.size == ODD - 10);
    CHECK(stat_of("to").st_size == 3 + ODD - 10);
    in.flags = 1;
    CHECK(simple(FUSE_COPY_FILE_RANGE, from, &in, sizeof(in)) == -EINVAL);
    in.flags = 0;
    in.fh_out++;
    CHECK(guest_call(&guest, &(struct call){.opcode = FUSE_COPY_FILE_RANGE,
                                            .nodeid = from,
                                            ARG_OF(in),
                                            .out_len = sizeof(out)})
              .error == -EBADF);
    in.fh_out--;
    release(from, in.fh_in);
    release(to, in.fh_out);
}

static void test_whole_file_system(void)
{
    struct fuse_syncfs_in sync = {0};
    struct fuse_statfs_out out;
    struct statfs st;
    struct reply reply = guest_call(
        &guest,
        &(struct call){.opcode = FUSE_STATFS, .nodeid = FUSE_ROOT_ID, .out_len = sizeof(out)});

    CHECK(reply.error == 0 && reply.len == sizeof(out));
    memcpy(&out, reply.at, sizeof(out));
    CHECK(fstatfs(guest.root_fd, &st) == 0);
    CHECK(out.st.blocks == st.f_blocks && out.st.bsize == (uint32_t)st.f_bsize);
    CHECK(out.st.namelen == 255);
    CHECK(simple(FUSE_SYNCFS, FUSE_ROOT_ID, &sync, sizeof(sync)) == 0);
    CHECK(ovfs_plane_sync(guest.plane) == 0);
}

/* Everything, on one kind of share. */
static void test_share(enum ovfs_file_handles handles)
{
    guest_start(&guest, &(struct ovfs_options){.cache = OVFS_CACHE_NEVER,
                                               .allow_direct_io = 1,
                                               .file_handles = handles});
    test_read();
    test_read_partly_cached();
    test_many_pieces();
    test_write();
    test_append();
    test_suidgid();
    test_direct();
    test_sync_writes();
    test_ranges();
    test_copy();
    test_whole_file_system();
    guest_stop(&guest);
}

int main(void)
{
    files_begin();
    test_share(OVFS_HANDLES_NEVER);
    test_share(OVFS_HANDLES_PREFER);
    if (chdir("/dev/shm") == 0) /* where nothing waits for a device */
        test_share(OVFS_HANDLES_PREFER);
    return 0;
}
