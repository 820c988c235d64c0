/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 5 of 9: the opcode table. In: a request whose header was read. Out: what its handler
 * returned. Queue thread.
 *
 * One row an opcode: how the request is taken apart (fuse_req.c), what must hold before its
 * handler runs, and each backend's handler. All that is common to handlers is done here, once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct fuse_req;

enum fuse_op_flags {
    OP_NODE = 1 << 0,      /* nodeid is pinned as req->inode, else ESTALE */
    OP_FILE = 1 << 1,      /* fh is pinned as req->handle and is a file, else EBADF */
    OP_DIR = 1 << 2,       /* the same for a directory; with OP_FILE: either */
    OP_MODIFIES = 1 << 3,  /* EROFS with --readonly */
    OP_NO_REPLY = 1 << 4,  /* FORGET and its kin: the driver waits for no answer */
    OP_SESSION = 1 << 5,   /* served before INIT */
    OP_EXT = 1 << 6,       /* security context and groups may follow the names */
    OP_TARGET = 1 << 7,    /* name[1] is a symlink target: 1 to 4095 bytes of anything but NUL */
    OP_FREE_NAME = 1 << 8, /* name[0] names no directory entry: '/' and dots mean nothing in it */
    OP_LONG = 1 << 9,      /* may take many microseconds: the batch's clock is read after it */
};

struct fuse_op {
    const char *name;                    /* NULL: no such opcode */
    int (*local)(struct fuse_req *req);  /* NULL: deliberately ENOSYS */
    int (*remote)(struct fuse_req *req); /* likewise */
    uint16_t arg_size;                   /* bytes of the fixed part, at most */
    uint16_t arg_min;                    /* what the oldest client that we serve sends of it */
    uint8_t fh_at;                       /* where fh lies in the fixed part (OP_FILE, OP_DIR) */
    uint8_t names;
    uint16_t flags;
};

/* Rows 0 to FUSE_OP_LAST; NULL for an opcode that the protocol does not have. */
const struct fuse_op *fuse_op(uint32_t opcode);

/* Run the handler of the backend again, with all pinned as dispatch left it. */
int dispatch_again(struct fuse_req *req);

/* Check, pin, run. 0, -errno or FUSE_LATER. */
int dispatch(struct fuse_req *req);

/* After the reply, or instead of one: unpin what dispatch pinned. Any thread that owns req. */
void dispatch_done(struct fuse_req *req);
