/* SPDX-License-Identifier: Apache-2.0
 *
 * Step 7 of 9: result -> out header. The only place where an errno becomes a FUSE error. In: a
 * request and what its handler returned. Out: the length for its used entry. Queue thread.
 */
#pragma once

#include <stdint.h>

struct fuse_req;

/* result: 0 or -errno. Returns how many bytes of the writable half were filled. */
uint32_t fuse_reply(struct fuse_req *req, int result);
