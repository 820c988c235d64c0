/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse_reply.h"

#include <errno.h>
#include <string.h>

#include "fuse_req.h"

/* Linux hosts and Linux guests number errors alike. What the guest's kernel would refuse as no
 * error at all (512 and above are its internal codes) becomes EIO. */
static int32_t wire_error(int result)
{
    if (result >= 0)
        return 0;
    return result > -512 ? result : -EIO;
}

uint32_t fuse_reply(struct fuse_req *req, int result)
{
    struct fuse_out_header header = {.error = wire_error(result), .unique = req->in_header.unique};
    const char *from = (const char *)&header;

    if (req->reply_header_count == 0)
        return 0;
    header.len = (uint32_t)sizeof(header) + (header.error ? 0 : req->out_len);
    for (unsigned i = 0; i < req->reply_header_count; i++) {
        memcpy(req->reply_header[i].iov_base, from, req->reply_header[i].iov_len);
        from += req->reply_header[i].iov_len;
    }
    return header.len;
}
