/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: WRITE to a remote file. In: a pinned open file, an offset, and the data in guest
 * memory. Out: how much of it is in the write layer's cache files. Queue thread.
 *
 * The data goes into the files by pwritev here and now, as for a local file; then its pages are
 * marked present. Whatever has to come before (a segment, a page of the stored object that the
 * write covers in part, a file that may not be written or not there) is arranged by the control
 * plane, which then has this handler run again: until then not a byte was touched.
 *
 * FUSE_WRITE_KILL_SUIDGID: set-id bits are the control plane's to clear.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/uio.h>

#include "../mailbox.h"
#include "../queue.h"
#include "opened.h"
#include "window.h"

/* All of the range: *done bytes are in the files. 0 or -errno. */
static int write_files(struct fuse_req *req, const struct content_write *write, uint64_t *done)
{
    *done = 0;
    while (*done < write->len) {
        struct window window;
        uint64_t len;
        off_t at;
        int fd = content_write_fd(write, write->offset + *done, &at, &len);
        ssize_t n;

        window = window_open(&req->in, len);
        n = pwritev(fd, window.iov, (int)window.count, at);
        if (n < 0)
            n = -errno;
        window_close(&window);
        if (n <= 0)
            return (int)n;
        chain_skip(&req->in, (size_t)n);
        *done += (uint64_t)n;
    }
    return 0;
}

static int reply(struct fuse_req *req, uint64_t size)
{
    struct fuse_write_out out = {.size = (uint32_t)size};

    return fuse_req_put(req, &out, sizeof(out));
}

static int write_now(struct fuse_req *req, const struct content_write *write)
{
    uint64_t done, counted;
    bool note;
    int err = write_files(req, write, &done);

    counted = content_write_end(write, done, &note);
    if (note)
        mail_note(req->fs->mailbox, OVFS_NOTE_WROTE, req->handle->ino);
    /* An error after some bytes is met again by the guest's next write. */
    if (counted == 0)
        return err < 0 ? err : -EIO;
    return reply(req, counted);
}

int remote_write(struct fuse_req *req)
{
    const struct fuse_write_in *arg = &req->arg.write;
    struct content_write write;
    int err;

    if (arg->size > req->in.left)
        return -EINVAL; /* guest wrong: the data it speaks of is not there */
    if (arg->offset > (uint64_t)INT64_MAX - arg->size)
        return -EFBIG;
    if (req->out.left < sizeof(struct fuse_write_out))
        return -ERANGE; /* asked before anything is written */
    if ((req->handle->flags & O_ACCMODE) == O_RDONLY)
        return -EBADF;
    err = content_of(req);
    if (err < 0)
        return err;
    if (arg->size == 0)
        return reply(req, 0);
    chain_limit(&req->in, arg->size);
    if (arg->write_flags & FUSE_WRITE_KILL_SUIDGID && has_setid(req))
        return mail_post(req);
    err = content_write_begin(req->handle->content, CONTENT_GUEST, arg->offset, arg->size, &write);
    return err < 0 ? mail_post(req) : write_now(req, &write);
}
