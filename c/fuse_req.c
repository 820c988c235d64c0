/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 4 of 9: a chain -> a request. In: the descriptors of one chain. Out: private, checked copies
 * of header, arguments and names; what is left of the chain is data. Queue thread.
 */
#include "fuse_req.h"

#include <errno.h>
#include <string.h>

#include "dispatch.h"
#include "queue.h"

enum { NAME_LEN_MAX = 255, TARGET_LEN_MAX = 4095 };

int fuse_req_put(struct fuse_req *req, const void *payload, size_t len)
{
    if (chain_write(&req->out, payload, len) < 0)
        return -ERANGE;
    req->out_len += (uint32_t)len;
    return 0;
}

/* The reply's header has its place noted before a handler consumes the room behind it. */
static int take_reply_header(struct fuse_req *req)
{
    if (req->out.left < sizeof(struct fuse_out_header))
        return -EINVAL;
    req->reply_header_count =
        (uint8_t)chain_take(&req->out, sizeof(struct fuse_out_header), req->reply_header);
    return 0;
}

/* SETXATTR's fixed part is longer where FUSE_SETXATTR_EXT was negotiated; INIT's where the client
 * is newer than 7.36. The others come whole: clients before 7.27 are refused by INIT. */
static size_t arg_size(const struct fuse_req *req, uint64_t features)
{
    const struct fuse_op *op = req->op;

    if (req->in_header.opcode == FUSE_SETXATTR && features & FUSE_SETXATTR_EXT)
        return op->arg_size;
    if (req->in_header.opcode == FUSE_INIT && req->in.left >= op->arg_size)
        return op->arg_size;
    return op->arg_min;
}

static int read_arg(struct fuse_req *req, uint64_t features)
{
    size_t size = arg_size(req, features);

    memset(&req->arg, 0, req->op->arg_size);
    return size > 0 && chain_read(&req->in, &req->arg, size) < 0 ? -EINVAL : 0;
}

static int check_name(const char *name, size_t len)
{
    if (len == 0)
        return -ENOENT;
    if (len > NAME_LEN_MAX)
        return -ENAMETOOLONG;
    if (memchr(name, '/', len) || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return -EINVAL;
    return 0;
}

/* Take one NUL-terminated string of at most max bytes off the chain into buf (max + 2 bytes). */
static int read_string(struct fuse_req *req, char *buf, size_t max, size_t *len)
{
    size_t there = chain_peek(&req->in, buf, max + 2);

    *len = strnlen(buf, there);
    if (*len > max)
        return -ENAMETOOLONG;
    if (*len == there)
        return -EINVAL; /* no NUL before the end of the request */
    chain_skip(&req->in, *len + 1);
    return 0;
}

static int read_names(struct fuse_req *req)
{
    char *buf = queue_names(req->queue);

    for (unsigned i = 0; i < req->op->names; i++) {
        bool target = i == 1 && req->op->flags & OP_TARGET;
        size_t max = target ? TARGET_LEN_MAX : NAME_LEN_MAX;
        size_t len;
        int err = read_string(req, buf, max, &len);

        if (err == 0 && target)
            err = len == 0 ? -ENOENT : 0;
        else if (err == 0 && req->op->flags & OP_FREE_NAME)
            err = len == 0 ? -ERANGE : 0; /* what the host says of an attribute without a name */
        else if (err == 0)
            err = check_name(buf, len);
        if (err < 0)
            return err;
        req->name[i] = buf;
        buf += max + 2;
    }
    return 0;
}

/* FUSE_SECURITY_CTX: a count of contexts, each with its attribute's name and value. Linux sends
 * one at most; more than that we would have to drop, so it is refused. */
static int parse_secctx(struct fuse_req_ext *ext, const char *at, size_t size, uint32_t count)
{
    struct fuse_secctx secctx;
    size_t name_len;

    if (count == 0)
        return 0;
    if (count > 1 || size < sizeof(secctx))
        return -EINVAL;
    memcpy(&secctx, at, sizeof(secctx));
    at += sizeof(secctx);
    size -= sizeof(secctx);
    name_len = strnlen(at, size);
    if (name_len == size || name_len > NAME_LEN_MAX || secctx.size > size - name_len - 1)
        return -EINVAL;
    if (secctx.size == 0)
        return 0; /* the guest's security module has no label for this object */
    if (name_len == 0)
        return -EINVAL;
    ext->secctx_name = at;
    ext->secctx = at + name_len + 1;
    ext->secctx_len = secctx.size;
    return 0;
}

/* FUSE_EXT_GROUPS: Linux sends the one group of the caller that the parent directory belongs to. */
static int parse_groups(struct fuse_req_ext *ext, const char *at, size_t size)
{
    struct fuse_supp_groups groups;

    if (size < sizeof(groups))
        return -EINVAL;
    memcpy(&groups, at, sizeof(groups));
    if (groups.nr_groups > 1 || size - sizeof(groups) < groups.nr_groups * sizeof(uint32_t))
        return -EINVAL;
    if (groups.nr_groups == 1) {
        ext->has_group = true;
        memcpy(&ext->group, at + sizeof(groups), sizeof(ext->group));
    }
    return 0;
}

/* What may follow the names of a creating request: blocks of {size, type}. Types up to
 * FUSE_MAX_NR_SECCTX are a count of security contexts. */
static int read_ext(struct fuse_req *req)
{
    char *at = queue_ext(req->queue);
    size_t left = req->in.left;

    if (left > QUEUE_EXT)
        return -EINVAL;
    chain_read(&req->in, at, left);
    while (left >= sizeof(struct fuse_ext_header)) {
        struct fuse_ext_header header;
        const char *body = at + sizeof(header);
        int err = 0;

        memcpy(&header, at, sizeof(header));
        if (header.size < sizeof(header) || header.size > left)
            return -EINVAL;
        if (header.type <= FUSE_MAX_NR_SECCTX)
            err = parse_secctx(&req->ext, body, header.size - sizeof(header), header.type);
        else if (header.type == FUSE_EXT_GROUPS)
            err = parse_groups(&req->ext, body, header.size - sizeof(header));
        if (err < 0)
            return err;
        at += header.size;
        left -= header.size;
    }
    return 0;
}

int fuse_req_parse(struct fuse_req *req, uint64_t features)
{
    int err;

    req->op = NULL;
    req->name[0] = req->name[1] = NULL;
    req->ext = (struct fuse_req_ext){0};
    req->out_len = 0;
    req->mail_flags = 0;
    req->mail_retried = false;
    req->reply_header_count = 0;
    req->in_header.unique = 0;
    if (req->in.left < sizeof(req->in_header))
        return -EBADMSG;
    chain_read(&req->in, &req->in_header, sizeof(req->in_header));
    req->op = fuse_op(req->in_header.opcode);
    if (!req->op || !(req->op->flags & OP_NO_REPLY)) {
        err = take_reply_header(req);
        if (err < 0)
            return -EBADMSG;
    }
    if (!req->op)
        return -ENOSYS;
    if (req->in_header.len < sizeof(req->in_header) ||
        req->in_header.len - sizeof(req->in_header) > req->in.left)
        return -EINVAL; /* a header that lies about the request's length */
    chain_limit(&req->in, req->in_header.len - sizeof(req->in_header));
    err = read_arg(req, features);
    if (err == 0 && req->op->names > 0)
        err = read_names(req);
    if (err == 0 && req->op->flags & OP_EXT && req->in.left > 0)
        err = read_ext(req);
    return err;
}
