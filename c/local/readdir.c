/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: READDIR and READDIRPLUS. In: a pinned directory, an offset, and room in guest
 * memory. Out: as many whole entries as fit, from that offset on. Queue thread.
 *
 * DESIGN. Offsets are the host's own (d_off), so seekdir and rewinddir in the guest mean what they
 * mean on the host, and entries removed or added while a listing goes on shift nothing. A reply is
 * smaller than what one getdents64 returns, so the rest stays with the open directory until the
 * guest asks for the offset where it stopped:
 *
 *      data  |  handed out  |  still to hand out  |   free   |
 *                           ^at                   ^used          next: the offset of `at`
 *
 * Any other offset throws the buffer away and seeks; offset 0 always reads anew, since that is how
 * a guest asks for the present state. The buffer goes at the end of the listing, so that many open
 * directories cost little.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "local.h"
#include "lookup.h"
#include "mount.h"

/* Some 800 entries: one system call for many replies, and no strain on the cache. */
enum { DIR_BUF_SIZE = 32768 };

enum { NAME_LEN_MAX = 255 }; /* what the guest could look up */

/* What getdents64 fills in; no header of the C library says so. */
struct host_dirent {
    uint64_t d_ino;
    int64_t d_off;
    uint16_t d_reclen;
    uint8_t d_type;
    char d_name[];
};

struct dir_buf {
    uint64_t next;
    uint32_t at;
    uint32_t used;
    char data[DIR_BUF_SIZE] __attribute__((aligned(8)));
};

/* One entry as it goes out. */
struct record {
    union {
        struct fuse_dirent plain;
        struct fuse_direntplus plus;
        char bytes[FUSE_DIRENT_ALIGN(sizeof(struct fuse_direntplus) + NAME_LEN_MAX)];
    };
};

/* ---- the buffer; all under the handle's lock ---- */

static int dir_seek(struct handle *handle, uint64_t offset)
{
    struct dir_buf *dir = handle->dir;

    if (dir && offset != 0 && dir->next == offset)
        return 0;
    if (!dir) {
        dir = malloc(sizeof(*dir));
        if (!dir)
            return -ENOMEM;
        handle->dir = dir;
    }
    dir->at = dir->used = 0;
    dir->next = 0; /* matches no other offset, where seeking fails */
    if (lseek(handle->fd, (off_t)offset, SEEK_SET) < 0)
        return -errno;
    dir->next = offset;
    return 0;
}

/* The next entry, or NULL at the end (*err 0) and on failure. */
static const struct host_dirent *dir_peek(struct handle *handle, int *err)
{
    struct dir_buf *dir = handle->dir;

    *err = 0;
    if (dir->at == dir->used) {
        long n = syscall(SYS_getdents64, handle->fd, dir->data, sizeof(dir->data));

        *err = n < 0 ? -errno : 0;
        if (n <= 0)
            return NULL;
        dir->at = 0;
        dir->used = (uint32_t)n;
    }
    return (const struct host_dirent *)(dir->data + dir->at);
}

static void dir_advance(struct dir_buf *dir, const struct host_dirent *entry)
{
    dir->at += entry->d_reclen;
    dir->next = (uint64_t)entry->d_off;
}

static void dir_end(struct handle *handle)
{
    free(handle->dir);
    handle->dir = NULL;
}

/* ---- one entry ---- */

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* What lies above the root is none of the guest's business, its inode number included. */
static uint64_t shown_ino(const struct fuse_req *req, const struct host_dirent *from)
{
    if (req->handle->nodeid == FUSE_ROOT_ID && strcmp(from->d_name, "..") == 0)
        return req->local->root_ino;
    return from->d_ino;
}

/* Fill a record but for its entry_out. Returns its length. */
static size_t fill(const struct fuse_req *req, bool plus, const struct host_dirent *from,
                   size_t name_len, struct record *out)
{
    size_t name_at = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
    size_t len = FUSE_DIRENT_ALIGN(name_at + name_len);
    struct fuse_dirent dirent = {
        .ino = shown_ino(req, from),
        .off = (uint64_t)from->d_off,
        .namelen = (uint32_t)name_len,
        .type = from->d_type,
    };

    if (plus)
        memset(&out->plus.entry_out, 0, sizeof(out->plus.entry_out));
    memset(out->bytes + len - sizeof(uint64_t), 0, sizeof(uint64_t));
    memcpy(out->bytes + name_at - sizeof(dirent), &dirent, sizeof(dirent));
    memcpy(out->bytes + name_at, from->d_name, name_len);
    return len;
}

/* What the listing says of a directory may be of another one than its name leads to: one that is a
 * file system of its own, with its own numbers. */
static int look_up(struct fuse_req *req, const struct host_dirent *from, struct fuse_entry_out *out)
{
    if (from->d_type == DT_DIR || from->d_type == DT_UNKNOWN)
        return lookup_name(req->local, req->inode, from->d_name, out);
    return lookup_listed(req->local, req->inode, from->d_name, from->d_ino, out);
}

enum put { PUT_DONE, PUT_SKIPPED, PUT_FULL };

/* Hand one entry out. READDIRPLUS looks it up, once there is known to be room: a lookup counts, and
 * one that the guest is not told of would have to be taken back. Node id 0 says "a name, but no
 * node": for the dots, and for what cannot be looked up; a later LOOKUP gets the error. */
static enum put put_entry(struct fuse_req *req, bool plus, const struct host_dirent *from)
{
    size_t name_len = strlen(from->d_name);
    struct record record;
    size_t len;
    int err = 0;

    if (name_len > NAME_LEN_MAX)
        return PUT_SKIPPED;
    len = fill(req, plus, from, name_len, &record);
    if (len > req->out.left)
        return PUT_FULL;
    if (plus && !is_dots(from->d_name)) {
        err = look_up(req, from, &record.plus.entry_out);
        if (err == -ENOENT)
            return PUT_SKIPPED; /* removed since */
        if (err < 0)
            memset(&record.plus.entry_out, 0, sizeof(record.plus.entry_out));
    }
    chain_write(&req->out, record.bytes, len);
    req->out_len += (uint32_t)len;
    return PUT_DONE;
}

/* ---- the request ---- */

/* Under the handle's lock, which is this open directory's alone. */
static int list(struct fuse_req *req, bool plus)
{
    struct handle *handle = req->handle;
    const struct host_dirent *entry;
    int err = dir_seek(handle, req->arg.read.offset);

    if (err < 0)
        return err;
    while ((entry = dir_peek(handle, &err))) {
        if (put_entry(req, plus, entry) == PUT_FULL)
            return req->out_len > 0 ? 0 : -EINVAL; /* not even one: getdents says so as well */
        dir_advance(handle->dir, entry);
    }
    if (err == 0 && req->out_len == 0)
        dir_end(handle);
    return req->out_len > 0 ? 0 : err;
}

static int read_dir(struct fuse_req *req, bool plus)
{
    int err;

    chain_limit(&req->out, req->arg.read.size);
    pthread_mutex_lock(&req->handle->lock);
    err = list(req, plus);
    pthread_mutex_unlock(&req->handle->lock);
    return err;
}

int local_readdir(struct fuse_req *req)
{
    return read_dir(req, false);
}

int local_readdirplus(struct fuse_req *req)
{
    mount_look(req->local->mounts);
    return read_dir(req, true);
}
