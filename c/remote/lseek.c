/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 6 of 9: LSEEK in a remote file: all of it is data, with one hole at its end, as the kernel
 * has it for a file system that knows no holes. Queue thread.
 */
#include <errno.h>
#include <stdint.h>
#include <unistd.h>

#include "opened.h"

static int64_t seek(uint64_t size, int64_t offset, uint32_t whence)
{
    int64_t end = (int64_t)size, sum;

    switch (whence) {
    case SEEK_DATA:
        return offset < 0 || offset >= end ? -ENXIO : offset;
    case SEEK_HOLE:
        return offset < 0 || offset >= end ? -ENXIO : end;
    case SEEK_END:
        if (__builtin_add_overflow(end, offset, &sum))
            return -EOVERFLOW;
        return sum < 0 ? -EINVAL : sum;
    default:
        return -EINVAL;
    }
}

int remote_lseek(struct fuse_req *req)
{
    const struct fuse_lseek_in *arg = &req->arg.lseek;
    struct ovfs_content_state state;
    struct fuse_lseek_out out;
    int64_t offset;
    int err = content_of(req);

    if (err < 0)
        return err;
    ovfs_content_state(req->handle->content, &state);
    offset = seek(state.size, (int64_t)arg->offset, arg->whence);
    if (offset < 0)
        return (int)offset;
    out.offset = (uint64_t)offset;
    return fuse_req_put(req, &out, sizeof(out));
}
