/* SPDX-License-Identifier: Apache-2.0
 *
 * The FUSE wire's opcodes and flags; the structs that carry them are in wire_fuse.h.
 */
#pragma once

#include <stdint.h>

enum fuse_opcode {
    FUSE_LOOKUP = 1,
    FUSE_FORGET = 2, /* no reply */
    FUSE_GETATTR = 3,
    FUSE_SETATTR = 4,
    FUSE_READLINK = 5,
    FUSE_SYMLINK = 6,
    FUSE_MKNOD = 8,
    FUSE_MKDIR = 9,
    FUSE_UNLINK = 10,
    FUSE_RMDIR = 11,
    FUSE_RENAME = 12,
    FUSE_LINK = 13,
    FUSE_OPEN = 14,
    FUSE_READ = 15,
    FUSE_WRITE = 16,
    FUSE_STATFS = 17,
    FUSE_RELEASE = 18,
    FUSE_FSYNC = 20,
    FUSE_SETXATTR = 21,
    FUSE_GETXATTR = 22,
    FUSE_LISTXATTR = 23,
    FUSE_REMOVEXATTR = 24,
    FUSE_FLUSH = 25,
    FUSE_INIT = 26,
    FUSE_OPENDIR = 27,
    FUSE_READDIR = 28,
    FUSE_RELEASEDIR = 29,
    FUSE_FSYNCDIR = 30,
    FUSE_GETLK = 31,
    FUSE_SETLK = 32,
    FUSE_SETLKW = 33,
    FUSE_ACCESS = 34,
    FUSE_CREATE = 35,
    FUSE_INTERRUPT = 36,
    FUSE_BMAP = 37,
    FUSE_DESTROY = 38,
    FUSE_IOCTL = 39,
    FUSE_POLL = 40,
    FUSE_NOTIFY_REPLY = 41,
    FUSE_BATCH_FORGET = 42, /* no reply */
    FUSE_FALLOCATE = 43,
    FUSE_READDIRPLUS = 44,
    FUSE_RENAME2 = 45,
    FUSE_LSEEK = 46,
    FUSE_COPY_FILE_RANGE = 47,
    FUSE_SETUPMAPPING = 48,
    FUSE_REMOVEMAPPING = 49,
    FUSE_SYNCFS = 50,
    FUSE_TMPFILE = 51,
    FUSE_STATX = 52,
};

/* ---- flags ---- */

/* INIT, both ways. Bits 32 to 63 travel in flags2. */
#define FUSE_ASYNC_READ           (UINT64_C(1) << 0)
#define FUSE_POSIX_LOCKS          (UINT64_C(1) << 1)
#define FUSE_FILE_OPS             (UINT64_C(1) << 2)
#define FUSE_ATOMIC_O_TRUNC       (UINT64_C(1) << 3)
#define FUSE_EXPORT_SUPPORT       (UINT64_C(1) << 4)
#define FUSE_BIG_WRITES           (UINT64_C(1) << 5)
#define FUSE_DONT_MASK            (UINT64_C(1) << 6)
#define FUSE_SPLICE_WRITE         (UINT64_C(1) << 7)
#define FUSE_SPLICE_MOVE          (UINT64_C(1) << 8)
#define FUSE_SPLICE_READ          (UINT64_C(1) << 9)
#define FUSE_FLOCK_LOCKS          (UINT64_C(1) << 10)
#define FUSE_HAS_IOCTL_DIR        (UINT64_C(1) << 11)
#define FUSE_AUTO_INVAL_DATA      (UINT64_C(1) << 12)
#define FUSE_DO_READDIRPLUS       (UINT64_C(1) << 13)
#define FUSE_READDIRPLUS_AUTO     (UINT64_C(1) << 14)
#define FUSE_ASYNC_DIO            (UINT64_C(1) << 15)
#define FUSE_WRITEBACK_CACHE      (UINT64_C(1) << 16)
#define FUSE_NO_OPEN_SUPPORT      (UINT64_C(1) << 17)
#define FUSE_PARALLEL_DIROPS      (UINT64_C(1) << 18)
#define FUSE_HANDLE_KILLPRIV      (UINT64_C(1) << 19)
#define FUSE_POSIX_ACL            (UINT64_C(1) << 20)
#define FUSE_ABORT_ERROR          (UINT64_C(1) << 21)
#define FUSE_MAX_PAGES            (UINT64_C(1) << 22)
#define FUSE_CACHE_SYMLINKS       (UINT64_C(1) << 23)
#define FUSE_NO_OPENDIR_SUPPORT   (UINT64_C(1) << 24)
#define FUSE_EXPLICIT_INVAL_DATA  (UINT64_C(1) << 25)
#define FUSE_MAP_ALIGNMENT        (UINT64_C(1) << 26)
#define FUSE_SUBMOUNTS            (UINT64_C(1) << 27)
#define FUSE_HANDLE_KILLPRIV_V2   (UINT64_C(1) << 28)
#define FUSE_SETXATTR_EXT         (UINT64_C(1) << 29)
#define FUSE_INIT_EXT             (UINT64_C(1) << 30)
#define FUSE_INIT_RESERVED        (UINT64_C(1) << 31)
#define FUSE_SECURITY_CTX         (UINT64_C(1) << 32)
#define FUSE_HAS_INODE_DAX        (UINT64_C(1) << 33)
#define FUSE_CREATE_SUPP_GROUP    (UINT64_C(1) << 34)
#define FUSE_HAS_EXPIRE_ONLY      (UINT64_C(1) << 35)
#define FUSE_DIRECT_IO_ALLOW_MMAP (UINT64_C(1) << 36)
#define FUSE_PASSTHROUGH          (UINT64_C(1) << 37)
#define FUSE_NO_EXPORT_SUPPORT    (UINT64_C(1) << 38)
#define FUSE_HAS_RESEND           (UINT64_C(1) << 39)
#define FUSE_ALLOW_IDMAP          (UINT64_C(1) << 40)

/* OPEN, CREATE, OPENDIR: what the reply tells the client about the open file. */
#define FOPEN_DIRECT_IO              (1u << 0) /* bypass the guest's page cache */
#define FOPEN_KEEP_CACHE             (1u << 1) /* cached pages stay valid over this open */
#define FOPEN_NONSEEKABLE            (1u << 2)
#define FOPEN_CACHE_DIR              (1u << 3) /* the client may cache this listing */
#define FOPEN_STREAM                 (1u << 4)
#define FOPEN_NOFLUSH                (1u << 5) /* send no FLUSH on close */
#define FOPEN_PARALLEL_DIRECT_WRITES (1u << 6) /* direct writes need no inode lock in the guest */
#define FOPEN_PASSTHROUGH            (1u << 7)

/* OPEN, CREATE: fuse_open_in.open_flags */
#define FUSE_OPEN_KILL_SUIDGID (1u << 0)

#define FATTR_MODE         (1u << 0)
#define FATTR_UID          (1u << 1)
#define FATTR_GID          (1u << 2)
#define FATTR_SIZE         (1u << 3)
#define FATTR_ATIME        (1u << 4)
#define FATTR_MTIME        (1u << 5)
#define FATTR_FH           (1u << 6)
#define FATTR_ATIME_NOW    (1u << 7)
#define FATTR_MTIME_NOW    (1u << 8)
#define FATTR_LOCKOWNER    (1u << 9)
#define FATTR_CTIME        (1u << 10)
#define FATTR_KILL_SUIDGID (1u << 11)

/* GETATTR and STATX: the fh field names an open file. */
#define FUSE_GETATTR_FH (1u << 0)

/* RELEASE */
#define FUSE_RELEASE_FLUSH        (1u << 0)
#define FUSE_RELEASE_FLOCK_UNLOCK (1u << 1)

/* GETLK, SETLK, SETLKW: a flock(2) lock, of the whole file. */
#define FUSE_LK_FLOCK (1u << 0)

/* READ */
#define FUSE_READ_LOCKOWNER (1u << 1)

/* WRITE */
#define FUSE_WRITE_CACHE        (1u << 0) /* page write-back: fh is any open file of the inode */
#define FUSE_WRITE_LOCKOWNER    (1u << 1)
#define FUSE_WRITE_KILL_SUIDGID (1u << 2)

/* FSYNC, FSYNCDIR */
#define FUSE_FSYNC_FDATASYNC (1u << 0)

/* IOCTL */
#define FUSE_IOCTL_COMPAT       (1u << 0)
#define FUSE_IOCTL_UNRESTRICTED (1u << 1)
#define FUSE_IOCTL_RETRY        (1u << 2)
#define FUSE_IOCTL_32BIT        (1u << 3)
#define FUSE_IOCTL_DIR          (1u << 4)
#define FUSE_IOCTL_COMPAT_X32   (1u << 5)
#define FUSE_IOCTL_MAX_IOV      256

/* POLL */
#define FUSE_POLL_SCHEDULE_NOTIFY (1u << 0)

/* SETXATTR: fuse_setxattr_in.setxattr_flags */
#define FUSE_SETXATTR_ACL_KILL_SGID (1u << 0)

/* fuse_attr.flags */
#define FUSE_ATTR_SUBMOUNT (1u << 0) /* root of another file system: the client mounts it apart */
#define FUSE_ATTR_DAX      (1u << 1)

/* fuse_ext_header.type; up to FUSE_MAX_NR_SECCTX the field is a count of security contexts. */
enum fuse_ext_type {
    FUSE_MAX_NR_SECCTX = 31,
    FUSE_EXT_GROUPS = 32,
};
