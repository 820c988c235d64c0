/* SPDX-License-Identifier: Apache-2.0 */
/* Description: a request is taken apart into checked copies, and what lies about itself is refused;
 * then 200,000 seeded random requests, whose result must keep the promises of fuse_req.h. */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "dispatch.h"
#include "fuse_req.h"
#include "queue.h"

static char names[QUEUE_NAMES], ext[QUEUE_EXT], scratch[QUEUE_SCRATCH];
static struct queue_arena arena = {.names = names, .ext = ext, .scratch = scratch};
static struct queue queue = {.arena = &arena};

struct message {
    char in[65536];
    size_t in_len;
    char out[8192];
    size_t out_len;
    struct iovec iovs[FUSE_REQ_IOVS];
    struct fuse_req req;
};

static struct message message;

static void begin(uint32_t opcode)
{
    struct fuse_in_header header = {.opcode = opcode, .unique = 7, .nodeid = 1};

    memset(&message.req, 0, sizeof(message.req));
    memcpy(message.in, &header, sizeof(header));
    message.in_len = sizeof(header);
    message.out_len = sizeof(message.out);
}

static void add(const void *bytes, size_t len)
{
    memcpy(message.in + message.in_len, bytes, len);
    message.in_len += len;
}

/* Cut both halves into pieces of `step` bytes and parse; len: what the header says, 0: the truth.
 */
static int parse(size_t step, uint32_t len, uint64_t features)
{
    struct fuse_req *req = &message.req;
    uint32_t count = 0;

    ((struct fuse_in_header *)message.in)->len = len ? len : (uint32_t)message.in_len;
    req->queue = &queue;
    req->iov = message.iovs;
    req->in = (struct chain){.iov = req->iov, .left = message.in_len};
    for (size_t at = 0; at < message.in_len; at += step, req->in.count++)
        message.iovs[count++] = (struct iovec){
            message.in + at, message.in_len - at < step ? message.in_len - at : step};
    req->out = (struct chain){.iov = req->iov + count, .left = message.out_len};
    for (size_t at = 0; at < message.out_len; at += step * 8, req->out.count++)
        message.iovs[count++] = (struct iovec){
            message.out + at, message.out_len - at < step * 8 ? message.out_len - at : step * 8};
    CHECK(count <= FUSE_REQ_IOVS);
    return fuse_req_parse(req, features);
}

static int lookup_of(const char *name, size_t len)
{
    begin(FUSE_LOOKUP);
    add(name, len);
    return parse(4096, 0, 0);
}

static void test_names(void)
{
    char longest[257];

    memset(longest, 'n', sizeof(longest));
    CHECK(lookup_of("file", 5) == 0 && strcmp(message.req.name[0], "file") == 0);
    CHECK(message.req.in.left == 0 && message.req.reply_header_count == 1);
    CHECK(lookup_of("\xff\xfe\n", 4) == 0 && strcmp(message.req.name[0], "\xff\xfe\n") == 0);
    CHECK(lookup_of("file", 4) == -EINVAL); /* no NUL */
    CHECK(lookup_of("", 1) == -ENOENT);
    CHECK(lookup_of("", 0) == -EINVAL);
    CHECK(lookup_of(".", 2) == -EINVAL && lookup_of("..", 3) == -EINVAL);
    CHECK(lookup_of("...", 4) == 0);
    CHECK(lookup_of("a/b", 4) == -EINVAL && lookup_of("/", 2) == -EINVAL);
    longest[255] = 0;
    CHECK(lookup_of(longest, 256) == 0 && strlen(message.req.name[0]) == 255);
    longest[255] = 'n';
    longest[256] = 0;
    CHECK(lookup_of(longest, 257) == -ENAMETOOLONG);
}

static void test_two_names_in_every_cut(void)
{
    struct fuse_rename2_in arg = {.newdir = 5, .flags = 1};

    for (size_t step = 1; step < 80; step++) {
        begin(FUSE_RENAME2);
        add(&arg, sizeof(arg));
        add("old\0new", 8);
        message.out_len = 100;
        CHECK(parse(step, 0, 0) == 0);
        CHECK(message.req.arg.rename2.newdir == 5 && message.req.arg.rename2.flags == 1);
        CHECK(strcmp(message.req.name[0], "old") == 0 && strcmp(message.req.name[1], "new") == 0);
    }
}

static void test_lengths_that_lie(void)
{
    struct fuse_write_in write = {.size = 4};

    begin(FUSE_WRITE);
    add(&write, sizeof(write));
    add("datatail", 8);
    CHECK(parse(64, 0, 0) == 0 && message.req.in.left == 8);
    CHECK(parse(64, (uint32_t)message.in_len - 4, 0) == 0 && message.req.in.left == 4);
    CHECK(parse(64, (uint32_t)message.in_len + 1, 0) == -EINVAL);
    CHECK(parse(64, 39, 0) == -EINVAL && parse(64, UINT32_MAX, 0) == -EINVAL);
    CHECK(parse(64, 40 + sizeof(write) - 1, 0) == -EINVAL); /* not even the fixed part */
    message.in_len = 39;
    CHECK(parse(64, 0, 0) == -EBADMSG);
    begin(FUSE_GETATTR);
    message.out_len = 15;
    CHECK(parse(64, 0, 0) == -EBADMSG); /* no room for an answer */
    begin(9999);
    CHECK(parse(64, 0, 0) == -ENOSYS && message.req.reply_header_count > 0);
    begin(FUSE_FORGET);
    message.out_len = 0;
    add("12345678", 8);
    CHECK(parse(64, 0, 0) == 0 && message.req.reply_header_count == 0);
}

static void test_setxattr_sizes(void)
{
    struct fuse_setxattr_in arg = {.size = 2};

    begin(FUSE_SETXATTR);
    add(&arg, FUSE_COMPAT_SETXATTR_IN_SIZE);
    add("user.a\0vv", 9);
    CHECK(parse(64, 0, 0) == 0 && strcmp(message.req.name[0], "user.a") == 0);
    CHECK(message.req.in.left == 2);
    begin(FUSE_SETXATTR);
    add(&arg, sizeof(arg));
    add("user.a\0vv", 9);
    CHECK(parse(64, 0, FUSE_SETXATTR_EXT) == 0 && strcmp(message.req.name[0], "user.a") == 0);
}

static int mkdir_with(const void *extension, size_t len)
{
    struct fuse_mkdir_in arg = {.mode = 0755};

    begin(FUSE_MKDIR);
    add(&arg, sizeof(arg));
    add("dir", 4);
    add(extension, len);
    return parse(10, 0, 0);
}

static void test_extensions(void)
{
    struct {
        struct fuse_ext_header header;
        struct fuse_supp_groups groups;
        uint32_t group;
    } groups = {{sizeof(groups), FUSE_EXT_GROUPS}, {1}, 1234};
    struct {
        struct fuse_secctx_header header;
        struct fuse_secctx secctx;
        char text[24];
    } secctx = {{sizeof(secctx), 1}, {5, 0}, "security.selinux\0label"};

    CHECK(mkdir_with(&groups, sizeof(groups)) == 0);
    CHECK(message.req.ext.has_group && message.req.ext.group == 1234);
    groups.groups.nr_groups = 2;
    CHECK(mkdir_with(&groups, sizeof(groups)) == -EINVAL);
    groups.groups.nr_groups = 1;
    groups.header.size = sizeof(groups) + 1;
    CHECK(mkdir_with(&groups, sizeof(groups)) == -EINVAL);
    groups.header.size = 0;
    CHECK(mkdir_with(&groups, sizeof(groups)) == -EINVAL);
    CHECK(mkdir_with(&secctx, sizeof(secctx)) == 0);
    CHECK(strcmp(message.req.ext.secctx_name, "security.selinux") == 0);
    CHECK(message.req.ext.secctx_len == 5 && memcmp(message.req.ext.secctx, "label", 5) == 0);
    secctx.secctx.size = 100;
    CHECK(mkdir_with(&secctx, sizeof(secctx)) == -EINVAL);
    CHECK(mkdir_with("1234", 4) == 0); /* too short for a block: padding */
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void test_random(void)
{
    uint64_t state = 20260101;
    unsigned parsed = 0;

    for (int round = 0; round < 200000; round++) {
        const struct fuse_req *req = &message.req;
        size_t len = random_next(&state) % 160;
        int result;

        begin((uint32_t)(random_next(&state) % 54));
        for (size_t i = 0; i < len; i++)
            message.in[message.in_len++] =
                (char)(random_next(&state) % 3 ? random_next(&state) % 5 : random_next(&state));
        message.out_len = random_next(&state) % 200;
        result = parse(1 + random_next(&state) % 64,
                       random_next(&state) % 4 ? 0 : (uint32_t)(random_next(&state) % 300),
                       random_next(&state));
        CHECK(result <= 0);
        if (result < 0)
            continue;
        parsed++;
        CHECK(req->in.left <= message.in_len);
        for (unsigned i = 0; i < req->op->names; i++) {
            CHECK(req->name[i] && strlen(req->name[i]) > 0);
            if (!(req->op->flags & (OP_FREE_NAME | OP_TARGET)))
                CHECK(!strchr(req->name[i], '/') && strlen(req->name[i]) <= 255);
        }
    }
    CHECK(parsed > 10000); /* the generator reaches behind the checks */
}

int main(void)
{
    test_names();
    test_two_names_in_every_cut();
    test_lengths_that_lie();
    test_setxattr_sizes();
    test_extensions();
    test_random();
    return 0;
}
