/* SPDX-License-Identifier: Apache-2.0 */
/* Description: a thread becomes the caller of a creating request and the daemon again. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"
#include "local/cred.h"
#include "local/local.h"

enum { USER = 1000, GROUP = 1001, OTHER_GROUP = 1002 };

static const char scratch[] = "cred-scratch";
static int dirfd = -1;
static struct local local;

static struct fuse_req request(uint32_t opcode, uint32_t uid, uint32_t gid)
{
    return (struct fuse_req){
        .local = &local,
        .in_header = {.opcode = opcode, .nodeid = FUSE_ROOT_ID, .uid = uid, .gid = gid},
    };
}

static uint64_t effective(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    CHECK(syscall(SYS_capget, &header, data) == 0);
    return data[0].effective | (uint64_t)data[1].effective << 32;
}

static bool has_cap(int cap)
{
    return effective() >> cap & 1;
}

static struct stat stat_of(const char *name)
{
    struct stat st;

    CHECK(fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0);
    return st;
}

/* A directory with exactly these rights, whatever the umask is. */
static int make_dir(const char *name, mode_t mode, gid_t gid)
{
    int fd;

    CHECK(mkdirat(dirfd, name, 0700) == 0);
    CHECK(fchownat(dirfd, name, 0, gid, 0) == 0);
    CHECK(fchmodat(dirfd, name, mode, 0) == 0);
    fd = openat(dirfd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

/* What MKNOD does: 0 or -errno. */
static int make_file(struct cred *cred, struct fuse_req *req, int at, const char *name)
{
    int err = cred_become(cred, req);

    if (err < 0)
        return err;
    err = mknodat(at, name, cred_mode(cred, req, at, req->arg.mknod.mode), 0) < 0 ? -errno : 0;
    cred_restore(cred);
    return err;
}

static void is_daemon(const struct cred *cred)
{
    uint32_t ruid, euid, suid, rgid, egid, sgid;

    CHECK(syscall(SYS_getresuid, &ruid, &euid, &suid) == 0);
    CHECK(syscall(SYS_getresgid, &rgid, &egid, &sgid) == 0);
    CHECK(euid == cred->uid && egid == cred->gid);
    CHECK(!cred->privileged || !cred->set_groups || syscall(SYS_getgroups, 0, NULL) == 0);
    CHECK(has_cap(CAP_FSETID) == cred->fsetid);
    CHECK(!cred->privileged || (has_cap(CAP_SETUID) && has_cap(CAP_DAC_OVERRIDE)));
}

static void files_belong_to_caller(struct cred *cred)
{
    struct fuse_req req = request(FUSE_MKNOD, USER, GROUP);
    int open_dir = make_dir("open", 0777, 0);
    struct stat st;

    req.arg.mknod.mode = S_IFREG | 0666;
    CHECK(make_file(cred, &req, open_dir, "user") == 0);
    st = stat_of("open/user");
    CHECK(st.st_uid == USER && st.st_gid == GROUP && st.st_mode == (S_IFREG | 0666));
    is_daemon(cred);

    req = request(FUSE_MKNOD, 0, GROUP);
    req.arg.mknod.mode = S_IFREG | 0600;
    CHECK(make_file(cred, &req, open_dir, "root") == 0);
    st = stat_of("open/root");
    CHECK(st.st_uid == 0 && st.st_gid == GROUP);
    is_daemon(cred);

    req = request(FUSE_MKNOD, UINT32_MAX, GROUP);
    CHECK(make_file(cred, &req, open_dir, "nobody") == -EINVAL);
    is_daemon(cred);
    close(open_dir);
}

/* The one group that a newer client sends; what older ones leave to the guest's own check. */
static void groups(struct cred *cred)
{
    struct fuse_req req = request(FUSE_MKNOD, USER, GROUP);
    int team = make_dir("team", 0770, OTHER_GROUP);

    req.arg.mknod.mode = S_IFREG | 0600;
    atomic_store(&local.fs.features, FUSE_CREATE_SUPP_GROUP);
    CHECK(make_file(cred, &req, team, "stranger") == -EACCES);
    is_daemon(cred);
    req.ext.has_group = true;
    req.ext.group = OTHER_GROUP;
    CHECK(make_file(cred, &req, team, "member") == 0);
    is_daemon(cred);
    req.ext.has_group = false;
    CHECK(make_file(cred, &req, team, "stranger") == -EACCES); /* the group is gone again */

    atomic_store(&local.fs.features, FUSE_CREATE_SUPP_GROUP | FUSE_POSIX_ACL);
    CHECK(make_file(cred, &req, team, "acl") == 0);
    atomic_store(&local.fs.features, 0);
    CHECK(make_file(cred, &req, team, "older-client") == 0);
    CHECK(stat_of("team/older-client").st_uid == USER);
    is_daemon(cred);

    CHECK(cred_become(cred, &req) == 0); /* and nothing but that right is kept */
    CHECK(effective() == UINT64_C(1) << CAP_DAC_OVERRIDE);
    cred_restore(cred);
    CHECK(cred_become_unchecked(cred, &req) == 0);
    CHECK(effective() == 0);
    cred_restore(cred);
    atomic_store(&local.fs.features, FUSE_CREATE_SUPP_GROUP);
    CHECK(cred_become(cred, &req) == 0);
    CHECK(effective() == 0);
    cred_restore(cred);
    close(team);
}

static void setgid_directories(struct cred *cred)
{
    struct fuse_req req = request(FUSE_MKNOD, USER, GROUP);
    int shared = make_dir("shared", 02777, OTHER_GROUP);

    atomic_store(&local.fs.features, FUSE_CREATE_SUPP_GROUP);
    req.arg.mknod.mode = S_IFREG | 02775;
    CHECK(make_file(cred, &req, shared, "stranger") == 0);
    CHECK(stat_of("shared/stranger").st_gid == OTHER_GROUP);
    CHECK(stat_of("shared/stranger").st_mode == (S_IFREG | 0775)); /* no member of the group */
    req.ext.has_group = true;
    req.ext.group = OTHER_GROUP;
    CHECK(make_file(cred, &req, shared, "member") == 0);
    CHECK(stat_of("shared/member").st_mode == (S_IFREG | 02775));

    req = request(FUSE_MKNOD, 0, 0); /* root may, even while the thread is without CAP_FSETID */
    req.arg.mknod.mode = S_IFREG | 02775;
    cred_fsetid(cred, false);
    CHECK(make_file(cred, &req, shared, "root") == 0);
    CHECK(stat_of("shared/root").st_mode == (S_IFREG | 02775));
    is_daemon(cred);
    atomic_store(&local.fs.features, 0);
    close(shared);
}

/* A default access control list rw-rw-rw- in the form that the kernel takes. */
static void set_default_acl(const char *name)
{
    static const struct {
        uint32_t version;
        struct {
            uint16_t tag, perm;
            uint32_t id;
        } entries[3];
    } acl = {2, {{1, 6, UINT32_MAX}, {4, 6, UINT32_MAX}, {32, 6, UINT32_MAX}}};
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", scratch, name);
    CHECK(setxattr(path, "system.posix_acl_default", &acl, sizeof(acl), 0) == 0);
}

static void umasks(struct cred *cred, const char *name)
{
    struct fuse_req req = request(FUSE_MKNOD, USER, GROUP);
    int dir = make_dir(name, 0777, 0);
    bool acl;
    struct stat st;

    req.arg.mknod.mode = S_IFREG | 0666;
    req.arg.mknod.umask = 027;
    CHECK(make_file(cred, &req, dir, "guest-masked") == 0);
    CHECK(fstatat(dir, "guest-masked", &st, 0) == 0 && st.st_mode == (S_IFREG | 0666));
    atomic_store(&local.fs.features, FUSE_DONT_MASK);
    CHECK(make_file(cred, &req, dir, "masked") == 0);
    CHECK(fstatat(dir, "masked", &st, 0) == 0 && st.st_mode == (S_IFREG | 0640));
    req.arg.mknod.umask = 0;
    CHECK(make_file(cred, &req, dir, "unmasked") == 0);
    CHECK(fstatat(dir, "unmasked", &st, 0) == 0 && st.st_mode == (S_IFREG | 0666));

    acl = getxattr(scratch, "system.posix_acl_default", NULL, 0) >= 0 || errno == ENODATA;
    if (acl) {
        set_default_acl(name);
        req.arg.mknod.umask = 077;
        CHECK(make_file(cred, &req, dir, "by-acl") == 0);
        CHECK(fstatat(dir, "by-acl", &st, 0) == 0 && st.st_mode == (S_IFREG | 0666));
    } else {
        printf("default access control lists not tried: %s has none\n", scratch);
    }
    atomic_store(&local.fs.features, 0);
    close(dir);
}

/* Where the thread could not leave the shared umask: that one is 0 and modes are cut by hand. */
static void shared_umask(struct cred *cred)
{
    mode_t before = umask(0);

    cred->own_umask = false;
    umasks(cred, "masks-shared");
    cred->own_umask = true;
    umask(before);
}

/* The mode of a 06755 file after a write with or without the capability; the chmod needs it too,
 * since the group is not one of ours. */
static mode_t mode_after_write(struct cred *cred, const char *name, bool fsetid)
{
    int fd = openat(dirfd, name, O_CREAT | O_RDWR | O_CLOEXEC, 0600);

    cred_fsetid(cred, true);
    CHECK(fd >= 0 && fchown(fd, USER, GROUP) == 0 && fchmod(fd, 06755) == 0);
    cred_fsetid(cred, fsetid);
    CHECK(pwrite(fd, "x", 1, 0) == 1);
    close(fd);
    return stat_of(name).st_mode & 07777;
}

static void set_id_bits(struct cred *cred)
{
    struct fuse_req req = request(FUSE_MKNOD, USER, GROUP);

    CHECK(cred->fsetid);
    CHECK(mode_after_write(cred, "kept", true) == 06755); /* the trap that this is for */
    CHECK(mode_after_write(cred, "cleared", false) == 0755);
    CHECK(!cred->fsetid && !has_cap(CAP_FSETID));
    CHECK(cred_become(cred, &req) == 0);
    CHECK(!has_cap(CAP_FSETID));
    cred_restore(cred);
    is_daemon(cred);
    CHECK(mode_after_write(cred, "cleared-again", false) == 0755);
    CHECK(mode_after_write(cred, "kept-again", true) == 06755);
}

/* Other threads keep their ids, groups and umask while this one changes its own. */
static void *bystander(void *arg)
{
    int *pipes = arg;
    char byte;

    CHECK(read(pipes[0], &byte, 1) == 1);
    CHECK(geteuid() == 0 && getegid() == 0);
    CHECK(getgroups(0, NULL) == 1);
    CHECK(umask(022) == 022);
    return NULL;
}

static void other_threads(struct cred *cred, pthread_t thread, int wake)
{
    struct fuse_req req = request(FUSE_MKDIR, USER, GROUP);

    atomic_store(&local.fs.features, FUSE_DONT_MASK);
    req.arg.mkdir.umask = 077;
    CHECK(cred_become(cred, &req) == 0);
    CHECK(syscall(SYS_geteuid) == USER);
    CHECK(write(wake, "", 1) == 1);
    CHECK(pthread_join(thread, NULL) == 0);
    cred_restore(cred);
    atomic_store(&local.fs.features, 0);
}

/* ---- other kinds of daemon, each in a process of its own ---- */

static void in_child(void (*test)(void))
{
    pid_t pid = fork();
    int status;

    CHECK(pid >= 0);
    if (pid == 0) {
        test();
        exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void unprivileged(void)
{
    struct cred cred;
    struct fuse_req req = request(FUSE_MKNOD, 0, 0);
    int dir = make_dir("unprivileged", 0777, 0);

    CHECK(setgroups(0, NULL) == 0 && setresgid(USER, USER, USER) == 0);
    CHECK(setresuid(USER, USER, USER) == 0);
    CHECK(cred_init(&cred) == 0);
    CHECK(!cred.privileged && !cred.fsetid);
    req.arg.mknod.mode = S_IFREG | 0644;
    CHECK(make_file(&cred, &req, dir, "file") == 0);
    CHECK(stat_of("unprivileged/file").st_uid == USER);
    cred_fsetid(&cred, true);
    CHECK(!cred.fsetid);
    atomic_store(&local.fs.features, FUSE_DONT_MASK);
    req.arg.mknod.umask = 077;
    CHECK(make_file(&cred, &req, dir, "masked") == 0);
    CHECK(stat_of("unprivileged/masked").st_mode == (S_IFREG | 0600));
}

/* Whatever the way, a caller has the caller's rights and the daemon its own afterwards. */
static void becomes_and_returns(struct cred *cred, int dir)
{
    static const uint32_t callers[] = {2000, 0, 3000};
    uint64_t before = effective();
    char name[32];

    for (size_t i = 0; i < sizeof(callers) / sizeof(callers[0]); i++) {
        struct fuse_req req = request(FUSE_MKNOD, callers[i], GROUP);
        struct stat st;

        req.arg.mknod.mode = S_IFREG | 0644;
        snprintf(name, sizeof(name), "file-%u", callers[i]);
        CHECK(make_file(cred, &req, dir, name) == 0);
        CHECK(fstatat(dir, name, &st, 0) == 0);
        CHECK(st.st_uid == callers[i] && st.st_gid == GROUP);
        CHECK(cred_become(cred, &req) == 0);
        CHECK(callers[i] == 0 || effective() == UINT64_C(1) << CAP_DAC_OVERRIDE);
        cred_restore(cred);
        CHECK(effective() == before);
        CHECK(unlinkat(dir, name, 0) == 0);
        is_daemon(cred);
    }
}

/* A service that was given capabilities and a user of its own. */
static void capable_user(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    struct cred cred;
    int dir = make_dir("capable", 0777, 0);

    CHECK(syscall(SYS_capget, &header, data) == 0);
    CHECK(prctl(PR_SET_KEEPCAPS, 1) == 0);
    CHECK(setresgid(USER, USER, USER) == 0 && setresuid(USER, USER, USER) == 0);
    data[0].effective = data[0].permitted;
    data[1].effective = data[1].permitted;
    CHECK(syscall(SYS_capset, &header, data) == 0);
    CHECK(prctl(PR_SET_KEEPCAPS, 0) == 0);
    CHECK(cred_init(&cred) == 0);
    CHECK(cred.privileged && cred.set_caps && cred.fsetid);
    becomes_and_returns(&cred, dir);
    cred_fsetid(&cred, false);
    becomes_and_returns(&cred, dir);
    CHECK(!cred.fsetid && !has_cap(CAP_FSETID));
}

static void no_fixup(void)
{
    struct cred cred;
    int dir = make_dir("no-fixup", 0777, 0);

    CHECK(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) == 0);
    CHECK(cred_init(&cred) == 0);
    CHECK(cred.privileged && cred.set_caps);
    becomes_and_returns(&cred, dir);
}

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return written;
}

/* Root of a namespace whose ids 0 to 65535 are the host's from 100000 on. */
static void namespace_root(void)
{
    struct cred cred;
    struct fuse_req req = request(FUSE_MKNOD, USER, GROUP);
    int to_parent[2], to_child[2], dir = make_dir("namespace", 0777, 0);
    pid_t child;
    char byte, path[64];
    int status;

    CHECK(pipe2(to_parent, O_CLOEXEC) == 0 && pipe2(to_child, O_CLOEXEC) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child > 0) {
        close(to_parent[1]); /* or a child that dies early would leave this waiting */
        CHECK(read(to_parent[0], &byte, 1) == 1);
        snprintf(path, sizeof(path), "/proc/%d/uid_map", child);
        CHECK(write_file(path, "0 100000 65536"));
        snprintf(path, sizeof(path), "/proc/%d/gid_map", child);
        CHECK(write_file(path, "0 100000 65536"));
        CHECK(write(to_child[1], "", 1) == 1);
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        CHECK(stat_of("namespace/file").st_uid == 100000 + USER);
        CHECK(stat_of("namespace/file").st_gid == 100000 + GROUP);
        return;
    }
    CHECK(unshare(CLONE_NEWUSER) == 0);
    CHECK(write(to_parent[1], "", 1) == 1 && read(to_child[0], &byte, 1) == 1);
    CHECK(setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0);
    CHECK(cred_init(&cred) == 0);
    CHECK(cred.privileged && cred.set_groups && !cred.set_caps);
    req.arg.mknod.mode = S_IFREG | 0644;
    CHECK(make_file(&cred, &req, dir, "file") == 0);
    is_daemon(&cred);
    req = request(FUSE_MKNOD, 70000, GROUP); /* not mapped: refused, and nothing has changed */
    CHECK(make_file(&cred, &req, dir, "stranger") == -EINVAL);
    is_daemon(&cred);
    exit(0);
}

/* In a process of its own, which ends with the namespace it has made. */
static bool has_namespaces(void)
{
    return system("unshare --user true 2>/dev/null") == 0;
}

/* ---- */

static void *serve(void *arg)
{
    int *pipes = arg;
    struct cred cred;
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, bystander, pipes) == 0);
    CHECK(cred_init(&cred) == 0);
    CHECK(cred.privileged && cred.fsetid && cred.set_groups && cred.own_umask && !cred.set_caps);
    set_id_bits(&cred);
    files_belong_to_caller(&cred);
    groups(&cred);
    setgid_directories(&cred);
    umasks(&cred, "masks");
    shared_umask(&cred);
    other_threads(&cred, thread, pipes[1]);
    return NULL;
}

int main(void)
{
    static const gid_t daemon_group = 4;
    int pipes[2];
    pthread_t thread;

    if (geteuid() != 0)
        SKIP("only root can become somebody else");
    CHECK(system("rm -rf cred-scratch") == 0);
    CHECK(mkdir(scratch, 0755) == 0);
    dirfd = open(scratch, O_PATH | O_DIRECTORY | O_CLOEXEC);
    umask(022);
    CHECK(setgroups(1, &daemon_group) == 0 && pipe2(pipes, O_CLOEXEC) == 0);
    in_child(unprivileged);
    in_child(capable_user);
    in_child(no_fixup);
    if (has_namespaces())
        in_child(namespace_root);
    CHECK(pthread_create(&thread, NULL, serve, pipes) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(system("rm -rf cred-scratch") == 0);
    if (!has_namespaces())
        SKIP("all else passed, but user namespaces cannot be made here (nor in any chroot)");
    return 0;
}
