/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The boundary between Python and liburing. gcc and cffi read this very file, so it has no
 * preprocessor lines: whoever includes it includes <stdint.h> and <stddef.h> first.
 *
 *     Python                      C (this)                        kernel
 *     ring.read(fd, buf, off) --> uring_read: one SQE filled
 *     ring.write(...)         --> uring_write: another
 *     ring.wait(2)            --> uring_wait ------------------> one io_uring_enter
 *                             <-- uring_reap: (token, result) pairs, copied out in one go
 *
 * Thread: all calls on one ring come from the thread that opened it (the kernel would answer
 * EEXIST to others on a SINGLE_ISSUER ring). Only uring_close may come from elsewhere, and then
 * with nothing in flight. No call takes a lock.
 * Ownership: pointers handed to a queueing call (buffers, iovecs, paths, times, results) belong to
 * the caller, and stay valid and where they are until the completion with that token is reaped.
 * Errors: 0 or a count on success, a negative errno on failure; errno itself is not used.
 * Blocking: only uring_wait blocks; it returns early, with -EINTR, on a signal.
 */

/* What the kernel made of the wishes given to uring_open, and what was done since. */
struct uring_info {
    int fd;              /* the ring's own, close-on-exec; owned by the ring */
    unsigned flags;      /* IORING_SETUP_* in force */
    unsigned features;   /* IORING_FEAT_* */
    unsigned sq_entries; /* queue sizes, rounded up to powers of two */
    unsigned cq_entries;
    uint64_t submits;   /* system calls that handed over SQEs */
    uint64_t submitted; /* SQEs handed over */
};

/* Opaque; every field belongs to the ring's own thread. */
struct uring;

/*
 * Opens a ring of `entries` SQEs; `cq_entries` 0 leaves the CQ's size to the kernel. `flags` are
 * passed on as they are: dropping what an older kernel refuses (-EINVAL) is the caller's loop.
 * Stores the ring in *out; the caller ends it with uring_close.
 * -EINVAL, -ENOSYS, -EPERM, -ENOMEM, -EMFILE, -ENFILE.
 */
int uring_open(struct uring **out, unsigned entries, unsigned cq_entries, unsigned flags);

/* Unmaps, closes and frees. Whatever is in flight goes on writing: reap it all first. */
void uring_close(struct uring *u);

void uring_describe(const struct uring *u, struct uring_info *out);

/* 1 if the kernel implements the operation of that name (as below, without the prefix), else 0. */
int uring_supports(const struct uring *u, const char *name);

/*
 * Makes and registers the eventfd that is written at each completion; returns it. Non-blocking,
 * close-on-exec, owned by the ring, drained by uring_turn. -EMFILE, -ENOMEM.
 */
int uring_eventfd(struct uring *u);

/* SQEs queued here that the kernel has not taken yet. */
unsigned uring_queued(const struct uring *u);

/* 1 if there is work for another uring_turn: SQEs queued here, completions here or held back. */
int uring_pending(const struct uring *u);

/* Hands over everything queued. Returns the number taken; -EBUSY: reap first, then again. */
int uring_submit(struct uring *u);

/*
 * Hands over everything queued and waits until `nr` completions can be reaped or `timeout_ns` is
 * over (negative: no limit), in one system call. nr 0 only lets deferred completions in.
 * Returns 0, -ETIME, -EINTR or as uring_submit.
 */
int uring_wait(struct uring *u, unsigned nr, int64_t timeout_ns);

/*
 * Copies up to `max` completions to `out` as pairs (token, result). Their CQEs are given back by
 * uring_seen only, so that completions which an exception (a signal's, say) kept from being
 * handled come again. Asks the kernel for those it still holds (overflown, deferred) if there is
 * none here. Returns the number of pairs.
 */
unsigned uring_reap(struct uring *u, int64_t *out, unsigned max);

/* Gives the CQEs back that were copied last. Repeating it does nothing. */
void uring_seen(struct uring *u);

/*
 * One turn of an event loop: uring_submit, drain the eventfd, uring_reap. Never blocks.
 * Returns the number of pairs, or, with none, the submission's error.
 */
int uring_turn(struct uring *u, int64_t *out, unsigned max);

/*
 * Takes back an operation that is still queued here: its SQE is replaced by one that fails, so
 * that operations linked to it are cancelled too. It completes (with any error) as usual.
 * Returns 1, or 0 if the kernel has taken it already.
 */
int uring_revoke(struct uring *u, uint64_t token);

/*
 * The queueing calls: one SQE each. `token` comes back with the completion, `sqe_flags` are
 * IOSQE_* bits, the rest is as in the system call of that name. A full queue is submitted to make
 * room; a chain of linked SQEs at its end is kept together.
 * Return 0; -EBUSY: reap first, then again; -E2BIG: the queue is one single unfinished chain.
 */
int uring_nop(struct uring *u, uint64_t token, unsigned sqe_flags);
int uring_read(struct uring *u, uint64_t token, unsigned sqe_flags, int fd, void *buf,
               unsigned length, int64_t offset);
int uring_write(struct uring *u, uint64_t token, unsigned sqe_flags, int fd, const void *buf,
                unsigned length, int64_t offset);
int uring_readv(struct uring *u, uint64_t token, unsigned sqe_flags, int fd,
                const struct iovec *iov, unsigned iovcnt, int64_t offset, int rw_flags);
int uring_writev(struct uring *u, uint64_t token, unsigned sqe_flags, int fd,
                 const struct iovec *iov, unsigned iovcnt, int64_t offset, int rw_flags);
int uring_fsync(struct uring *u, uint64_t token, unsigned sqe_flags, int fd, int datasync);
int uring_openat(struct uring *u, uint64_t token, unsigned sqe_flags, int dirfd, const char *path,
                 int flags, unsigned mode);
int uring_close_fd(struct uring *u, uint64_t token, unsigned sqe_flags, int fd);
int uring_statx(struct uring *u, uint64_t token, unsigned sqe_flags, int dirfd, const char *path,
                int flags, unsigned mask, struct statx *out);
int uring_fallocate(struct uring *u, uint64_t token, unsigned sqe_flags, int fd, int mode,
                    int64_t offset, int64_t length);
int uring_ftruncate(struct uring *u, uint64_t token, unsigned sqe_flags, int fd, int64_t length);
int uring_unlinkat(struct uring *u, uint64_t token, unsigned sqe_flags, int dirfd, const char *path,
                   int flags);
int uring_renameat(struct uring *u, uint64_t token, unsigned sqe_flags, int old_dirfd,
                   const char *old_path, int new_dirfd, const char *new_path, unsigned flags);
int uring_mkdirat(struct uring *u, uint64_t token, unsigned sqe_flags, int dirfd, const char *path,
                  unsigned mode);
int uring_splice(struct uring *u, uint64_t token, unsigned sqe_flags, int fd_in, int64_t off_in,
                 int fd_out, int64_t off_out, unsigned length, unsigned flags);
int uring_poll_add(struct uring *u, uint64_t token, unsigned sqe_flags, int fd, unsigned events);

/* `when` is {seconds, nanoseconds}, relative. Completes with -ETIME when the time is over. */
int uring_timeout(struct uring *u, uint64_t token, unsigned sqe_flags, const int64_t *when);
int uring_link_timeout(struct uring *u, uint64_t token, unsigned sqe_flags, const int64_t *when);

/* Asks for the end of the operation `target`; completes with 0, -ENOENT or -EALREADY. */
int uring_cancel(struct uring *u, uint64_t token, unsigned sqe_flags, uint64_t target);
