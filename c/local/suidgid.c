/* SPDX-License-Identifier: Apache-2.0 */
#include "suidgid.h"

#include "../queue.h"
#include "cred.h"

void suidgid_inline(struct fuse_req *req, bool kills)
{
    struct cred *cred = queue_cred(req->queue);
    struct ring *ring = queue_ring(req->queue);

    if (kills && cred->fsetid && io_uring_sq_ready(&ring->uring) > 0)
        ring_enter(ring, RING_SUBMIT, 0); /* what keeps the bits must not go without */
    cred_fsetid(cred, !kills);
}

void suidgid_sqe(struct fuse_req *req, struct io_uring_sqe *sqe, bool kills)
{
    struct cred *cred = queue_cred(req->queue);

    if (kills)
        sqe->personality = (uint16_t)cred->personality;
    else
        cred_fsetid(cred, true);
}
