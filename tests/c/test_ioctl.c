/* SPDX-License-Identifier: Apache-2.0 */
/* Description: the four ioctls on file attributes, who may set them, and no other ioctl. */
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "guest.h"

enum { OWNER = 1000, STRANGER = 1001 };

static struct guest guest;
static uint64_t node, fh;

static struct reply ioctl_call(uint32_t cmd, uint32_t uid, const void *data, size_t in_size,
                               size_t out_size)
{
    struct fuse_ioctl_in in = {
        .fh = fh, .cmd = cmd, .in_size = (uint32_t)in_size, .out_size = (uint32_t)out_size};

    return guest_call(&guest, &(struct call){.opcode = FUSE_IOCTL,
                                             .nodeid = node,
                                             .uid = uid,
                                             ARG_OF(in),
                                             .data = data,
                                             .data_len = in_size,
                                             .out_len = sizeof(struct fuse_ioctl_out) + out_size});
}

static uint32_t get_flags(void)
{
    struct reply reply = ioctl_call(FS_IOC_GETFLAGS, 0, NULL, 0, 4);
    uint32_t flags;

    CHECK(reply.error == 0 && reply.len == sizeof(struct fuse_ioctl_out) + 4);
    memcpy(&flags, reply.at + sizeof(struct fuse_ioctl_out), 4);
    return flags;
}

static int set_flags(uint32_t uid, uint32_t flags)
{
    struct reply reply = ioctl_call(FS_IOC_SETFLAGS, uid, &flags, 4, 0);

    CHECK(reply.error || reply.len == sizeof(struct fuse_ioctl_out));
    return reply.error;
}

static int host_flags(void)
{
    int fd = openat(guest.root_fd, "file", O_RDONLY | O_CLOEXEC), flags = 0;

    CHECK(ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0);
    close(fd);
    return flags;
}

static void test_flags(void)
{
    uint32_t plain = get_flags();
    uint64_t wide = 0;
    struct reply reply;

    CHECK(plain == (uint32_t)host_flags());
    CHECK(set_flags(0, plain | FS_NODUMP_FL) == 0);
    CHECK(host_flags() & FS_NODUMP_FL);
    CHECK(get_flags() & FS_NODUMP_FL);
    reply = ioctl_call(FS_IOC_GETFLAGS, 0, NULL, 0, 8); /* as FS_IOC_GETFLAGS is declared */
    CHECK(reply.error == 0 && reply.len == sizeof(struct fuse_ioctl_out) + 8);
    memcpy(&wide, reply.at + sizeof(struct fuse_ioctl_out), 8);
    CHECK(wide == (plain | FS_NODUMP_FL));
    CHECK(set_flags(0, plain) == 0);
    CHECK(ioctl_call(FS_IOC_GETFLAGS, 0, NULL, 0, 3).error == -EINVAL);
    CHECK(ioctl_call(FS_IOC_SETFLAGS, 0, &plain, 3, 0).error == -EINVAL);
}

/* What the host would let root do is not what any user of the guest may. */
static void test_who(void)
{
    uint32_t plain = get_flags();

    if (geteuid() != 0)
        return;
    CHECK(fchownat(guest.root_fd, "file", OWNER, OWNER, 0) == 0);
    CHECK(set_flags(STRANGER, plain | FS_NODUMP_FL) == -EPERM);
    CHECK(set_flags(OWNER, plain | FS_NODUMP_FL) == 0);
    CHECK(set_flags(OWNER, plain | FS_IMMUTABLE_FL) == -EPERM);
    CHECK(set_flags(OWNER, plain | FS_APPEND_FL) == -EPERM);
    CHECK(set_flags(OWNER, plain | FS_JOURNAL_DATA_FL) == -EPERM);
    CHECK(set_flags(0, plain | FS_IMMUTABLE_FL) == 0);
    CHECK(host_flags() & FS_IMMUTABLE_FL);
    CHECK(set_flags(OWNER, plain) == -EPERM);
    CHECK(set_flags(0, plain) == 0);
    CHECK(host_flags() == (int)plain);
}

static void test_xattr(void)
{
    struct fsxattr attr;
    struct reply reply = ioctl_call(FS_IOC_FSGETXATTR, 0, NULL, 0, sizeof(attr));

    CHECK(reply.error == 0 && reply.len == sizeof(struct fuse_ioctl_out) + sizeof(attr));
    memcpy(&attr, reply.at + sizeof(struct fuse_ioctl_out), sizeof(attr));
    attr.fsx_xflags |= FS_XFLAG_NODUMP;
    CHECK(ioctl_call(FS_IOC_FSSETXATTR, 0, &attr, sizeof(attr), 0).error == 0);
    CHECK(host_flags() & FS_NODUMP_FL);
    attr.fsx_xflags &= ~(uint32_t)FS_XFLAG_NODUMP;
    CHECK(ioctl_call(FS_IOC_FSSETXATTR, 0, &attr, sizeof(attr), 0).error == 0);
    if (geteuid() == 0) {
        CHECK(ioctl_call(FS_IOC_FSSETXATTR, STRANGER, &attr, sizeof(attr), 0).error == -EPERM);
        attr.fsx_xflags |= FS_XFLAG_APPEND;
        CHECK(ioctl_call(FS_IOC_FSSETXATTR, OWNER, &attr, sizeof(attr), 0).error == -EPERM);
    }
    CHECK(ioctl_call(FS_IOC_FSGETXATTR, 0, NULL, 0, 4).error == -EINVAL);
    CHECK(!(host_flags() & FS_APPEND_FL));
}

static void test_others(void)
{
    struct fuse_ioctl_in in = {
        .fh = fh, .cmd = FS_IOC_GETFLAGS, .flags = FUSE_IOCTL_UNRESTRICTED, .out_size = 4};

    CHECK(ioctl_call(FICLONE, 0, NULL, 0, 0).error == -ENOTTY);
    CHECK(ioctl_call(FIFREEZE, 0, NULL, 0, 0).error == -ENOTTY);
    CHECK(ioctl_call(0x5413, 0, NULL, 0, 8).error == -ENOTTY);
    CHECK(
        guest_call(&guest,
                   &(struct call){.opcode = FUSE_IOCTL, .nodeid = node, ARG_OF(in), .out_len = 64})
            .error == -ENOTTY);
}

static void begin(const struct ovfs_options *options)
{
    guest_start(&guest, options);
    host_write(&guest, "file", "x", 1);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "file");
    fh = guest_open(&guest, node, O_RDONLY);
}

int main(void)
{
    uint32_t flags;

    begin(&(struct ovfs_options){0});
    test_others();
    if (ioctl_call(FS_IOC_GETFLAGS, 0, NULL, 0, 4).error == -ENOTTY) {
        guest_stop(&guest);
        SKIP("the scratch file system has no file flags");
    }
    test_flags();
    test_who();
    test_xattr();
    node = FUSE_ROOT_ID; /* directories have them as well */
    fh = guest_open(&guest, node, O_DIRECTORY);
    flags = get_flags();
    CHECK(set_flags(0, flags | FS_NODUMP_FL) == 0);
    CHECK(set_flags(0, flags) == 0);
    guest_stop(&guest);

    begin(&(struct ovfs_options){.readonly = 1});
    flags = get_flags();
    CHECK(set_flags(0, flags) == -EROFS);
    guest_stop(&guest);
    return 0;
}
