/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: GETLK, SETLK, SETLKW and INTERRUPT. In: a pinned open file and a range. Out: the
 * lock taken on the host's file, or who is in its way. Queue thread; a SETLKW that has to wait does
 * so on a pool thread, so that the unlock it waits for gets through.
 *
 * Record locks go through the owner's descriptor (lock.h), flock(2) locks through the open file's
 * own, which is what they belong to in the guest as well. The host looks for no deadlock among
 * either: two guests that wait for each other wait until one is interrupted.
 */
#include <errno.h>
#include <stdint.h>
#include <sys/file.h>

#include "../plane.h"
#include "../pool.h"
#include "../queue.h"
#include "local.h"
#include "lock.h"

enum { WAITING_OWNER }; /* req->state: the struct lock_owner in use while SETLKW waits */

/* ---- what the guest asks for ---- */

static int to_flock(const struct fuse_file_lock *lk, struct flock *out)
{
    if (lk->type != F_RDLCK && lk->type != F_WRLCK && lk->type != F_UNLCK)
        return -EINVAL;
    if (lk->end > INT64_MAX || lk->start > lk->end)
        return -EINVAL;
    *out = (struct flock){
        .l_type = (short)lk->type,
        .l_whence = SEEK_SET,
        .l_start = (off_t)lk->start,
        /* 0 is "to the end"; a last byte of INT64_MAX means the same and would overflow. */
        .l_len = lk->end == INT64_MAX ? 0 : (off_t)(lk->end - lk->start + 1),
    };
    return 0;
}

static int to_operation(uint32_t type)
{
    switch (type) {
    case F_RDLCK:
        return LOCK_SH;
    case F_WRLCK:
        return LOCK_EX;
    case F_UNLCK:
        return LOCK_UN;
    default:
        return -EINVAL;
    }
}

/* ---- GETLK ---- */

static void from_flock(const struct flock *lock, uint32_t pid, struct fuse_file_lock *out)
{
    *out = (struct fuse_file_lock){.type = (uint32_t)lock->l_type};
    if (lock->l_type == F_UNLCK)
        return;
    out->start = (uint64_t)lock->l_start;
    out->end = lock->l_len == 0 ? INT64_MAX : (uint64_t)(lock->l_start + lock->l_len - 1);
    out->pid = pid;
}

int local_getlk(struct fuse_req *req)
{
    const struct fuse_lk_in *arg = &req->arg.lk;
    struct lock_table *locks = req->local->locks;
    struct lock_owner *owner;
    struct flock asked, found;
    struct fuse_lk_out reply;
    uint32_t pid = 0;
    int err;

    if (!req->local->fs.options.posix_lock)
        return -ENOSYS;
    err = to_flock(&arg->lk, &asked);
    if (err < 0 || asked.l_type == F_UNLCK || arg->lk_flags & FUSE_LK_FLOCK)
        return -EINVAL;
    /* Whoever holds nothing has no lock of its own to be kept from seeing: any descriptor does. */
    owner = lock_owner_find(locks, req->in_header.nodeid, arg->owner);
    found = asked;
    err = fcntl(owner ? owner->fd : req->handle->fd, F_OFD_GETLK, &found) < 0 ? -errno : 0;
    if (owner)
        lock_owner_put(locks, owner);
    if (err < 0)
        return err;
    if (found.l_type != F_UNLCK)
        pid = lock_holder_pid(locks, req->in_header.nodeid, &asked, &found);
    from_flock(&found, pid, &reply.lk);
    return fuse_req_put(req, &reply, sizeof(reply));
}

/* ---- SETLK, SETLKW: record locks ---- */

static int lock_posix(const struct fuse_req *req, const struct lock_owner *owner, int command)
{
    struct flock lock;
    int err = to_flock(&req->arg.lk.lk, &lock);

    if (err < 0)
        return err;
    return fcntl(owner->fd, command, &lock) < 0 ? -errno : 0;
}

/* Pool thread. Where the owner was released meanwhile, putting it back drops the lock again. */
static int wait_posix(struct fuse_req *req)
{
    struct lock_owner *owner = (struct lock_owner *)(uintptr_t)req->state[WAITING_OWNER];
    int err = lock_posix(req, owner, F_OFD_SETLKW);

    lock_owner_put(req->local->locks, owner);
    return err;
}

static int set_posix(struct fuse_req *req, bool wait)
{
    const struct fuse_lk_in *arg = &req->arg.lk;
    struct lock_table *locks = req->local->locks;
    struct lock_owner *owner;
    struct flock lock;
    int err;

    if (!req->local->fs.options.posix_lock)
        return -ENOSYS;
    err = to_flock(&arg->lk, &lock);
    if (err < 0)
        return err;
    if (lock.l_type != F_UNLCK) {
        err = lock_owner_get(req->local, req->inode, req->in_header.nodeid, arg->owner, arg->lk.pid,
                             &owner);
        if (err < 0)
            return err;
    } else {
        owner = lock_owner_find(locks, req->in_header.nodeid, arg->owner);
        if (!owner)
            return 0;
    }
    err = lock_posix(req, owner, F_OFD_SETLK);
    if (wait && (err == -EAGAIN || err == -EACCES)) {
        req->state[WAITING_OWNER] = (uintptr_t)owner;
        req->work = wait_posix;
        err = pool_submit_wait(req);
        if (err == FUSE_LATER)
            return err;
    }
    lock_owner_put(locks, owner);
    return err;
}

/* ---- SETLK, SETLKW: flock(2) ---- */

/* Pool thread. */
static int wait_flock(struct fuse_req *req)
{
    return flock(req->handle->fd, to_operation(req->arg.lk.lk.type)) < 0 ? -errno : 0;
}

static int set_flock(struct fuse_req *req, bool wait)
{
    int operation = to_operation(req->arg.lk.lk.type);

    if (!req->local->fs.options.flock)
        return -ENOSYS;
    if (operation < 0)
        return operation;
    if (flock(req->handle->fd, operation | LOCK_NB) == 0)
        return 0;
    if (!wait || errno != EWOULDBLOCK)
        return -errno;
    req->work = wait_flock;
    return pool_submit_wait(req);
}

static int set_lock(struct fuse_req *req, bool wait)
{
    return req->arg.lk.lk_flags & FUSE_LK_FLOCK ? set_flock(req, wait) : set_posix(req, wait);
}

int local_setlk(struct fuse_req *req)
{
    return set_lock(req, false);
}

int local_setlkw(struct fuse_req *req)
{
    return set_lock(req, true);
}

/* ---- INTERRUPT ---- */

/* What can be interrupted is a wait for a lock; all else ends by itself. The request that is meant
 * may be another queue's, and may be done already: then there is nobody to tell, which is no
 * error. */
int local_interrupt(struct fuse_req *req)
{
    struct ovfs_plane *plane = req->queue->plane;
    uint64_t unique = req->arg.interrupt.unique;

    if (unique == 0)
        return 0; /* to the pool that would be "all" */
    for (uint32_t i = 0; i < plane->queue_count; i++)
        pool_cancel(plane->pool, &plane->queues[i], unique);
    return 0;
}
