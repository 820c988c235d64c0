/* SPDX-License-Identifier: Apache-2.0
 *
 * What local.c needs of lookup.c beyond local.h.
 */
#pragma once

#include "local.h"

/* The node of what fd refers to, entered, pinned, one lookup added, and its attributes. owned: fd
 * is an O_PATH descriptor, taken over on failure too. 0 or -errno. */
int lookup_enter(struct local *local, int fd, bool owned, struct statx *stx, struct inode **out);

/* Entry of a name that a listing has just shown, with this inode number; it is no directory. What
 * the listing says counts only where nothing is mounted on the name, hence: mount_look was called
 * since the guest asked for the listing. Otherwise as lookup_name. */
int lookup_listed(struct local *local, struct inode *dir, const char *name, uint64_t ino,
                  struct fuse_entry_out *out);
