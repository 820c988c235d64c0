/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose rights a system call runs with. One struct cred per thread that serves requests; that
 * thread only.
 *
 * DESIGN. The guest's kernel has checked permissions before it sends a request, so nearly all
 * calls run with the daemon's rights. Two things need more care:
 *
 *   - what is created belongs to the caller: cred_become switches this one thread (the C library's
 *     set*id would switch all of them) to the caller's uid and gid, cred_restore comes back;
 *   - what is written, truncated or given away must lose its set-id bits, which Linux leaves on
 *     while the writer has CAP_FSETID, as root does: cred_fsetid drops it and raises it again.
 *
 *      the thread is        euid, egid     capabilities              fsetid
 *      the daemon           the daemon's   all it was given          as cred_fsetid left it
 *      a caller, not root   the caller's   none, or one (below)      -
 *      the daemon again     the daemon's   all it is permitted       true again
 *
 * A caller may use the directory through a supplementary group. Clients with
 * FUSE_CREATE_SUPP_GROUP send that group; for older ones, and where access control lists may name
 * more groups than that one, the switched thread keeps CAP_DAC_OVERRIDE: the guest's kernel knew
 * the groups when it checked, and we do not.
 *
 * The umask is the caller's too, and it has to be the host's kernel that applies it, since a
 * default ACL of the directory takes its place. So the thread leaves the process's shared umask
 * (unshare) and sets its own, lazily.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct fuse_req;
struct io_uring;
struct io_uring_sqe;

struct cred {
    bool privileged; /* constant: CAP_SETUID, CAP_SETGID, CAP_CHOWN and CAP_DAC_OVERRIDE: a daemon
                      * run as root, of the host or of a user namespace; else become is a no-op */
    bool fsetid;     /* CAP_FSETID is effective on this thread now */
    bool set_groups; /* constant: setgroups is allowed (a user namespace may deny it) */
    bool set_caps;   /* constant: capabilities do not follow the uid by themselves: the daemon is
                      * not uid 0, or runs with SECBIT_NO_SETUID_FIXUP */
    bool own_umask;  /* constant: the umask is this thread's own; else the process's, which is 0 */
    uint32_t umask;  /* in force now, with own_umask */
    uint32_t uid, gid;                     /* constant: the daemon's own */
    uint16_t keeps_suidgid, kills_suidgid; /* constant: io_uring personalities, with CAP_FSETID
                                            * and without; 0: the thread's own rights will do */
    uint64_t permitted;                    /* constant: capability sets, bit n is capability n */
    uint64_t effective;                    /* constant: as found, CAP_FSETID aside */
    uint64_t inheritable;                  /* constant */
    bool switched_uid, switched_gid, switched_groups; /* what cred_restore has to undo */
};

/* On the thread itself, before its first request: reads its rights, drops its supplementary
 * groups and gives it an umask of its own, 0 for now. 0 or -errno. Where the umask cannot be
 * its own (own_umask false), the process must run with umask 0. */
int cred_init(struct cred *cred);

/* Become the caller of a creating request (MKDIR, MKNOD, SYMLINK, CREATE, TMPFILE), with its group
 * and umask, and go back. Directory descriptors are resolved before: open_by_handle_at needs the
 * daemon's rights. cred_become: 0 or the -errno of the set*id call, then nothing has changed;
 * -EINVAL: the id has no meaning in the daemon's user namespace. Nothing may fail between the two
 * without cred_restore; cred_restore cannot fail (a failure to come back aborts: our own bug). */
int cred_become(struct cred *cred, const struct fuse_req *req);
/* The same for a call that the guest's kernel has not checked (CREATE of a name that came up on
 * the host meanwhile): the caller's ids decide alone, no capability is kept for groups unknown. */
int cred_become_unchecked(struct cred *cred, const struct fuse_req *req);
void cred_restore(struct cred *cred);

/* The mode to create with, below the directory dirfd, between or before the two: mode itself, or
 * mode without the umask's bits where this thread has no umask of its own. */
uint32_t cred_mode(const struct cred *cred, const struct fuse_req *req, int dirfd, uint32_t mode);

/* Have, or not have, CAP_FSETID for the next system calls of this thread. Lazy: no call is made
 * where the thread is in that state already, nor where it may not have it. */
void cred_fsetid(struct cred *cred, bool want);

/* The same for an SQE, which would otherwise run with what the thread has when its batch is
 * submitted. cred_personalities makes that possible, once, for this thread's ring: 0 or -errno. */
int cred_personalities(struct cred *cred, struct io_uring *uring);
void cred_sqe(const struct cred *cred, struct io_uring_sqe *sqe, bool fsetid);
