/* SPDX-License-Identifier: Apache-2.0
 * Description: what INIT agrees to under each option, and with older and newer clients. */
#include "local_fixture.h"

static struct fuse_init_out reply;

static int init(struct fixture *fixture, uint32_t major, uint32_t minor, uint64_t flags)
{
    struct iovec iov = {&reply, sizeof(reply)};
    struct fuse_req req = {
        .local = fixture->local,
        .out = {&iov, 1, sizeof(reply)},
        .arg.init = {.major = major,
                     .minor = minor,
                     .max_readahead = 131072,
                     .flags = (uint32_t)flags,
                     .flags2 = (uint32_t)(flags >> 32)},
    };
    int err;

    memset(&reply, 0xee, sizeof(reply));
    err = fs_init(&req);
    CHECK(err < 0 || req.out_len == sizeof(reply));
    return err;
}

static uint64_t agreed(struct ovfs_options options, uint64_t offered)
{
    struct fixture fixture;
    uint64_t flags;

    fixture_new(&fixture, options);
    CHECK(init(&fixture, 7, 41, offered) == 0);
    CHECK(reply.major == 7 && reply.minor == FUSE_KERNEL_MINOR_VERSION);
    CHECK(reply.max_write == 1 << 20 && reply.max_pages == 256 && reply.time_gran == 1);
    CHECK(reply.max_readahead == 131072 && reply.max_stack_depth == 0);
    CHECK(reply.congestion_threshold < reply.max_background);
    flags = (uint64_t)reply.flags2 << 32 | reply.flags;
    CHECK(atomic_load(&fixture.local->fs.features) == flags);
    CHECK(atomic_load(&fixture.local->fs.minor) == 41);
    fixture_free(&fixture);
    return flags;
}

static void only_what_is_offered(void)
{
    struct ovfs_options options = fixture_options();

    CHECK(agreed(options, 0) == 0);
    CHECK(agreed(options, FUSE_MAX_PAGES) == FUSE_MAX_PAGES);
    /* flags2 means nothing without INIT_EXT */
    CHECK(agreed(options, FUSE_SECURITY_CTX) == 0);
    CHECK(agreed(options, FUSE_SECURITY_CTX | FUSE_INIT_EXT) ==
          (FUSE_SECURITY_CTX | FUSE_INIT_EXT));
}

static void options_decide(void)
{
    struct ovfs_options options = fixture_options();
    const uint64_t cached = FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_CACHE_SYMLINKS;
    const uint64_t acl = FUSE_POSIX_ACL | FUSE_DONT_MASK;
    const uint64_t locks = FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS;
    const uint64_t never = FUSE_EXPORT_SUPPORT | FUSE_NO_OPEN_SUPPORT | FUSE_MAP_ALIGNMENT |
                           FUSE_HAS_INODE_DAX | FUSE_PASSTHROUGH | FUSE_HAS_EXPIRE_ONLY |
                           FUSE_HANDLE_KILLPRIV | FUSE_ALLOW_IDMAP | FUSE_HAS_RESEND;
    uint64_t flags = agreed(options, UINT64_MAX);

    CHECK((flags & cached) == cached && flags & FUSE_HANDLE_KILLPRIV_V2);
    CHECK(!(flags & (acl | locks | never | FUSE_WRITEBACK_CACHE | FUSE_DIRECT_IO_ALLOW_MMAP)));
    CHECK(flags & FUSE_AUTO_INVAL_DATA && !(flags & FUSE_EXPLICIT_INVAL_DATA));
    CHECK(flags & FUSE_SECURITY_CTX && flags & FUSE_SUBMOUNTS && flags & FUSE_CREATE_SUPP_GROUP);
    options.writeback = options.posix_acl = options.posix_lock = options.flock = 1;
    options.cache = OVFS_CACHE_ALWAYS;
    flags = agreed(options, UINT64_MAX);
    CHECK((flags & acl) == acl && (flags & locks) == locks && flags & FUSE_WRITEBACK_CACHE);
    CHECK(!(flags & FUSE_AUTO_INVAL_DATA) && flags & FUSE_EXPLICIT_INVAL_DATA);
    CHECK(!(agreed(options, UINT64_MAX & ~FUSE_DONT_MASK) & FUSE_POSIX_ACL));
    options.xattr = 0;
    flags = agreed(options, UINT64_MAX);
    CHECK(!(flags & (acl | FUSE_SECURITY_CTX | FUSE_SETXATTR_EXT)));
    options.cache = OVFS_CACHE_NEVER;
    flags = agreed(options, UINT64_MAX);
    CHECK(!(flags & (cached | FUSE_WRITEBACK_CACHE)) && flags & FUSE_DIRECT_IO_ALLOW_MMAP);
}

static void versions(void)
{
    struct fixture fixture;

    fixture_new(&fixture, fixture_options());
    CHECK(init(&fixture, 7, 26, 0) == -EPROTO && fixture_logged(&fixture, "7.26"));
    CHECK(init(&fixture, 6, 99, 0) == -EPROTO);
    CHECK(atomic_load(&fixture.local->fs.minor) == 0);
    CHECK(init(&fixture, 8, 0, UINT64_MAX) == 0 && reply.major == 7 && reply.flags == 0);
    CHECK(atomic_load(&fixture.local->fs.minor) == 0); /* the client has to ask again */
    CHECK(init(&fixture, 7, 27, FUSE_ASYNC_READ) == 0 && reply.flags == FUSE_ASYNC_READ);
    CHECK(atomic_load(&fixture.local->fs.minor) == 27);
    fixture_free(&fixture);
}

static void a_second_init_is_a_new_session(void)
{
    struct fuse_entry_out out;
    struct fixture fixture;
    struct fuse_req destroy;

    fixture_new(&fixture, fixture_options());
    fixture_file(&fixture, "file", "");
    CHECK(init(&fixture, 7, 41, 0) == 0);
    CHECK(lookup_name(fixture.local, fixture.root, "file", &out) == 0);
    CHECK(init(&fixture, 7, 41, 0) == 0);
    CHECK(!inode_pin(fixture.local->fs.inodes, out.nodeid));
    CHECK(lookup_name(fixture.local, fixture.root, "file", &out) == 0);
    destroy = (struct fuse_req){.local = fixture.local};
    CHECK(fs_destroy(&destroy) == 0);
    CHECK(!inode_pin(fixture.local->fs.inodes, out.nodeid));
    CHECK(atomic_load(&fixture.local->fs.minor) == 0);
    fixture_free(&fixture);
}

int main(void)
{
    only_what_is_offered();
    options_decide();
    versions();
    a_second_init_is_a_new_session();
    return 0;
}
