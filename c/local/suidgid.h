/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether a call that changes a file's data clears its set-id bits.
 *
 * DESIGN. The host's kernel clears them where the caller has no CAP_FSETID; a daemon run as root
 * has it, and drops it for calls on behalf of those who have not. An inline call runs with what the
 * thread has at that moment. An SQE without a personality runs with what the thread has when the
 * batch is submitted, which is later, so:
 *
 *      kills    inline: submit what is queued, drop the capability    SQE: the personality without
 *      keeps    inline: raise it                                      SQE: raise it, queue
 *
 * The capability changes rarely, since neighbouring requests mostly come from one user.
 *
 * Queue thread.
 */
#pragma once

#include <stdbool.h>

struct fuse_req;
struct io_uring_sqe;

/* Before an inline call. */
void suidgid_inline(struct fuse_req *req, bool kills);

/* Between io_uring_prep_* and ring_push. */
void suidgid_sqe(struct fuse_req *req, struct io_uring_sqe *sqe, bool kills);
