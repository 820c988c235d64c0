/* SPDX-License-Identifier: Apache-2.0
 * Description: threads put, take, drop and clear: a descriptor is one thread's or the cache's, and
 * closed once.
 */
#include "local/open_cache.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "check.h"

enum { THREADS = 4, ROUNDS = 30000, LIMIT = 6, NODES = 8, FD_MAX = 1024 };

static struct open_cache *cache;
/* Of each descriptor. The kernel hands out a number again in an order that no sanitizer knows. */
static _Atomic int owners[FD_MAX];
static _Atomic uint64_t nodes[FD_MAX];

static int new_fd(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    CHECK(fd >= 0 && fd < FD_MAX);
    return fd;
}

static void use(int fd, uint64_t node, int me)
{
    CHECK(nodes[fd] == node);
    owners[fd] = me;
    CHECK(fcntl(fd, F_GETFD) >= 0); /* nobody else closes it meanwhile */
    CHECK(owners[fd] == me);
}

static void *run(void *arg)
{
    int me = (int)(intptr_t)arg;

    for (int i = 0; i < ROUNDS; i++) {
        uint64_t node = 1 + (uint64_t)(i * 7 + me) % NODES;
        int fd = open_cache_take(cache, node);

        if (fd < 0) {
            fd = new_fd();
            nodes[fd] = node;
        }
        use(fd, node, me);
        open_cache_put(cache, node, fd);
        if (i % 64 == 0)
            open_cache_drop(cache, node);
        if (i % 1024 == 0)
            open_cache_clear(cache);
        CHECK(open_cache_count(cache) <= LIMIT);
    }
    return NULL;
}

static int open_fds(void)
{
    int count = 0;

    for (int fd = 0; fd < FD_MAX; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

int main(void)
{
    pthread_t threads[THREADS];
    int before = open_fds();

    CHECK(open_cache_new(LIMIT, &cache) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)(intptr_t)(i + 1)) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(open_fds() == before + (int)open_cache_count(cache));
    open_cache_free(cache);
    CHECK(open_fds() == before);
    return 0;
}
