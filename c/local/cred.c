/* SPDX-License-Identifier: Apache-2.0 */
#include "cred.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <liburing.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "local.h"

#define CAP_BIT(cap) (UINT64_C(1) << (cap))

static const uint64_t PRIVILEGED =
    CAP_BIT(CAP_SETUID) | CAP_BIT(CAP_SETGID) | CAP_BIT(CAP_CHOWN) | CAP_BIT(CAP_DAC_OVERRIDE);

enum { KEEP = -1 }; /* of setresuid and setresgid: leave this one */

/* ---- raw system calls: each changes the calling thread and no other ---- */

static int set_euid(uint32_t uid)
{
    return syscall(SYS_setresuid, KEEP, uid, KEEP) < 0 ? -errno : 0;
}

static int set_egid(uint32_t gid)
{
    return syscall(SYS_setresgid, KEEP, gid, KEEP) < 0 ? -errno : 0;
}

static int set_groups(size_t count, const uint32_t *groups)
{
    return syscall(SYS_setgroups, count, groups) < 0 ? -errno : 0;
}

static int get_caps(struct cred *cred)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    cred->permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
    cred->effective = data[0].effective | (uint64_t)data[1].effective << 32;
    cred->inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
    return 0;
}

/* Takes away, or gives back what is permitted: the kernel has no reason to refuse. */
static void set_effective(const struct cred *cred, uint64_t effective)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {(uint32_t)effective, (uint32_t)cred->permitted, (uint32_t)cred->inheritable},
        {(uint32_t)(effective >> 32), (uint32_t)(cred->permitted >> 32),
         (uint32_t)(cred->inheritable >> 32)},
    };

    if (syscall(SYS_capset, &header, data) < 0)
        abort();
}

/* ---- start ---- */

/* How a thread that may switch does it. False: it may not, after all. */
static bool init_switching(struct cred *cred)
{
    int securebits = prctl(PR_GET_SECUREBITS);

    cred->set_caps = cred->uid != 0 || (securebits > 0 && securebits & SECBIT_NO_SETUID_FIXUP);
    /* A thread that was root for a moment and is nobody's root again loses what it is permitted,
     * unless told otherwise; that thread is a daemon with capabilities but without uid 0. */
    if (cred->uid != 0 && prctl(PR_SET_KEEPCAPS, 1) < 0)
        return false;
    /* The daemon's own groups are not the caller's. They give it no right that CAP_DAC_OVERRIDE
     * does not, so that they are dropped for good here and not around every request. */
    cred->set_groups = set_groups(0, NULL) == 0;
    return true;
}

int cred_init(struct cred *cred)
{
    int err;

    memset(cred, 0, sizeof(*cred));
    cred->uid = geteuid();
    cred->gid = getegid();
    err = get_caps(cred);
    if (err < 0)
        return err;
    cred->fsetid = cred->effective & CAP_BIT(CAP_FSETID);
    cred->effective &= ~CAP_BIT(CAP_FSETID);
    cred->privileged = (cred->effective & PRIVILEGED) == PRIVILEGED && init_switching(cred);
    cred->own_umask = unshare(CLONE_FS) == 0;
    if (cred->own_umask)
        umask(0);
    return 0;
}

/* ---- CAP_FSETID ---- */

static uint64_t daemon_effective(const struct cred *cred)
{
    return cred->effective | (cred->fsetid ? CAP_BIT(CAP_FSETID) : 0);
}

void cred_fsetid(struct cred *cred, bool want)
{
    if (cred->fsetid == want || !(cred->permitted & CAP_BIT(CAP_FSETID)))
        return;
    cred->fsetid = want;
    set_effective(cred, daemon_effective(cred));
}

static int personality(struct cred *cred, struct io_uring *uring, bool fsetid, uint16_t *out)
{
    int id;

    cred_fsetid(cred, fsetid);
    id = io_uring_register_personality(uring);
    if (id < 0)
        return id;
    *out = (uint16_t)id;
    return 0;
}

int cred_personalities(struct cred *cred, struct io_uring *uring)
{
    int err;

    if (!cred->fsetid)
        return 0;
    err = personality(cred, uring, false, &cred->kills_suidgid);
    return err < 0 ? err : personality(cred, uring, true, &cred->keeps_suidgid);
}

void cred_sqe(const struct cred *cred, struct io_uring_sqe *sqe, bool fsetid)
{
    sqe->personality = fsetid ? cred->keeps_suidgid : cred->kills_suidgid;
}

/* ---- the caller of a creating request ---- */

struct creation {
    uint32_t mode;
    uint32_t umask;
};

static struct creation creation(const struct fuse_req *req)
{
    switch (req->in_header.opcode) {
    case FUSE_MKDIR:
        return (struct creation){req->arg.mkdir.mode, req->arg.mkdir.umask};
    case FUSE_MKNOD:
        return (struct creation){req->arg.mknod.mode, req->arg.mknod.umask};
    case FUSE_CREATE:
    case FUSE_TMPFILE:
        return (struct creation){req->arg.create.mode, req->arg.create.umask};
    default: /* SYMLINK: neither means anything there */
        return (struct creation){0, 0};
    }
}

static uint64_t features(const struct fuse_req *req)
{
    return atomic_load_explicit(&req->local->fs.features, memory_order_relaxed);
}

/* Without FUSE_DONT_MASK the guest's kernel has applied the umask to the mode itself. */
static uint32_t umask_to_apply(const struct fuse_req *req)
{
    return features(req) & FUSE_DONT_MASK ? creation(req).umask & 0777 : 0;
}

static void take_umask(struct cred *cred, const struct fuse_req *req)
{
    uint32_t want = umask_to_apply(req);

    if (!cred->own_umask || cred->umask == want)
        return;
    umask(want);
    cred->umask = want;
}

uint32_t cred_mode(const struct cred *cred, const struct fuse_req *req, int dirfd, uint32_t mode)
{
    uint32_t mask = umask_to_apply(req);
    char path[NODE_PATH];

    if (cred->own_umask || mask == 0)
        return mode;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", dirfd);
    if (getxattr(path, "system.posix_acl_default", NULL, 0) > 0)
        return mode; /* the access control list takes the umask's place */
    return mode & ~mask;
}

/* What the caller keeps of the daemon's rights: the guest's kernel has looked at all groups. */
static uint64_t keep_for_groups(const struct cred *cred, const struct fuse_req *req)
{
    uint64_t in_force = features(req);

    if (cred->set_groups && in_force & FUSE_CREATE_SUPP_GROUP && !(in_force & FUSE_POSIX_ACL))
        return 0;
    return CAP_BIT(CAP_DAC_OVERRIDE);
}

static int switch_ids(struct cred *cred, const struct fuse_req *req)
{
    uint32_t uid = req->in_header.uid, gid = req->in_header.gid;
    int err = 0;

    /* An id of all ones is "leave it" to the kernel: no caller has it. */
    if (uid == (uint32_t)KEEP || gid == (uint32_t)KEEP)
        return -EINVAL;
    if (req->ext.has_group && cred->set_groups) {
        err = set_groups(1, &req->ext.group);
        cred->switched_groups = err == 0;
    }
    if (err == 0 && gid != cred->gid) {
        err = set_egid(gid);
        cred->switched_gid = err == 0;
    }
    if (err == 0 && uid != cred->uid) {
        err = set_euid(uid);
        cred->switched_uid = err == 0;
    }
    return err;
}

/* keep: the capabilities that a caller other than root goes on with. */
static int become(struct cred *cred, const struct fuse_req *req, uint64_t keep)
{
    int err;

    take_umask(cred, req);
    if (!cred->privileged)
        return 0;
    err = switch_ids(cred, req);
    if (err < 0) {
        cred_restore(cred);
        return err;
    }
    if (cred->switched_uid && req->in_header.uid != 0 && (cred->set_caps || keep))
        set_effective(cred, keep);
    return 0;
}

int cred_become(struct cred *cred, const struct fuse_req *req)
{
    if (creation(req).mode & S_ISGID)
        cred_fsetid(cred, true); /* root may make it in a directory of any group */
    return become(cred, req, keep_for_groups(cred, req));
}

int cred_become_unchecked(struct cred *cred, const struct fuse_req *req)
{
    return become(cred, req, 0);
}

void cred_restore(struct cred *cred)
{
    if (cred->switched_uid) {
        if (set_euid(cred->uid) < 0)
            abort();
        if (cred->set_caps)
            set_effective(cred, daemon_effective(cred));
        else /* the kernel has made everything permitted effective */
            cred->fsetid = cred->permitted & CAP_BIT(CAP_FSETID);
    }
    if (cred->switched_gid && set_egid(cred->gid) < 0)
        abort();
    if (cred->switched_groups && set_groups(0, NULL) < 0)
        abort();
    cred->switched_uid = cred->switched_gid = cred->switched_groups = false;
}
