/* SPDX-License-Identifier: Apache-2.0
 *
 * The first bytes of a chain as iovecs for one system call: the chain is cut off in place while the
 * window is open, since a copy of its iovecs would have to outlive a trip through the ring.
 */
#pragma once

#include <limits.h>

#include "../chain.h"

struct window {
    struct iovec *iov;
    unsigned count;
    size_t hidden; /* bytes of the last iovec that are cut off */
};

/* At most len bytes, from the chain's next one on; fewer where one call cannot take as many pieces.
 * The chain is not to be touched until window_close. */
static inline struct window window_open(const struct chain *chain, uint64_t len)
{
    struct window window = {.iov = chain->iov};

    while (window.count < chain->count && window.count < IOV_MAX && len > 0) {
        struct iovec *iov = &chain->iov[window.count++];

        if (iov->iov_len > len) {
            window.hidden = iov->iov_len - len;
            iov->iov_len = len;
        }
        len -= iov->iov_len;
    }
    return window;
}

static inline void window_close(const struct window *window)
{
    if (window->hidden)
        window->iov[window->count - 1].iov_len += window->hidden;
}
