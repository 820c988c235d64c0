/* SPDX-License-Identifier: Apache-2.0 */
/* Description: extended attributes: size probes, limits, flags, access control lists. */
#include <sys/xattr.h>

#include "guest.h"

enum { VALUE_MAX = 65536 };

static struct guest guest;
static uint64_t node;
static size_t setxattr_in =
    sizeof(struct fuse_setxattr_in); /* what FUSE_SETXATTR_EXT makes of it */

static struct reply get_room(const char *name, uint32_t size, size_t room)
{
    struct fuse_getxattr_in in = {.size = size};

    return guest_call(&guest, &(struct call){.opcode = name ? FUSE_GETXATTR : FUSE_LISTXATTR,
                                             .nodeid = node,
                                             ARG_OF(in),
                                             .name = {name},
                                             .out_len = room});
}

static struct reply get(const char *name, uint32_t size)
{
    return get_room(name, size, size ? size : sizeof(struct fuse_getxattr_out));
}

/* What a probe with size 0 says. */
static uint32_t size_of(const char *name)
{
    struct reply reply = get(name, 0);
    struct fuse_getxattr_out out;

    CHECK(reply.error == 0 && reply.len == sizeof(out));
    memcpy(&out, reply.at, sizeof(out));
    return out.size;
}

static int set_ext(const char *name, const void *value, size_t len, uint32_t flags, uint32_t ext,
                   uint32_t size)
{
    struct fuse_setxattr_in in = {.size = size, .flags = flags, .setxattr_flags = ext};

    return guest_call(&guest, &(struct call){.opcode = FUSE_SETXATTR,
                                             .nodeid = node,
                                             .arg = &in,
                                             .arg_len = setxattr_in,
                                             .name = {name},
                                             .data = value,
                                             .data_len = len})
        .error;
}

static int set(const char *name, const void *value, size_t len, uint32_t flags)
{
    return set_ext(name, value, len, flags, 0, (uint32_t)len);
}

static int drop(const char *name)
{
    return guest_call(&guest,
                      &(struct call){.opcode = FUSE_REMOVEXATTR, .nodeid = node, .name = {name}})
        .error;
}

static void test_round_trip(void)
{
    struct reply reply;
    char host[16];
    int fd = openat(guest.root_fd, "file", O_RDONLY | O_CLOEXEC);

    CHECK(set("user.a", "12345", 5, 0) == 0);
    CHECK(fgetxattr(fd, "user.a", host, sizeof(host)) == 5 && memcmp(host, "12345", 5) == 0);
    CHECK(size_of("user.a") == 5);
    reply = get("user.a", 5);
    CHECK(reply.error == 0 && reply.len == 5 && memcmp(reply.at, "12345", 5) == 0);
    CHECK(get("user.a", 4).error == -ERANGE);
    CHECK(get_room("user.a", 64, 4).error == -ERANGE); /* a size that the room belies */
    CHECK(get("user.b", 5).error == -ENODATA);
    CHECK(set("user.a", "x", 1, XATTR_CREATE) == -EEXIST);
    CHECK(set("user.b", "x", 1, XATTR_REPLACE) == -ENODATA);
    CHECK(set("user.b", "", 0, 0) == 0);
    CHECK(size_of("user.b") == 0);
    CHECK(get("user.b", 10).len == 0);
    CHECK(size_of(NULL) == sizeof("user.a") + sizeof("user.b"));
    CHECK(get(NULL, 3).error == -ERANGE);
    reply = get(NULL, 100);
    CHECK(reply.error == 0 && reply.len == sizeof("user.a") + sizeof("user.b"));
    CHECK(drop("user.a") == 0 && drop("user.b") == 0);
    CHECK(drop("user.a") == -ENODATA);
    CHECK(size_of(NULL) == 0);
    close(fd);
}

static void test_limits(void)
{
    static char value[VALUE_MAX + 1];

    CHECK(set("user.big", value, VALUE_MAX + 1, 0) == -E2BIG);
    CHECK(set_ext("user.a", "abc", 3, 0, 0, 4) == -EINVAL); /* a size that lies */
    CHECK(set_ext("user.a", "abc", 3, 0, 0, UINT32_MAX) == -E2BIG);
    CHECK(set("user.a", "abc", 3, 0x80) == -EINVAL);
    CHECK(set("nonsense", "abc", 3, 0) == -EOPNOTSUPP);
    CHECK(set("user.a", value, 3000, 0) == 0);
    CHECK(get("user.a", UINT32_MAX >> 12).len == 3000);
    CHECK(drop("user.a") == 0);
}

/* A symlink's attributes are its own, not those of where it leads. */
static void test_symlink(void)
{
    uint64_t file = node;

    CHECK(set("trusted.t", "file", 4, 0) == (geteuid() == 0 ? 0 : -EPERM));
    CHECK(symlinkat("file", guest.root_fd, "link") == 0);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "link");
    CHECK(set("user.a", "x", 1, 0) == -EPERM);
    if (geteuid() == 0) {
        CHECK(get("trusted.t", 16).error == -ENODATA);
        CHECK(set("trusted.t", "link", 4, 0) == 0);
        CHECK(memcmp(get("trusted.t", 16).at, "link", 4) == 0);
    }
    node = file;
    if (geteuid() == 0) {
        CHECK(memcmp(get("trusted.t", 16).at, "file", 4) == 0);
        CHECK(drop("trusted.t") == 0);
    }
}

/* user::rw- user:1000:rw- group::r-- mask::rw- other::r-- */
static const struct {
    uint32_t version;
    struct {
        uint16_t tag, perm;
        uint32_t id;
    } entry[5];
} acl = {2, {{1, 6, ~0u}, {2, 6, 1000}, {4, 4, ~0u}, {16, 6, ~0u}, {32, 4, ~0u}}};

static const char access_list[] = "system.posix_acl_access";

static void test_acl_off(void)
{
    int fd = openat(guest.root_fd, "file", O_RDONLY | O_CLOEXEC);

    CHECK(set(access_list, &acl, sizeof(acl), 0) == -EOPNOTSUPP);
    if (fsetxattr(fd, access_list, &acl, sizeof(acl), 0) == 0) {
        CHECK(get(access_list, 100).error == -EOPNOTSUPP);
        CHECK(drop(access_list) == -EOPNOTSUPP);
        CHECK(size_of(NULL) == 0); /* nor is it listed */
        fremovexattr(fd, access_list);
    }
    close(fd);
}

static uint32_t mode_of_file(void)
{
    struct stat st;

    CHECK(fstatat(guest.root_fd, "file", &st, 0) == 0);
    return st.st_mode & 07777;
}

static void test_acl_on(void)
{
    CHECK(set(access_list, &acl, sizeof(acl), 0) == 0);
    CHECK(size_of(access_list) == sizeof(acl));
    CHECK(size_of(NULL) == sizeof(access_list));
    CHECK(mode_of_file() == 0664);
    CHECK(fchmodat(guest.root_fd, "file", 02775, 0) == 0);
    CHECK(set(access_list, &acl, sizeof(acl), 0) == 0);
    CHECK(mode_of_file() == 02664);
    CHECK(set_ext(access_list, &acl, sizeof(acl), 0, FUSE_SETXATTR_ACL_KILL_SGID, sizeof(acl)) ==
          0);
    CHECK(mode_of_file() == 0664);
    CHECK(drop(access_list) == 0);
}

static void begin(const struct ovfs_options *options)
{
    guest_start(&guest, options);
    host_write(&guest, "file", "x", 1);
    node = guest_lookup(&guest, FUSE_ROOT_ID, "file");
}

int main(void)
{
    begin(&(struct ovfs_options){.xattr = 1});
    if (set("user.probe", "x", 1, 0) == -EOPNOTSUPP) {
        guest_stop(&guest);
        SKIP("the scratch file system has no user attributes");
    }
    CHECK(drop("user.probe") == 0);
    test_round_trip();
    test_limits();
    test_symlink();
    test_acl_off();
    guest_stop(&guest);

    begin(&(struct ovfs_options){.xattr = 1, .posix_acl = 1});
    test_acl_on();
    guest_stop(&guest);

    begin(&(struct ovfs_options){.xattr = 0});
    setxattr_in = FUSE_COMPAT_SETXATTR_IN_SIZE;
    CHECK(set("user.a", "x", 1, 0) == -ENOSYS);
    CHECK(get("user.a", 0).error == -ENOSYS);
    CHECK(get(NULL, 0).error == -ENOSYS);
    CHECK(drop("user.a") == -ENOSYS);
    guest_stop(&guest);

    setxattr_in = sizeof(struct fuse_setxattr_in);
    begin(&(struct ovfs_options){.xattr = 1, .readonly = 1});
    CHECK(set("user.a", "x", 1, 0) == -EROFS && drop("user.a") == -EROFS);
    guest_stop(&guest);
    return 0;
}
