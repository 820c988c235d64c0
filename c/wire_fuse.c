/* SPDX-License-Identifier: Apache-2.0
 *
 * The wire does not move: sizes and offsets of the FUSE structs, checked at compile time.
 */
#include "wire_fuse.h"

#define FUSE_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type)
#define FUSE_AT(type, field, offset)                                                               \
    _Static_assert(offsetof(struct type, field) == (offset), #type "." #field)

FUSE_SIZE(fuse_in_header, 40);
FUSE_AT(fuse_in_header, nodeid, 16);
FUSE_AT(fuse_in_header, total_extlen, 36);
FUSE_SIZE(fuse_out_header, 16);
FUSE_AT(fuse_out_header, unique, 8);
FUSE_SIZE(fuse_attr, 88);
FUSE_AT(fuse_attr, mode, 60);
FUSE_AT(fuse_attr, flags, 84);
FUSE_SIZE(fuse_sx_time, 16);
FUSE_SIZE(fuse_statx, 256);
FUSE_AT(fuse_statx, ino, 32);
FUSE_AT(fuse_statx, atime, 64);
FUSE_AT(fuse_statx, rdev_major, 128);
FUSE_SIZE(fuse_entry_out, 128);
FUSE_AT(fuse_entry_out, attr, 40);
FUSE_SIZE(fuse_forget_in, 8);
FUSE_SIZE(fuse_forget_one, 16);
FUSE_SIZE(fuse_batch_forget_in, 8);
FUSE_SIZE(fuse_getattr_in, 16);
FUSE_SIZE(fuse_attr_out, 104);
FUSE_AT(fuse_attr_out, attr, 16);
FUSE_SIZE(fuse_statx_in, 24);
FUSE_SIZE(fuse_statx_out, 288);
FUSE_AT(fuse_statx_out, stat, 32);
FUSE_SIZE(fuse_setattr_in, 88);
FUSE_AT(fuse_setattr_in, atime, 32);
FUSE_AT(fuse_setattr_in, mode, 68);
FUSE_AT(fuse_setattr_in, uid, 76);
FUSE_SIZE(fuse_access_in, 8);
FUSE_SIZE(fuse_mknod_in, 16);
FUSE_SIZE(fuse_mkdir_in, 8);
FUSE_SIZE(fuse_rename_in, 8);
FUSE_SIZE(fuse_rename2_in, 16);
FUSE_SIZE(fuse_link_in, 8);
FUSE_SIZE(fuse_ext_header, 8);
FUSE_SIZE(fuse_secctx_header, 8);
FUSE_SIZE(fuse_secctx, 8);
FUSE_SIZE(fuse_supp_groups, 4);
FUSE_SIZE(fuse_open_in, 8);
FUSE_SIZE(fuse_create_in, 16);
FUSE_SIZE(fuse_open_out, 16);
FUSE_SIZE(fuse_release_in, 24);
FUSE_AT(fuse_release_in, lock_owner, 16);
FUSE_SIZE(fuse_flush_in, 24);
FUSE_SIZE(fuse_read_in, 40);
FUSE_AT(fuse_read_in, lock_owner, 24);
FUSE_SIZE(fuse_write_in, 40);
FUSE_AT(fuse_write_in, lock_owner, 24);
FUSE_SIZE(fuse_write_out, 8);
FUSE_SIZE(fuse_fsync_in, 16);
FUSE_SIZE(fuse_fallocate_in, 32);
FUSE_SIZE(fuse_lseek_in, 24);
FUSE_SIZE(fuse_lseek_out, 8);
FUSE_SIZE(fuse_copy_file_range_in, 56);
FUSE_SIZE(fuse_dirent, 24);
FUSE_SIZE(fuse_direntplus, 152);
FUSE_AT(fuse_direntplus, dirent, 128);
FUSE_AT(fuse_direntplus, dirent.name, 152);
FUSE_SIZE(fuse_setxattr_in, 16);
FUSE_SIZE(fuse_getxattr_in, 8);
FUSE_SIZE(fuse_getxattr_out, 8);
FUSE_SIZE(fuse_file_lock, 24);
FUSE_SIZE(fuse_lk_in, 48);
FUSE_SIZE(fuse_lk_out, 24);
FUSE_SIZE(fuse_ioctl_in, 32);
FUSE_SIZE(fuse_ioctl_iovec, 16);
FUSE_SIZE(fuse_ioctl_out, 16);
FUSE_SIZE(fuse_kstatfs, 80);
FUSE_AT(fuse_kstatfs, bsize, 40);
FUSE_SIZE(fuse_statfs_out, 80);
FUSE_SIZE(fuse_syncfs_in, 8);
FUSE_SIZE(fuse_init_in, 64);
FUSE_AT(fuse_init_in, flags2, 16);
FUSE_SIZE(fuse_init_out, 64);
FUSE_AT(fuse_init_out, max_pages, 28);
FUSE_AT(fuse_init_out, flags2, 32);
FUSE_SIZE(fuse_interrupt_in, 8);
