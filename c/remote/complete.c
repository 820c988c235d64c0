/* SPDX-License-Identifier: Apache-2.0
 *
 * Completions: the boundary's functions, as ovfs_api.h promises them. Remote thread.
 *
 * Each claims the request, enters what the control plane says into the tables, puts the reply down
 * for the queue thread, which writes it into guest memory, and hands the request back.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../clock.h"
#include "../plane.h"
#include "content.h"
#include "names.h"
#include "open.h"
#include "wire.h"

/* A claimed mail. */
struct claim {
    struct mailbox *box;
    struct mail *mail;
    struct remote *remote;
    struct fuse_req *req;
    struct mail_completion *done;
};

static bool claim(struct ovfs_plane *plane, uint64_t tag, struct claim *out)
{
    out->box = plane->fs->mailbox;
    out->remote = (struct remote *)plane->fs;
    out->mail = mail_claim(out->box, tag);
    if (!out->mail)
        return false;
    out->req = mail_req(out->mail);
    out->done = mail_completion(out->mail);
    return true;
}

/* Hand it back with an errno, or 0. */
static int finish(const struct claim *claim, int result)
{
    claim->done->answer = MAIL_RESULT;
    claim->done->result = result;
    mail_finish(claim->box, claim->mail);
    return 0;
}

/* Hand it back with what was put down. */
static int finish_reply(const struct claim *claim)
{
    claim->done->answer = MAIL_REPLY;
    mail_finish(claim->box, claim->mail);
    return 0;
}

static void put(const struct claim *claim, const void *payload, size_t len)
{
    assert(claim->done->reply_len + len <= MAIL_REPLY_MAX);
    memcpy(claim->done->reply + claim->done->reply_len, payload, len);
    claim->done->reply_len += (uint32_t)len;
}

/* ---- without nodes ---- */

int ovfs_mail_result(struct ovfs_plane *plane, uint64_t tag, int result)
{
    struct claim claimed;

    assert(result <= 0);
    return claim(plane, tag, &claimed) ? finish(&claimed, result) : -ENOENT;
}

int ovfs_mail_retry(struct ovfs_plane *plane, uint64_t tag)
{
    struct claim claimed;

    if (!claim(plane, tag, &claimed))
        return -ENOENT;
    claimed.done->answer = MAIL_RETRY;
    mail_finish(claimed.box, claimed.mail);
    return 0;
}

int ovfs_mail_written(struct ovfs_plane *plane, uint64_t tag, uint32_t size)
{
    struct fuse_write_out out = {.size = size};
    struct claim claimed;

    if (!claim(plane, tag, &claimed))
        return -ENOENT;
    put(&claimed, &out, sizeof(out));
    return finish_reply(&claimed);
}

/* Of an extended attribute or their list the guest may ask for the size alone. 0: the payload goes
 * out; otherwise it is finished. */
static bool answers_size(const struct claim *claim, size_t len)
{
    uint32_t opcode = claim->req->in_header.opcode, size = claim->req->arg.getxattr.size;
    struct fuse_getxattr_out out = {.size = (uint32_t)len};

    if (opcode != FUSE_GETXATTR && opcode != FUSE_LISTXATTR)
        return false;
    if (size == 0) {
        put(claim, &out, sizeof(out));
        finish_reply(claim);
    } else if (len > size) {
        finish(claim, -ERANGE);
    }
    return size == 0 || len > size;
}

int ovfs_mail_data(struct ovfs_plane *plane, uint64_t tag, const void *data, size_t len)
{
    struct claim claimed;

    if (!claim(plane, tag, &claimed))
        return -ENOENT;
    if (answers_size(&claimed, len))
        return 0;
    if (len <= MAIL_REPLY_MAX) {
        put(&claimed, data, len);
        return finish_reply(&claimed);
    }
    claimed.done->far = malloc(len);
    if (!claimed.done->far)
        return finish(&claimed, -ENOMEM);
    memcpy(claimed.done->far, data, len);
    claimed.done->far_len = (uint32_t)len;
    return finish_reply(&claimed);
}

/* ---- with nodes ---- */

static void say_attr(struct remote *remote, struct node *node, const struct ovfs_attr *attr,
                     uint64_t until_ns)
{
    stamp_mark(&remote->stamps, STAMP_ATTR, node_ino(node));
    node_set_attr(remote, node, attr, until_ns);
}

/* Enter node and name of an entry; the node is pinned, with one lookup more. NULL: no room. */
static struct node *enter(const struct claim *claim, const struct ovfs_entry *entry,
                          struct fuse_entry_out *out)
{
    struct remote *remote = claim->remote;
    struct node *node = node_enter(remote, entry->ino, entry->attr.mode);
    const char *name = mail_name(claim->mail);
    uint64_t now_ns = clock_ns(), until_ns;
    uint64_t entry_until_ns = clock_after(now_ns, entry->entry_valid_ns);
    struct ovfs_attr attr;

    if (!node)
        return NULL;
    say_attr(remote, node, &entry->attr, clock_after(now_ns, entry->attr_valid_ns));
    names_set(remote, node_ino(node_of(claim->req->inode)), name, strlen(name), entry->ino,
              entry_until_ns);
    node_attr(remote, node, now_ns, &attr, &until_ns);
    wire_entry(remote, node, &attr, until_ns, entry_until_ns, now_ns, out);
    return node;
}

/* There is no such name. */
static int finish_none(const struct claim *claim, uint64_t valid_ns)
{
    uint64_t now_ns = clock_ns(), until_ns = clock_after(now_ns, valid_ns);
    const char *name = mail_name(claim->mail);
    struct fuse_entry_out out;

    names_set(claim->remote, node_ino(node_of(claim->req->inode)), name, strlen(name), 0, until_ns);
    if (!wire_no_entry(claim->remote, until_ns, now_ns, &out))
        return finish(claim, -ENOENT);
    put(claim, &out, sizeof(out));
    return finish_reply(claim);
}

int ovfs_mail_entry(struct ovfs_plane *plane, uint64_t tag, const struct ovfs_entry *entry)
{
    struct fuse_entry_out out;
    struct claim claimed;
    struct node *node;

    if (!claim(plane, tag, &claimed))
        return -ENOENT;
    if (entry->ino == 0)
        return finish_none(&claimed, entry->entry_valid_ns);
    node = enter(&claimed, entry, &out);
    if (!node) {
        finish(&claimed, -ENFILE);
        return -ENFILE;
    }
    node_unpin(claimed.remote, node);
    put(&claimed, &out, sizeof(out));
    return finish_reply(&claimed);
}

int ovfs_mail_attr(struct ovfs_plane *plane, uint64_t tag, const struct ovfs_attr *attr,
                   uint64_t valid_ns)
{
    uint64_t now_ns = clock_ns(), until_ns;
    struct fuse_statx_out statx;
    struct fuse_attr_out plain;
    struct ovfs_attr now;
    struct claim claimed;
    struct node *node;

    if (!claim(plane, tag, &claimed))
        return -ENOENT;
    node = node_of(claimed.req->inode);
    say_attr(claimed.remote, node, attr, clock_after(now_ns, valid_ns));
    node_attr(claimed.remote, node, now_ns, &now, &until_ns);
    if (claimed.req->in_header.opcode == FUSE_STATX) {
        wire_statx(claimed.remote, node_ino(node), &now, until_ns, now_ns, &statx);
        put(&claimed, &statx, sizeof(statx));
    } else {
        wire_attr(claimed.remote, node_ino(node), &now, until_ns, now_ns, &plain);
        put(&claimed, &plain, sizeof(plain));
    }
    return finish_reply(&claimed);
}

/* The handle of a node (id nodeid, pinned), with its content. */
static int open_node(const struct claim *claim, uint64_t nodeid, struct node *node, int flags,
                     struct ovfs_content *content, struct fuse_open_out *out)
{
    bool keep = false;

    if (content) {
        content_open(content);
        node_attach(claim->remote, node, content);
        keep = node_opened(claim->remote, node);
    }
    return remote_open_handle(claim->req, nodeid, node, content, flags, keep, out);
}

int ovfs_mail_open(struct ovfs_plane *plane, uint64_t tag, struct ovfs_content *content)
{
    struct fuse_open_out out;
    struct claim claimed;
    int err;

    if (!claim(plane, tag, &claimed))
        return -ENOENT;
    err = open_node(&claimed, claimed.req->in_header.nodeid, node_of(claimed.req->inode),
                    (int)claimed.req->arg.open.flags, content, &out);
    if (err < 0) {
        finish(&claimed, err);
        return err;
    }
    put(&claimed, &out, sizeof(out));
    return finish_reply(&claimed);
}

int ovfs_mail_create(struct ovfs_plane *plane, uint64_t tag, const struct ovfs_entry *entry,
                     struct ovfs_content *content)
{
    struct fuse_entry_out entry_out;
    struct fuse_open_out open_out;
    struct claim claimed;
    struct node *node;
    int err = -ENFILE;

    if (!claim(plane, tag, &claimed))
        return -ENOENT;
    node = enter(&claimed, entry, &entry_out);
    if (node) {
        err = open_node(&claimed, entry_out.nodeid, node, (int)claimed.req->arg.create.flags,
                        content, &open_out);
        if (err < 0)
            node_uncount(claimed.remote, node);
        node_unpin(claimed.remote, node);
    }
    if (err < 0) {
        finish(&claimed, err);
        return err;
    }
    put(&claimed, &entry_out, sizeof(entry_out));
    put(&claimed, &open_out, sizeof(open_out));
    return finish_reply(&claimed);
}

int ovfs_mail_take(struct ovfs_plane *plane, struct ovfs_mail *out, uint32_t max)
{
    return mail_take(plane->fs->mailbox, out, max);
}
