/* SPDX-License-Identifier: Apache-2.0
 *
 * Cursor over one half of a descriptor chain (the readable or the writable one).
 *
 *      iov[0]          iov[1]               iov[count-1]
 *     +-------------+ +------------------+ +-----------+
 *     |  consumed > | |                  | |           |     left = bytes from here to the end
 *     +-------------+ +------------------+ +-----------+
 *
 * The iovecs point into guest memory, were checked once by virtq.c, and belong to the request
 * until its reply is published; consuming moves them forward in place. The bytes behind them may
 * change under our hands at any time, so whoever looks at them copies them first.
 *
 * Queue thread, or the pool thread that holds the request.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct chain {
    struct iovec *iov;
    uint32_t count;
    size_t left;
};

/* Copy the next n bytes out and consume them. -ENODATA, nothing consumed: fewer are left. */
int chain_read(struct chain *chain, void *dst, size_t n);

/* Copy up to n of the next bytes out without consuming them; returns how many. */
size_t chain_peek(const struct chain *chain, void *dst, size_t n);

/* Copy n bytes in and consume the space. -ENOSPC, nothing written: less is left. */
int chain_write(struct chain *chain, const void *src, size_t n);

/* Consume n bytes (at most `left`) without looking at them. */
void chain_skip(struct chain *chain, size_t n);

/* Cut the chain off after n bytes; longer than `left` changes nothing. */
void chain_limit(struct chain *chain, size_t n);

/* Consume n bytes (at most `left`), noting where they lie: at most n pieces; returns how many. */
uint32_t chain_take(struct chain *chain, size_t n, struct iovec *pieces);
