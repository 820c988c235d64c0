/* SPDX-License-Identifier: Apache-2.0
 *
 * One FUSE request from the avail ring to the used ring.
 *
 * Validated once, trusted after: when a handler runs,
 *   - in_header and arg are private copies; arg is zero behind what an older client sent;
 *   - name[0..names) are NUL-terminated single components of 1 to 255 bytes without '/', neither
 *     "." nor ".." (symlink targets and xattr names: as dispatch.c says for the opcode);
 *   - inode is the pinned node of in_header.nodeid, handle the pinned open file of arg's fh, which
 *     belongs to that node, for the opcodes whose row in dispatch.c asks for them;
 *   - in holds what follows (WRITE's data, an extension), out the room for the reply's payload.
 *
 * A handler returns 0 (done, out_len bytes of payload are in place), a negative errno (done), or
 * FUSE_LATER: it has put an SQE for this request on the ring or handed it to the pool. It never
 * replies by itself: queue.c does, at one place.
 *
 * Owner: the queue thread; between pool_submit and the end of `work`, the pool thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "chain.h"
#include "wire_fuse.h"

struct queue;
struct queue_arena;
struct fs;
struct local;
struct remote;
struct mail;
struct inode;
struct handle;
struct fuse_req;
struct guest_mem;
struct segment;

enum { FUSE_LATER = 1 };

/* A request's descriptors, its out header included; one more than virtio's longest ring uses, for
 * buffers that straddle two memory regions. */
enum { FUSE_REQ_IOVS = 1024 + 32 };

/* Security context and groups that CREATE, MKDIR, MKNOD and SYMLINK may carry. */
struct fuse_req_ext {
    bool has_group;
    uint32_t group;          /* FUSE_EXT_GROUPS: the one supplementary group that matters */
    const char *secctx_name; /* xattr name; NULL without a security context */
    const void *secctx;
    uint32_t secctx_len;
};

union fuse_arg {
    struct fuse_forget_in forget;
    struct fuse_batch_forget_in batch_forget;
    struct fuse_getattr_in getattr;
    struct fuse_setattr_in setattr;
    struct fuse_mknod_in mknod;
    struct fuse_mkdir_in mkdir;
    struct fuse_rename_in rename;
    struct fuse_rename2_in rename2;
    struct fuse_link_in link;
    struct fuse_open_in open;
    struct fuse_create_in create;
    struct fuse_release_in release;
    struct fuse_flush_in flush;
    struct fuse_read_in read;
    struct fuse_write_in write;
    struct fuse_fsync_in fsync;
    struct fuse_setxattr_in setxattr;
    struct fuse_getxattr_in getxattr;
    struct fuse_lk_in lk;
    struct fuse_access_in access;
    struct fuse_init_in init;
    struct fuse_interrupt_in interrupt;
    struct fuse_ioctl_in ioctl;
    struct fuse_fallocate_in fallocate;
    struct fuse_lseek_in lseek;
    struct fuse_copy_file_range_in copy_file_range;
    struct fuse_syncfs_in syncfs;
    struct fuse_statx_in statx;
};

struct fuse_req {
    /* set once, when the queue starts */
    struct queue *queue;
    struct queue_arena *arena; /* whose memory this is */
    union {
        struct fs *fs; /* what the backends share; they begin with it */
        struct local *local;
        struct remote *remote;
    };
    struct iovec *iov; /* FUSE_REQ_IOVS of them, readable ones first */

    /* the chain: virtq.c */
    struct chain in;
    struct chain out;
    struct iovec reply_header[16]; /* where fuse_out_header goes: as many pieces as the guest cut */
    uint8_t reply_header_count;    /* 0: no room for a reply (FORGET) */
    uint16_t head;                 /* descriptor index, for the used ring */
    const struct guest_mem *mem;   /* what iov was translated with */

    /* the request: fuse_req.c */
    const struct fuse_op *op;
    struct fuse_in_header in_header;
    union fuse_arg arg;
    const char *name[2]; /* in the queue's scratch: gone when the handler returns */
    struct fuse_req_ext ext;

    /* pinned by dispatch, unpinned after the reply */
    struct inode *inode;
    struct handle *handle;
    struct handle *handle_out; /* pinned by COPY_FILE_RANGE's handler: what is copied to */
    struct segment *segment;   /* pinned by a remote READ while the ring reads from it */

    /* the result */
    uint32_t out_len; /* payload bytes in place */

    /* while FUSE_LATER */
    int (*on_cqe)(struct fuse_req *req, int res); /* same returns as a handler; queue thread */
    int (*work)(struct fuse_req *req);            /* 0 or -errno; pool thread, may block */
    bool work_fsetid;                             /* `work` keeps set-id bits of what it writes */
    int result;                                   /* what `work` returned */
    uint64_t state[4];                            /* the handler's own */
    struct fuse_req *next; /* free list, done list or the pool's lists: one at a time */
    uint64_t started_ns;
    bool elsewhere;      /* with the kernel or the pool: FUSE_LATER, and not yet on the done list */
    bool waits;          /* on the pool or in the mailbox, for somebody else */
    struct mail *mail;   /* while it is in the mailbox: see mailbox.h */
    uint32_t mail_flags; /* OVFS_MAIL_BAD, for the next mail_post */
    bool mail_retried;   /* the handler has run before, and was answered by mail */
    bool abandoned; /* written under the pool's lock: answered and left to the pool by a stop */
};

/* Put `len` bytes of payload into the reply. 0, or -ERANGE where the guest left less room. */
int fuse_req_put(struct fuse_req *req, const void *payload, size_t len);

/* Step 4: take the request apart as its row in dispatch.c says; features: the FUSE_* flags that
 * INIT settled on. 0, the -errno to answer, or -EBADMSG: there is no header, or no room for one of
 * ours, so nothing can be answered. */
int fuse_req_parse(struct fuse_req *req, uint64_t features);
