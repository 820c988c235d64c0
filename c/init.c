/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: INIT and DESTROY, a session's first and last request. Queue thread.
 *
 * DESIGN. A feature is in force when the client offers it and a row of the table below wants it
 * under the options; nothing else is. Not in the table, on purpose:
 *
 *   HANDLE_KILLPRIV      V2 says in each request whether set-id bits go; without it the client
 *                        clears them itself, which is right as well
 *   EXPORT_SUPPORT       would promise that "." and ".." of any node can be looked up
 *   NO_OPEN(DIR)_SUPPORT only matter to a server that answers OPEN with ENOSYS
 *   MAP_ALIGNMENT, HAS_INODE_DAX   there is no DAX window
 *   SPLICE_*, PASSTHROUGH, HAS_RESEND, HAS_EXPIRE_ONLY   need /dev/fuse or notifications
 *   ALLOW_IDMAP          owners would arrive as -1 on all but creating requests
 */
#include <errno.h>

#include "fs.h"
#include "fuse_req.h"

enum {
    OLDEST_MINOR = 27,       /* Linux 5.0; virtio-fs itself came with 5.4 */
    MAX_WRITE = 1 << 20,     /* larger ones gain nothing and hold a queue up for longer */
    MAX_PAGES = 256,         /* MAX_WRITE in pages of 4 KiB: reads are bounded by this alone */
    MAX_BACKGROUND = 0xffff, /* the client's default of 12 would starve read-ahead, write-back and
                              * asynchronous direct I/O; the ring's size is the real bound */
    CONGESTION_THRESHOLD = MAX_BACKGROUND / 4 * 3,
};

static bool always(const struct ovfs_options *options)
{
    (void)options;
    return true;
}

/* Listings come with attributes: worthless where the client may keep none. */
static bool names_cached(const struct ovfs_options *options)
{
    return options->cache != OVFS_CACHE_NEVER;
}

static bool data_cached(const struct ovfs_options *options)
{
    return options->cache == OVFS_CACHE_AUTO || options->cache == OVFS_CACHE_ALWAYS;
}

static bool data_direct(const struct ovfs_options *options)
{
    return !data_cached(options);
}

/* Cached pages stand until mtime or size change on the host (of an object, always: others write
 * objects as well) ... */
static bool data_checked(const struct ovfs_options *options)
{
    return options->remote || options->cache != OVFS_CACHE_ALWAYS;
}

/* ... or, where only this guest changes files, for good. */
static bool data_kept(const struct ovfs_options *options)
{
    return !data_checked(options);
}

static bool writeback(const struct ovfs_options *options)
{
    return !options->remote && options->writeback && !options->readonly && data_cached(options);
}

static bool xattr(const struct ovfs_options *options)
{
    return options->xattr;
}

/* What only a directory of the host has. */
static bool of_host(const struct ovfs_options *options)
{
    return !options->remote;
}

static bool labels(const struct ovfs_options *options)
{
    return of_host(options) && options->xattr;
}

static bool posix_lock(const struct ovfs_options *options)
{
    return of_host(options) && options->posix_lock;
}

static bool flock_lock(const struct ovfs_options *options)
{
    return of_host(options) && options->flock;
}

static const struct {
    uint64_t flag;
    bool (*wanted)(const struct ovfs_options *options);
} features[] = {
    {FUSE_ASYNC_READ, always},
    {FUSE_BIG_WRITES, always},
    {FUSE_MAX_PAGES, always},
    {FUSE_INIT_EXT, always},
    {FUSE_ASYNC_DIO, always},
    {FUSE_PARALLEL_DIROPS, always},
    {FUSE_ATOMIC_O_TRUNC, always},
    {FUSE_HAS_IOCTL_DIR, always},
    {FUSE_SUBMOUNTS, of_host},
    {FUSE_CREATE_SUPP_GROUP, of_host},
    /* with write-back too: the client then writes through where a file has set-id bits */
    {FUSE_HANDLE_KILLPRIV_V2, always},
    {FUSE_DO_READDIRPLUS, names_cached},
    {FUSE_READDIRPLUS_AUTO, names_cached},
    {FUSE_CACHE_SYMLINKS, names_cached},
    {FUSE_WRITEBACK_CACHE, writeback},
    {FUSE_AUTO_INVAL_DATA, data_checked},
    {FUSE_EXPLICIT_INVAL_DATA, data_kept},
    {FUSE_DIRECT_IO_ALLOW_MMAP, data_direct}, /* or MAP_SHARED would fail on every file */
    {FUSE_SETXATTR_EXT, xattr},
    {FUSE_SECURITY_CTX, labels},
    {FUSE_POSIX_LOCKS, posix_lock},
    {FUSE_FLOCK_LOCKS, flock_lock},
};

/* Access control lists need all three: a default list takes the umask's place, so the umask must
 * come with the request, and setting a list may clear the set-group-id bit. */
static uint64_t acl_features(const struct ovfs_options *options, uint64_t offered)
{
    const uint64_t needed = FUSE_POSIX_ACL | FUSE_DONT_MASK | FUSE_SETXATTR_EXT;

    if (options->remote || !options->posix_acl || !options->xattr || (offered & needed) != needed)
        return 0;
    return needed;
}

static uint64_t negotiate(const struct ovfs_options *options, const struct fuse_init_in *in)
{
    uint64_t offered = in->flags, wanted = acl_features(options, offered);
    size_t i;

    if (offered & FUSE_INIT_EXT)
        offered |= (uint64_t)in->flags2 << 32;
    for (i = 0; i < sizeof(features) / sizeof(features[0]); i++)
        if (features[i].wanted(options))
            wanted |= features[i].flag;
    return wanted & offered;
}

static void fill_reply(const struct fuse_init_in *in, uint64_t flags, struct fuse_init_out *out)
{
    out->max_readahead = in->max_readahead;
    out->flags = (uint32_t)flags;
    out->flags2 = (uint32_t)(flags >> 32);
    out->max_background = MAX_BACKGROUND;
    out->congestion_threshold = CONGESTION_THRESHOLD;
    out->max_write = MAX_WRITE;
    out->max_pages = MAX_PAGES;
    out->time_gran = 1; /* the host's file systems keep nanoseconds, or round by themselves */
}

int fs_init(struct fuse_req *req)
{
    const struct fuse_init_in *in = &req->arg.init;
    struct fs *fs = req->fs;
    struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION};
    uint64_t flags;

    fs_reset(fs); /* whoever says INIT knows nothing: a guest that has booted again */
    if (in->major < FUSE_KERNEL_VERSION ||
        (in->major == FUSE_KERNEL_VERSION && in->minor < OLDEST_MINOR)) {
        event_log_guest(fs->log, OVFS_EVENT_ERROR,
                        "the guest speaks FUSE %u.%u; 7.%d (Linux 5.0) is the oldest that works",
                        in->major, in->minor, OLDEST_MINOR);
        return -EPROTO;
    }
    if (in->major > FUSE_KERNEL_VERSION) /* the client goes down to our major and asks again */
        return fuse_req_put(req, &out, sizeof(out));
    flags = negotiate(&fs->options, in);
    fill_reply(in, flags, &out);
    atomic_store(&fs->features, flags);
    atomic_store(&fs->minor, in->minor);
    event_log_guest(fs->log, OVFS_EVENT_DEBUG, "the guest speaks FUSE %u.%u, features 0x%llx",
                    in->major, in->minor, (unsigned long long)flags);
    return fuse_req_put(req, &out, sizeof(out));
}

int fs_destroy(struct fuse_req *req)
{
    fs_reset(req->fs);
    return 0;
}
