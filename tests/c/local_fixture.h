/* SPDX-License-Identifier: Apache-2.0
 *
 * A file system on a fresh directory below the working directory, without any queue.
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "local/local.h"

struct fixture {
    char dir[32];
    int dirfd; /* real */
    int events[2];
    struct event_log log;
    struct local *local;
    struct inode *root; /* pinned */
};

static inline struct ovfs_options fixture_options(void)
{
    return (struct ovfs_options){
        .cache = OVFS_CACHE_AUTO,
        .attr_timeout_ns = 1500000000,
        .entry_timeout_ns = 2000000001,
        .xattr = 1,
        .file_handles = OVFS_HANDLES_PREFER,
        .queues = 2,
        .fd_cache = 64,
    };
}

static inline void fixture_new(struct fixture *fixture, struct ovfs_options options)
{
    char why[200] = "";

    strcpy(fixture->dir, "shared.XXXXXX");
    CHECK(mkdtemp(fixture->dir));
    fixture->dirfd = open(fixture->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(fixture->dirfd >= 0 && pipe2(fixture->events, O_CLOEXEC | O_NONBLOCK | O_DIRECT) == 0);
    fixture->log = (struct event_log){.fd = fixture->events[1]};
    options.root_fd = open(fixture->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    options.event_fd = fixture->events[1];
    if (local_new(&options, &fixture->log, &fixture->local, why, sizeof(why)) < 0) {
        fprintf(stderr, "local_new: %s\n", why);
        exit(1);
    }
    close(options.root_fd);
    fixture->root = inode_pin(fixture->local->fs.inodes, FUSE_ROOT_ID);
    CHECK(fixture->root);
}

static inline void fixture_free(struct fixture *fixture)
{
    inode_unpin(fixture->local->fs.inodes, fixture->root);
    local_free(fixture->local);
    close(fixture->dirfd);
    close(fixture->events[0]);
    close(fixture->events[1]);
}

static inline void fixture_file(const struct fixture *fixture, const char *name, const char *text)
{
    int fd = openat(fixture->dirfd, name, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);

    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

/* Whether the log has a line with this text since the last look; reads all of it. */
static inline int fixture_logged(struct fixture *fixture, const char *text)
{
    struct ovfs_event event;
    int found = 0;

    while (read(fixture->events[0], &event, sizeof(event)) > 0)
        found += strstr(event.text, text) != NULL;
    return found;
}

/* A lookup that must succeed: the node, pinned. */
static inline struct inode *fixture_lookup(struct fixture *fixture, const char *name,
                                           struct fuse_entry_out *out)
{
    struct inode *inode;

    CHECK(lookup_name(fixture->local, fixture->root, name, out) == 0);
    inode = inode_pin(fixture->local->fs.inodes, out->nodeid);
    CHECK(inode);
    return inode;
}

static inline unsigned fixture_open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    CHECK(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n - 3; /* ".", ".." and the directory's own */
}
