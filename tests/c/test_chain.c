/* SPDX-License-Identifier: Apache-2.0 */
/* Description: a chain's cursor gives the same bytes however the guest cut them. */
#include <errno.h>
#include <string.h>

#include "chain.h"
#include "check.h"

enum { SIZE = 64 };

/* Cut `bytes` into pieces of `step`, with an empty one in between as a guest may have it. */
static struct chain cut(char *bytes, size_t step, struct iovec *iov)
{
    struct chain chain = {.iov = iov, .left = SIZE};

    for (size_t at = 0; at < SIZE; at += step)
        iov[chain.count++] =
            (struct iovec){.iov_base = bytes + at, .iov_len = SIZE - at < step ? SIZE - at : step};
    return chain;
}

static void fill(char *bytes)
{
    for (int i = 0; i < SIZE; i++)
        bytes[i] = (char)(i * 7 + 1);
}

static void test_read(size_t step)
{
    char bytes[SIZE], out[SIZE];
    struct iovec iov[SIZE], pieces[SIZE];
    struct chain chain;
    size_t taken = 0;
    uint32_t count;

    fill(bytes);
    chain = cut(bytes, step, iov);
    CHECK(chain_peek(&chain, out, 20) == 20 && memcmp(out, bytes, 20) == 0 && chain.left == SIZE);
    CHECK(chain_read(&chain, out, 10) == 0 && memcmp(out, bytes, 10) == 0);
    chain_skip(&chain, 7);
    CHECK(chain.left == SIZE - 17);
    CHECK(chain_read(&chain, out, SIZE) == -ENODATA && chain.left == SIZE - 17);
    chain_limit(&chain, 30);
    CHECK(chain.left == 30);
    CHECK(chain_peek(&chain, out, SIZE) == 30 && memcmp(out, bytes + 17, 30) == 0);
    count = chain_take(&chain, 13, pieces);
    CHECK(pieces[0].iov_base == bytes + 17 && chain.left == 17);
    for (uint32_t i = 0; i < count; i++)
        taken += pieces[i].iov_len;
    CHECK(taken == 13);
    CHECK(chain_read(&chain, out, 17) == 0 && memcmp(out, bytes + 30, 17) == 0);
    CHECK(chain.left == 0 && chain.count == 0);
}

static void test_write(size_t step)
{
    char bytes[SIZE] = {0}, from[SIZE];
    struct iovec iov[SIZE];
    struct chain chain = cut(bytes, step, iov);

    fill(from);
    CHECK(chain_write(&chain, from, 50) == 0);
    CHECK(chain_write(&chain, from, 15) == -ENOSPC && chain.left == 14);
    CHECK(chain_write(&chain, from + 50, 14) == 0);
    CHECK(memcmp(bytes, from, SIZE) == 0);
}

static void test_limit_at_the_ends(void)
{
    char bytes[SIZE];
    struct iovec iov[SIZE];
    struct chain chain = cut(bytes, 16, iov);

    chain_limit(&chain, 100);
    CHECK(chain.left == SIZE && chain.count == 4);
    chain_limit(&chain, 32);
    CHECK(chain.left == 32 && chain.count == 2);
    chain_limit(&chain, 0);
    CHECK(chain.left == 0 && chain.count == 0);
}

int main(void)
{
    for (size_t step = 1; step <= SIZE; step++) {
        test_read(step);
        test_write(step);
    }
    test_limit_at_the_ends();
    return 0;
}
