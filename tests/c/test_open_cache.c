/* SPDX-License-Identifier: Apache-2.0
 * Description: descriptors of files that were just closed: bounded, exclusive, gone with the node.
 */
#include "local/open_cache.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

enum { LIMIT = 12, NODE = 77, SAME_SET = NODE + 4 };

static struct open_cache *cache;

/* Of a number that was not there before: a closed one stays closed. */
static int new_fd(void)
{
    static int next = 100;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, next++);

    CHECK(fd >= 0 && moved == next - 1);
    close(fd);
    return moved;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void what_was_put_is_taken_once(void)
{
    int first = new_fd(), second = new_fd(), one, other;

    CHECK(open_cache_take(cache, NODE) == -1);
    open_cache_put(cache, NODE, first);
    open_cache_put(cache, NODE, second);
    CHECK(open_cache_count(cache) == 2);
    CHECK(open_cache_take(cache, NODE + 1) == -1);
    CHECK(open_cache_take(cache, NODE + (UINT64_C(1) << 32)) == -1); /* another generation */
    one = open_cache_take(cache, NODE);
    other = open_cache_take(cache, NODE);
    CHECK((one == first && other == second) || (one == second && other == first));
    CHECK(open_cache_take(cache, NODE) == -1 && open_cache_count(cache) == 0);
    CHECK(is_open(first) && is_open(second));
    close(first);
    close(second);
}

static void there_are_never_more_than_the_limit(void)
{
    int fds[4 * LIMIT], open = 0;

    for (int i = 0; i < 4 * LIMIT; i++) {
        fds[i] = new_fd();
        open_cache_put(cache, 1000 + (uint64_t)i, fds[i]);
        CHECK(open_cache_count(cache) <= LIMIT);
    }
    CHECK(is_open(fds[4 * LIMIT - 1])); /* the newest is always kept */
    for (int i = 0; i < 4 * LIMIT; i++)
        open += is_open(fds[i]);
    CHECK(open == LIMIT);
    CHECK(open_cache_clear(cache) == LIMIT && open_cache_count(cache) == 0);
    for (int i = 0; i < 4 * LIMIT; i++)
        CHECK(!is_open(fds[i]));
}

static void they_go_with_their_node(void)
{
    int mine[2] = {new_fd(), new_fd()}, another = new_fd();

    open_cache_put(cache, NODE, mine[0]);
    open_cache_put(cache, SAME_SET, another);
    open_cache_put(cache, NODE, mine[1]);
    open_cache_drop(cache, NODE);
    CHECK(!is_open(mine[0]) && !is_open(mine[1]) && is_open(another));
    CHECK(open_cache_take(cache, NODE) == -1);
    open_cache_drop(cache, NODE);
    CHECK(open_cache_take(cache, SAME_SET) == another);
    close(another);
}

static void they_grow_old(void)
{
    struct timespec wait = {.tv_sec = OPEN_CACHE_NS / 1000000000,
                            .tv_nsec = OPEN_CACHE_NS % 1000000000 + 10000000};
    int fd = new_fd();

    open_cache_put(cache, NODE, fd);
    nanosleep(&wait, NULL);
    CHECK(open_cache_take(cache, NODE) == -1);
    open_cache_clear(cache);
    CHECK(!is_open(fd));
}

static void a_cache_of_nothing_keeps_nothing(void)
{
    struct open_cache *none;
    int fd = new_fd();

    CHECK(open_cache_new(0, &none) == 0);
    open_cache_put(none, NODE, fd);
    CHECK(!is_open(fd) && open_cache_count(none) == 0);
    CHECK(open_cache_take(none, NODE) == -1);
    open_cache_drop(none, NODE);
    CHECK(open_cache_clear(none) == 0);
    open_cache_free(none);
}

static void what_is_left_is_closed(void)
{
    int fd = new_fd();

    open_cache_put(cache, NODE, fd);
    open_cache_free(cache);
    CHECK(!is_open(fd));
    open_cache_free(NULL);
}

int main(void)
{
    CHECK(open_cache_new(LIMIT, &cache) == 0);
    what_was_put_is_taken_once();
    there_are_never_more_than_the_limit();
    they_go_with_their_node();
    they_grow_old();
    a_cache_of_nothing_keeps_nothing();
    what_is_left_is_closed();
    return 0;
}
