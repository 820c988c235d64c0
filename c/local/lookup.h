/* SPDX-License-Identifier: Apache-2.0
 *
 * What local.c needs of lookup.c beyond local.h.
 */
#pragma once

#include "local.h"

/* The node of what fd refers to, entered, pinned, one lookup added, and its attributes. owned: fd
 * is an O_PATH descriptor, taken over on failure too. 0 or -errno. */
int lookup_enter(struct local *local, int fd, bool owned, struct statx *stx, struct inode **out);
