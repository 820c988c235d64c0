/* SPDX-License-Identifier: Apache-2.0
 *
 * Drives the handlers of the fs:// backend directly: a struct local on a scratch directory, a
 * queue that has no ring, and requests that go through dispatch as on a queue.
 *
 *     handler_begin(NULL);
 *     struct fuse_req req = request(FUSE_MKDIR, FUSE_ROOT_ID, "name", NULL);
 *     req.arg.mkdir.mode = 0755;
 *     CHECK(run(&req) == 0);
 *     struct fuse_entry_out *entry = reply();
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "dispatch.h"
#include "local/local.h"
#include "queue.h"

enum { HANDLER_ROOM = 1 << 16 };

static struct local *local;
static struct queue queue;
static int root = -1; /* the scratch directory, O_PATH */

static struct event_log handler_log;
static struct queue_arena handler_arena;
static char handler_reply[HANDLER_ROOM];
static struct iovec handler_iov;
static size_t handler_room = HANDLER_ROOM; /* for the reply's payload */

static void handler_clean(void)
{
    char command[] = "rm -rf handler-scratch";

    if (system(command) != 0)
        fprintf(stderr, "handler-scratch is left behind\n");
}

/* options: NULL for the usual ones; root_fd and event_fd are set here. */
__attribute__((unused)) static void handler_begin(const struct ovfs_options *options)
{
    static char scratch[QUEUE_SCRATCH];
    struct ovfs_options used = options ? *options
                                       : (struct ovfs_options){
                                             .cache = OVFS_CACHE_AUTO,
                                             .attr_timeout_ns = 1500000000,
                                             .entry_timeout_ns = 2000000000,
                                             .xattr = 1,
                                             .file_handles = OVFS_HANDLES_PREFER,
                                             .queues = 2,
                                             .fd_cache = 64,
                                         };
    char why[256] = "";

    handler_clean();
    umask(0);
    CHECK(mkdir("handler-scratch", 0755) == 0);
    root = open("handler-scratch", O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK(root >= 0);
    used.root_fd = root;
    used.event_fd = -1;
    handler_log.fd = -1;
    if (local_new(&used, &handler_log, &local, why, sizeof(why)) < 0) {
        fprintf(stderr, "local_new: %s\n", why);
        exit(1);
    }
    handler_arena.scratch = scratch;
    queue.arena = &handler_arena;
    CHECK(cred_init(&queue.cred) == 0);
    atomic_store(&local->fs.minor, 41);
    atomic_store(&local->fs.features, FUSE_CREATE_SUPP_GROUP | FUSE_HANDLE_KILLPRIV_V2);
}

__attribute__((unused)) static void handler_end(void)
{
    local_free(local);
    close(root);
    handler_clean();
}

__attribute__((unused)) static struct fuse_req request(uint32_t opcode, uint64_t nodeid,
                                                       const char *name0, const char *name1)
{
    return (struct fuse_req){
        .queue = &queue,
        .local = local,
        .op = fuse_op(opcode),
        .in_header = {.opcode = opcode, .nodeid = nodeid},
        .name = {name0, name1},
    };
}

/* Answered by the handler itself: 0 or -errno. req->out_len bytes are in reply(). */
__attribute__((unused)) static int run(struct fuse_req *req)
{
    int result;

    handler_iov = (struct iovec){handler_reply, handler_room};
    req->out = (struct chain){.iov = &handler_iov, .count = 1, .left = handler_room};
    req->out_len = 0;
    result = dispatch(req);
    CHECK(result <= 0);
    dispatch_done(req);
    return result;
}

__attribute__((unused)) static void *reply(void)
{
    return handler_reply;
}

/* The node of a name, looked up once; 0: there is none. */
__attribute__((unused)) static uint64_t lookup(uint64_t dir, const char *name)
{
    struct fuse_req req = request(FUSE_LOOKUP, dir, name, NULL);
    struct fuse_entry_out *entry = reply();
    int err = run(&req);

    CHECK(err == 0 || err == -ENOENT);
    return err == 0 ? entry->nodeid : 0;
}

__attribute__((unused)) static void forget(uint64_t nodeid)
{
    inode_forget(local->fs.inodes, nodeid, 1);
}

/* GETATTR by node: 0 or -errno. */
__attribute__((unused)) static int getattr(uint64_t nodeid, struct fuse_attr *attr)
{
    struct fuse_req req = request(FUSE_GETATTR, nodeid, NULL, NULL);
    int err = run(&req);

    if (err == 0) {
        CHECK(req.out_len == sizeof(struct fuse_attr_out));
        *attr = ((struct fuse_attr_out *)reply())->attr;
    }
    return err;
}

/* What the host says of a name below the scratch directory. */
__attribute__((unused)) static struct stat host(const char *path)
{
    struct stat st;

    CHECK(fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) == 0);
    return st;
}

__attribute__((unused)) static bool exists(const char *path)
{
    return faccessat(root, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

__attribute__((unused)) static void host_file(const char *path, mode_t mode)
{
    int fd = openat(root, path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);

    CHECK(fd >= 0 && fchmod(fd, mode) == 0 && close(fd) == 0);
}
