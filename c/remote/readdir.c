/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6b: READDIR and READDIRPLUS, out of a listing. In: a pinned open directory, an offset, and
 * room in guest memory. Out: as many whole entries as fit. Queue thread.
 *
 * Offset 0 begins with the directory's listing, which must be valid, or have come by the mail that
 * this request has sent; all other offsets go on in the one that the open directory began with, so
 * nothing shifts meanwhile. Offsets: 1 and 2 behind the dots, then the index + 3.
 */
#include <errno.h>
#include <string.h>

#include "../clock.h"
#include "wire.h"

enum { NAME_LEN_MAX = 255, DOTS = 2 };

/* One entry as it goes out. */
struct record {
    union {
        struct fuse_dirent plain;
        struct fuse_direntplus plus;
        char bytes[FUSE_DIRENT_ALIGN(sizeof(struct fuse_direntplus) + NAME_LEN_MAX)];
    };
};

/* What a record is made of. */
struct from {
    uint64_t ino;
    uint64_t off;
    const char *name;
    size_t name_len;
    uint32_t mode;
    const struct listed *listed; /* NULL: one of the dots */
};

static struct from entry_at(const struct fuse_req *req, const struct listing *listing, uint64_t at)
{
    const struct listed *listed;

    if (at < DOTS)
        return (struct from){
            .ino = at == 0 ? node_ino(node_of(req->inode)) : listing->parent_ino,
            .off = at + 1,
            .name = "..",
            .name_len = at + 1,
            .mode = S_IFDIR,
        };
    listed = &listing->items[at - DOTS];
    return (struct from){
        .ino = listing_ino(listing, listed),
        .off = at + 1,
        .name = listing_name(listing, listed),
        .name_len = listed->name_len,
        .mode = listed->attr.mode,
        .listed = listed,
    };
}

/* Fill a record but for its entry_out. Returns its length. */
static size_t fill(bool plus, const struct from *from, struct record *out)
{
    size_t name_at = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
    size_t len = FUSE_DIRENT_ALIGN(name_at + from->name_len);
    struct fuse_dirent dirent = {
        .ino = from->ino,
        .off = from->off,
        .namelen = (uint32_t)from->name_len,
        .type = (from->mode & S_IFMT) >> 12,
    };

    if (plus)
        memset(&out->plus.entry_out, 0, sizeof(out->plus.entry_out));
    memset(out->bytes + len - sizeof(uint64_t), 0, sizeof(uint64_t));
    memcpy(out->bytes + name_at - sizeof(dirent), &dirent, sizeof(dirent));
    memcpy(out->bytes + name_at, from->name, from->name_len);
    return len;
}

/* Look an entry up, once there is known to be room: a lookup counts. Where attributes are not valid
 * it stays a name without a node (id 0), and the guest asks when it wants to know. */
static void look_up(struct fuse_req *req, const struct listing *listing,
                    const struct listed *listed, uint64_t now_ns, struct fuse_entry_out *out)
{
    struct remote *remote = req->remote;
    struct ovfs_attr attr;
    uint64_t until_ns;
    struct node *node;

    if (!listed || listed->ino == 0)
        return;
    node = node_enter(remote, listed->ino, listed->attr.mode);
    if (!node)
        return;
    if (node_listed_attr(remote, node, listed, listing->stamp, now_ns, &attr, &until_ns))
        wire_entry(remote, node, &attr, until_ns, listing->until_ns, now_ns, out);
    else
        node_uncount(remote, node);
    node_unpin(remote, node);
}

/* Under the handle's lock. */
static int list(struct fuse_req *req, bool plus)
{
    const struct listing *listing = req->handle->listing;
    uint64_t now_ns = clock_ns();

    for (uint64_t at = req->arg.read.offset; at < (uint64_t)listing->count + DOTS; at++) {
        struct from from = entry_at(req, listing, at);
        struct record record;
        size_t len = fill(plus, &from, &record);

        if (len > req->out.left)
            return req->out_len > 0 ? 0 : -EINVAL; /* not even one: getdents says so as well */
        if (plus)
            look_up(req, listing, from.listed, now_ns, &record.plus.entry_out);
        chain_write(&req->out, record.bytes, len);
        req->out_len += (uint32_t)len;
    }
    return 0;
}

/* Have the handle begin with a listing. 0, or what the handler returns. */
static int begin(struct fuse_req *req)
{
    struct handle *handle = req->handle;
    struct listing *listing, *before;
    bool fresh;

    listing = node_listing(req->remote, node_of(req->inode), clock_ns(), &fresh);
    if (!listing || (!fresh && !req->mail_retried)) {
        listing_unref(listing);
        return req->mail_retried ? -EIO : mail_post(req);
    }
    pthread_mutex_lock(&handle->lock);
    before = handle->listing;
    handle->listing = listing;
    pthread_mutex_unlock(&handle->lock);
    listing_unref(before);
    return 0;
}

static int read_dir(struct fuse_req *req, bool plus)
{
    struct handle *handle = req->handle;
    bool begun;
    int err = 0;

    chain_limit(&req->out, req->arg.read.size);
    pthread_mutex_lock(&handle->lock);
    begun = handle->listing != NULL;
    pthread_mutex_unlock(&handle->lock);
    if (req->arg.read.offset == 0 || !begun)
        err = begin(req);
    if (err != 0)
        return err;
    pthread_mutex_lock(&handle->lock);
    err = list(req, plus);
    pthread_mutex_unlock(&handle->lock);
    return err;
}

int remote_readdir(struct fuse_req *req)
{
    return read_dir(req, false);
}

int remote_readdirplus(struct fuse_req *req)
{
    return read_dir(req, true);
}
