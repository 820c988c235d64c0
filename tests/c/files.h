/* SPDX-License-Identifier: Apache-2.0
 *
 * Files of a guest's share, as the tests of OPEN, READ and WRITE handle them.
 */
#pragma once

#include "guest.h"

enum { BIG = 1 << 20, ODD = 12345 };

static struct guest guest;
static unsigned char pattern[BIG + 1]; /* no two pages alike: files_begin */

static size_t seg = 4096; /* of data: what Linux sends */

static inline struct reply read_at(uint64_t node, uint64_t fh, uint64_t offset, uint32_t size,
                                   size_t misalign)
{
    struct fuse_read_in in = {.fh = fh, .offset = offset, .size = size};

    return guest_call(&guest, &(struct call){.opcode = FUSE_READ,
                                             .nodeid = node,
                                             ARG_OF(in),
                                             .out_len = size,
                                             .seg = seg,
                                             .misalign = misalign});
}

/* Returns the bytes written or -errno. */
static inline int write_call(uint64_t node, const struct fuse_write_in *in, const void *data,
                             size_t len, uint32_t uid, size_t misalign)
{
    struct reply reply = guest_call(&guest, &(struct call){.opcode = FUSE_WRITE,
                                                           .nodeid = node,
                                                           .uid = uid,
                                                           .arg = in,
                                                           .arg_len = sizeof(*in),
                                                           .data = data,
                                                           .data_len = len,
                                                           .out_len = sizeof(struct fuse_write_out),
                                                           .seg = seg,
                                                           .misalign = misalign});
    struct fuse_write_out out;

    if (reply.error)
        return reply.error;
    CHECK(reply.len == sizeof(out));
    memcpy(&out, reply.at, sizeof(out));
    return (int)out.size;
}

static inline int write_at(uint64_t node, uint64_t fh, uint64_t offset, const void *data,
                           size_t len)
{
    struct fuse_write_in in = {.fh = fh, .offset = offset, .size = (uint32_t)len};

    return write_call(node, &in, data, len, 0, 0);
}

static inline int simple(uint32_t opcode, uint64_t node, const void *arg, size_t arg_len)
{
    return guest_call(
               &guest,
               &(struct call){.opcode = opcode, .nodeid = node, .arg = arg, .arg_len = arg_len})
        .error;
}

static inline void release(uint64_t node, uint64_t fh)
{
    struct fuse_release_in in = {.fh = fh};

    CHECK(simple(FUSE_RELEASE, node, &in, sizeof(in)) == 0);
}

static inline struct stat stat_of(const char *name)
{
    struct stat st;

    CHECK(fstatat(guest.root_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0);
    return st;
}

/* What the host finds in the file. */
static inline void check_host(const char *name, const void *data, size_t len)
{
    static char found[BIG + 1];
    int fd = openat(guest.root_fd, name, O_RDONLY | O_CLOEXEC);

    CHECK(fd >= 0);
    CHECK(read(fd, found, sizeof(found)) == (ssize_t)len);
    CHECK(memcmp(found, data, len) == 0);
    close(fd);
}

static inline void check_read(uint64_t node, uint64_t fh, uint64_t offset, uint32_t size,
                              const void *data, size_t len)
{
    struct reply reply = read_at(node, fh, offset, size, 0);

    CHECK(reply.error == 0 && reply.len == len);
    CHECK(memcmp(reply.at, data, len) == 0);
}

/* CREATE; *node and *fh of what it made. Returns the errno. */
static inline int create(const char *name, uint32_t flags, uint32_t mode, uint32_t uid,
                         uint64_t *node, uint64_t *fh)
{
    struct fuse_create_in in = {.flags = flags | O_CREAT, .mode = S_IFREG | mode, .umask = 0};
    struct {
        struct fuse_entry_out entry;
        struct fuse_open_out open;
    } out;
    struct reply reply = guest_call(&guest, &(struct call){.opcode = FUSE_CREATE,
                                                           .nodeid = FUSE_ROOT_ID,
                                                           .uid = uid,
                                                           .gid = uid,
                                                           ARG_OF(in),
                                                           .name = {name},
                                                           .out_len = sizeof(out)});

    if (reply.error)
        return reply.error;
    CHECK(reply.len == sizeof(out));
    memcpy(&out, reply.at, sizeof(out));
    *node = out.entry.nodeid;
    *fh = out.open.fh;
    return 0;
}

static inline void files_begin(void)
{
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (unsigned char)(i + i / 4096);
}
