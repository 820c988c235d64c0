/* SPDX-License-Identifier: Apache-2.0
 *
 * The FUSE wire, protocol 7.41, as Linux 6.12 speaks it.
 *
 * Names and numbers are the kernel's (include/uapi/linux/fuse.h), so that whoever knows the
 * protocol can read the code. All integers are in the guest's byte order, which is ours: the
 * device speaks little-endian and so do the hosts it runs on. Sizes and the offsets that matter
 * are asserted in wire_fuse.c; a field is never reordered or resized.
 *
 * Structs of opcodes that no virtio-fs device serves (BMAP, POLL, DAX mappings) are left out.
 * A client older than 7.41 sends shorter structs (FUSE_COMPAT_*): fuse_req_parse zeroes the rest.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "wire_fuse_flags.h"

#define FUSE_KERNEL_VERSION       7
#define FUSE_KERNEL_MINOR_VERSION 41
#define FUSE_ROOT_ID              1
#define FUSE_MIN_READ_BUFFER      8192

/* ---- headers ---- */

struct fuse_in_header {
    uint32_t len;
    uint32_t opcode;
    uint64_t unique;
    uint64_t nodeid;
    uint32_t uid;
    uint32_t gid;
    uint32_t pid;
    uint16_t total_extlen; /* extensions at the end, in units of 8 bytes */
    uint16_t padding;
};

struct fuse_out_header {
    uint32_t len;
    int32_t error; /* 0 or -errno */
    uint64_t unique;
};

/* ---- attributes and entries ---- */

struct fuse_attr {
    uint64_t ino;
    uint64_t size;
    uint64_t blocks;
    uint64_t atime;
    uint64_t mtime;
    uint64_t ctime;
    uint32_t atimensec;
    uint32_t mtimensec;
    uint32_t ctimensec;
    uint32_t mode;
    uint32_t nlink;
    uint32_t uid;
    uint32_t gid;
    uint32_t rdev;
    uint32_t blksize;
    uint32_t flags; /* FUSE_ATTR_* */
};

struct fuse_sx_time {
    int64_t tv_sec;
    uint32_t tv_nsec;
    int32_t __reserved;
};

struct fuse_statx {
    uint32_t mask;
    uint32_t blksize;
    uint64_t attributes;
    uint32_t nlink;
    uint32_t uid;
    uint32_t gid;
    uint16_t mode;
    uint16_t __spare0[1];
    uint64_t ino;
    uint64_t size;
    uint64_t blocks;
    uint64_t attributes_mask;
    struct fuse_sx_time atime;
    struct fuse_sx_time btime;
    struct fuse_sx_time ctime;
    struct fuse_sx_time mtime;
    uint32_t rdev_major;
    uint32_t rdev_minor;
    uint32_t dev_major;
    uint32_t dev_minor;
    uint64_t __spare2[14];
};

struct fuse_entry_out {
    uint64_t nodeid;     /* 0: no such name, which the client may remember for entry_valid */
    uint64_t generation; /* (nodeid, generation) never names two objects */
    uint64_t entry_valid;
    uint64_t attr_valid;
    uint32_t entry_valid_nsec;
    uint32_t attr_valid_nsec;
    struct fuse_attr attr;
};

struct fuse_forget_in {
    uint64_t nlookup;
};

struct fuse_forget_one {
    uint64_t nodeid;
    uint64_t nlookup;
};

struct fuse_batch_forget_in { /* then count fuse_forget_one */
    uint32_t count;
    uint32_t dummy;
};

struct fuse_getattr_in {
    uint32_t getattr_flags;
    uint32_t dummy;
    uint64_t fh;
};

struct fuse_attr_out {
    uint64_t attr_valid;
    uint32_t attr_valid_nsec;
    uint32_t dummy;
    struct fuse_attr attr;
};

struct fuse_statx_in {
    uint32_t getattr_flags;
    uint32_t reserved;
    uint64_t fh;
    uint32_t sx_flags;
    uint32_t sx_mask;
};

struct fuse_statx_out {
    uint64_t attr_valid;
    uint32_t attr_valid_nsec;
    uint32_t flags;
    uint64_t spare[2];
    struct fuse_statx stat;
};

struct fuse_setattr_in {
    uint32_t valid; /* FATTR_* */
    uint32_t padding;
    uint64_t fh;
    uint64_t size;
    uint64_t lock_owner;
    uint64_t atime;
    uint64_t mtime;
    uint64_t ctime;
    uint32_t atimensec;
    uint32_t mtimensec;
    uint32_t ctimensec;
    uint32_t mode;
    uint32_t unused4;
    uint32_t uid;
    uint32_t gid;
    uint32_t unused5;
};

struct fuse_access_in {
    uint32_t mask;
    uint32_t padding;
};

/* ---- names ---- */

struct fuse_mknod_in { /* then the name */
    uint32_t mode;
    uint32_t rdev;
    uint32_t umask;
    uint32_t padding;
};

struct fuse_mkdir_in { /* then the name */
    uint32_t mode;
    uint32_t umask;
};

struct fuse_rename_in { /* then the old name and the new one */
    uint64_t newdir;
};

struct fuse_rename2_in { /* then the old name and the new one */
    uint64_t newdir;
    uint32_t flags; /* RENAME_* */
    uint32_t padding;
};

struct fuse_link_in { /* then the new name */
    uint64_t oldnodeid;
};

/* Extensions behind the names of CREATE, MKDIR, MKNOD, SYMLINK and TMPFILE, each padded to 8. */

struct fuse_ext_header {
    uint32_t size; /* this header included */
    uint32_t type; /* enum fuse_ext_type */
};

struct fuse_secctx_header { /* then nr_secctx times: fuse_secctx, name, context */
    uint32_t size;
    uint32_t nr_secctx;
};

struct fuse_secctx {
    uint32_t size;
    uint32_t padding;
};

struct fuse_supp_groups { /* after a fuse_ext_header */
    uint32_t nr_groups;
    uint32_t groups[];
};

/* ---- open files ---- */

struct fuse_open_in {
    uint32_t flags;      /* open(2)'s, without O_CREAT, O_EXCL and O_NOCTTY */
    uint32_t open_flags; /* FUSE_OPEN_* */
};

struct fuse_create_in { /* then the name */
    uint32_t flags;
    uint32_t mode;
    uint32_t umask;
    uint32_t open_flags;
};

struct fuse_open_out {
    uint64_t fh;
    uint32_t open_flags; /* FOPEN_* */
    int32_t backing_id;
};

struct fuse_release_in {
    uint64_t fh;
    uint32_t flags;
    uint32_t release_flags;
    uint64_t lock_owner;
};

struct fuse_flush_in {
    uint64_t fh;
    uint32_t unused;
    uint32_t padding;
    uint64_t lock_owner;
};

struct fuse_read_in {
    uint64_t fh;
    uint64_t offset;
    uint32_t size;
    uint32_t read_flags;
    uint64_t lock_owner;
    uint32_t flags;
    uint32_t padding;
};

struct fuse_write_in { /* then the data */
    uint64_t fh;
    uint64_t offset;
    uint32_t size;
    uint32_t write_flags;
    uint64_t lock_owner;
    uint32_t flags;
    uint32_t padding;
};

struct fuse_write_out {
    uint32_t size;
    uint32_t padding;
};

struct fuse_fsync_in {
    uint64_t fh;
    uint32_t fsync_flags;
    uint32_t padding;
};

struct fuse_fallocate_in {
    uint64_t fh;
    uint64_t offset;
    uint64_t length;
    uint32_t mode;
    uint32_t padding;
};

struct fuse_lseek_in {
    uint64_t fh;
    uint64_t offset;
    uint32_t whence;
    uint32_t padding;
};

struct fuse_lseek_out {
    uint64_t offset;
};

struct fuse_copy_file_range_in { /* replied to with fuse_write_out */
    uint64_t fh_in;
    uint64_t off_in;
    uint64_t nodeid_out;
    uint64_t fh_out;
    uint64_t off_out;
    uint64_t len;
    uint64_t flags;
};

/* Records of READDIR; each padded to 8 bytes, `off` is where the next one starts. */
struct fuse_dirent {
    uint64_t ino;
    uint64_t off;
    uint32_t namelen;
    uint32_t type; /* DT_* */
    char name[];
};

/* Records of READDIRPLUS. The kernel has struct fuse_dirent in the second half; spelled out here,
 * since a struct that ends in a flexible array may not lie within another one. */
struct fuse_direntplus {
    struct fuse_entry_out entry_out;
    struct {
        uint64_t ino;
        uint64_t off;
        uint32_t namelen;
        uint32_t type;
        char name[];
    } dirent;
};

#define FUSE_REC_ALIGN(x)    (((x) + sizeof(uint64_t) - 1) & ~(sizeof(uint64_t) - 1))
#define FUSE_DIRENT_ALIGN(x) FUSE_REC_ALIGN(x)
#define FUSE_NAME_OFFSET     offsetof(struct fuse_dirent, name)
#define FUSE_DIRENT_SIZE(d)  FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + (d)->namelen)

#define FUSE_NAME_OFFSET_DIRENTPLUS (sizeof(struct fuse_entry_out) + FUSE_NAME_OFFSET)
#define FUSE_DIRENTPLUS_SIZE(d)     FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + (d)->dirent.namelen)

/* ---- extended attributes ---- */

struct fuse_setxattr_in { /* then the name and the value; 8 bytes without FUSE_SETXATTR_EXT */
    uint32_t size;
    uint32_t flags; /* XATTR_CREATE, XATTR_REPLACE */
    uint32_t setxattr_flags;
    uint32_t padding;
};

struct fuse_getxattr_in { /* GETXATTR: then the name. LISTXATTR: alone */
    uint32_t size;        /* 0: only the size is asked for, answered with fuse_getxattr_out */
    uint32_t padding;
};

struct fuse_getxattr_out {
    uint32_t size;
    uint32_t padding;
};

/* ---- locks ---- */

struct fuse_file_lock {
    uint64_t start;
    uint64_t end; /* the last byte; INT64_MAX: to the end of the file */
    uint32_t type;
    uint32_t pid;
};

struct fuse_lk_in {
    uint64_t fh;
    uint64_t owner;
    struct fuse_file_lock lk;
    uint32_t lk_flags;
    uint32_t padding;
};

struct fuse_lk_out {
    struct fuse_file_lock lk;
};

/* ---- ioctl ---- */

struct fuse_ioctl_in { /* then in_size bytes */
    uint64_t fh;
    uint32_t flags;
    uint32_t cmd;
    uint64_t arg;
    uint32_t in_size;
    uint32_t out_size;
};

struct fuse_ioctl_iovec {
    uint64_t base;
    uint64_t len;
};

struct fuse_ioctl_out { /* then up to out_size bytes */
    int32_t result;
    uint32_t flags;
    uint32_t in_iovs;
    uint32_t out_iovs;
};

/* ---- the file system ---- */

struct fuse_kstatfs {
    uint64_t blocks;
    uint64_t bfree;
    uint64_t bavail;
    uint64_t files;
    uint64_t ffree;
    uint32_t bsize;
    uint32_t namelen;
    uint32_t frsize;
    uint32_t padding;
    uint32_t spare[6];
};

struct fuse_statfs_out {
    struct fuse_kstatfs st;
};

struct fuse_syncfs_in {
    uint64_t padding;
};

/* ---- the session ---- */

struct fuse_init_in {
    uint32_t major;
    uint32_t minor;
    uint32_t max_readahead;
    uint32_t flags;
    uint32_t flags2; /* with FUSE_INIT_EXT in flags; the struct ends before it otherwise */
    uint32_t unused[11];
};

struct fuse_init_out {
    uint32_t major;
    uint32_t minor;
    uint32_t max_readahead;
    uint32_t flags;
    uint16_t max_background;
    uint16_t congestion_threshold;
    uint32_t max_write;
    uint32_t time_gran; /* nanoseconds */
    uint16_t max_pages;
    uint16_t map_alignment;
    uint32_t flags2;
    uint32_t max_stack_depth;
    uint32_t unused[6];
};

struct fuse_interrupt_in {
    uint64_t unique;
};

/* What shorter forms of these structs measure on older minors: entry_out, attr_out and statfs_out
 * before 7.9 and 7.4, mknod_in before 7.12, write_in before 7.9, setxattr_in without
 * FUSE_SETXATTR_EXT, init_in before 7.36, init_out before 7.5 and before 7.23. */
#define FUSE_COMPAT_ENTRY_OUT_SIZE   120
#define FUSE_COMPAT_ATTR_OUT_SIZE    96
#define FUSE_COMPAT_MKNOD_IN_SIZE    8
#define FUSE_COMPAT_WRITE_IN_SIZE    24
#define FUSE_COMPAT_STATFS_SIZE      48
#define FUSE_COMPAT_SETXATTR_IN_SIZE 8
#define FUSE_COMPAT_INIT_IN_SIZE     16
#define FUSE_COMPAT_INIT_OUT_SIZE    8
#define FUSE_COMPAT_22_INIT_OUT_SIZE 24
