/* SPDX-License-Identifier: Apache-2.0 */
#include "chain.h"

#include <errno.h>
#include <string.h>

/* Consume n bytes of the first iovec; the caller knows that it has them. */
static void chain_step(struct chain *chain, size_t n)
{
    struct iovec *iov = chain->iov;

    iov->iov_base = (char *)iov->iov_base + n;
    iov->iov_len -= n;
    chain->left -= n;
    if (iov->iov_len == 0) {
        chain->iov++;
        chain->count--;
    }
}

static size_t chain_piece(const struct chain *chain, size_t n)
{
    return n < chain->iov->iov_len ? n : chain->iov->iov_len;
}

int chain_read(struct chain *chain, void *dst, size_t n)
{
    char *to = dst;

    if (n > chain->left)
        return -ENODATA;
    while (n > 0) {
        size_t piece = chain_piece(chain, n);

        memcpy(to, chain->iov->iov_base, piece);
        chain_step(chain, piece);
        to += piece;
        n -= piece;
    }
    return 0;
}

size_t chain_peek(const struct chain *chain, void *dst, size_t n)
{
    char *to = dst;
    size_t left = n < chain->left ? n : chain->left;

    for (const struct iovec *iov = chain->iov; left > 0; iov++) {
        size_t piece = left < iov->iov_len ? left : iov->iov_len;

        memcpy(to, iov->iov_base, piece);
        to += piece;
        left -= piece;
    }
    return (size_t)(to - (char *)dst);
}

int chain_write(struct chain *chain, const void *src, size_t n)
{
    const char *from = src;

    if (n > chain->left)
        return -ENOSPC;
    while (n > 0) {
        size_t piece = chain_piece(chain, n);

        memcpy(chain->iov->iov_base, from, piece);
        chain_step(chain, piece);
        from += piece;
        n -= piece;
    }
    return 0;
}

void chain_skip(struct chain *chain, size_t n)
{
    while (n > 0) {
        size_t piece = chain_piece(chain, n);

        chain_step(chain, piece);
        n -= piece;
    }
}

void chain_limit(struct chain *chain, size_t n)
{
    size_t kept = 0;

    if (n >= chain->left)
        return;
    chain->left = n;
    for (uint32_t i = 0; i < chain->count; i++) {
        if (n - kept <= chain->iov[i].iov_len) {
            chain->iov[i].iov_len = n - kept;
            chain->count = n == kept ? i : i + 1;
            return;
        }
        kept += chain->iov[i].iov_len;
    }
}

uint32_t chain_take(struct chain *chain, size_t n, struct iovec *pieces)
{
    uint32_t count = 0;

    while (n > 0) {
        size_t piece = chain_piece(chain, n);

        pieces[count++] = (struct iovec){.iov_base = chain->iov->iov_base, .iov_len = piece};
        chain_step(chain, piece);
        n -= piece;
    }
    return count;
}
