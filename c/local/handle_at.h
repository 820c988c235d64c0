/* SPDX-License-Identifier: Apache-2.0
 *
 * name_to_handle_at with room for any handle. The mount id comes along, so one system call tells
 * both which object a name stands for and on which mount it lies. Neither follows a symlink.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct handle_at {
    union {
        struct file_handle fh;
        unsigned char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    };
    int mnt_id;
};

static inline int handle_at(int fd, const char *name, int flags, struct handle_at *out)
{
    out->fh.handle_bytes = MAX_HANDLE_SZ;
    if (name_to_handle_at(fd, name, &out->fh, &out->mnt_id, flags) < 0)
        return -errno;
    return 0;
}

/* Of what a descriptor refers to; O_PATH is enough. 0 or -errno: see handle_at_unsupported. */
static inline int handle_at_fd(int fd, struct handle_at *out)
{
    return handle_at(fd, "", AT_EMPTY_PATH, out);
}

/* Of an entry of a directory: one component. 0 or -errno. */
static inline int handle_at_name(int dirfd, const char *name, struct handle_at *out)
{
    return handle_at(dirfd, name, 0, out);
}

/* Whether the errno says that there is no handle, rather than no such object. */
static inline bool handle_at_unsupported(int err)
{
    return err == -EOPNOTSUPP || err == -EOVERFLOW;
}

/* The inode number that a handle holds; 0: nobody here knows where. Those of Linux's ext2 to ext4,
 * xfs and tmpfs, which hold the number's generation beside it: of two objects that have one number
 * after another, each has a handle of its own. */
static inline uint64_t handle_at_ino(const struct handle_at *handle, int64_t fs_type)
{
    enum { INO32_GEN = 1, INO64_GEN = 0x81 };
    uint64_t ino64 = 0;
    uint32_t ino32 = 0;

    if (fs_type == TMPFS_MAGIC && handle->fh.handle_bytes == 12) { /* generation, number */
        memcpy(&ino64, handle->fh.f_handle + sizeof(uint32_t), sizeof(ino64));
        return ino64;
    }
    if (fs_type == XFS_SUPER_MAGIC && handle->fh.handle_type == INO64_GEN) {
        memcpy(&ino64, handle->fh.f_handle, sizeof(ino64));
        return ino64;
    }
    if ((fs_type == EXT4_SUPER_MAGIC || fs_type == XFS_SUPER_MAGIC) &&
        handle->fh.handle_type == INO32_GEN)
        memcpy(&ino32, handle->fh.f_handle, sizeof(ino32));
    return ino32;
}
