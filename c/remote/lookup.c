/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6b: LOOKUP. In: a pinned directory and a name. Out: a node with one lookup more, or "no such
 * name", from what is known; else mail. Queue thread.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "../clock.h"
#include "names.h"
#include "wire.h"

/* The node with one lookup more, pinned, and attributes that are valid; NULL: to be asked for. */
static struct node *enter(struct remote *remote, const struct name_known *known, uint64_t now_ns,
                          struct ovfs_attr *attr, uint64_t *until_ns)
{
    const struct listed_name *from = &known->from;
    struct node *node;
    bool valid;

    if (known->has_listed) {
        node = node_enter(remote, known->ino, from->listed.attr.mode);
        valid = node &&
                node_listed_attr(remote, node, &from->listed, from->stamp, now_ns, attr, until_ns);
    } else {
        node = node_find(remote, known->ino, true);
        valid = node && node_attr(remote, node, now_ns, attr, until_ns);
    }
    if (node && !valid) {
        node_uncount(remote, node);
        node_unpin(remote, node);
        return NULL;
    }
    return node;
}

static int reply_none(struct fuse_req *req, uint64_t until_ns, uint64_t now_ns)
{
    struct fuse_entry_out out;

    if (!wire_no_entry(req->remote, until_ns, now_ns, &out))
        return -ENOENT;
    return fuse_req_put(req, &out, sizeof(out));
}

int remote_lookup(struct fuse_req *req)
{
    struct remote *remote = req->remote;
    uint64_t now_ns = clock_ns(), attr_until_ns;
    struct fuse_entry_out out;
    struct name_known known;
    struct ovfs_attr attr;
    struct node *node;

    if (req->inode->type != S_IFDIR)
        return -ENOTDIR;
    if (req->out.left < sizeof(out))
        return -ERANGE; /* asked before a lookup is counted */
    switch (names_find(remote, node_of(req->inode), req->name[0], strlen(req->name[0]), now_ns,
                       &known)) {
    case NAME_UNKNOWN:
        return mail_post(req);
    case NAME_NONE:
        return reply_none(req, known.until_ns, now_ns);
    case NAME_IS:
        break;
    }
    node = enter(remote, &known, now_ns, &attr, &attr_until_ns);
    if (!node)
        return mail_post(req);
    wire_entry(remote, node, &attr, attr_until_ns, known.until_ns, now_ns, &out);
    node_unpin(remote, node);
    return fuse_req_put(req, &out, sizeof(out));
}
