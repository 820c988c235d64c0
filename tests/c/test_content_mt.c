/* SPDX-License-Identifier: Apache-2.0
 * Description: readers, writers, fill, seal, truncation and eviction at once; each byte that is
 * read is one that the file had.
 *
 * Pages are words of (page, stamp); the stored object has stamp 0, each write of a page a higher
 * one. A page that a write has finished with never shows an older stamp again, whatever is filled,
 * and no page ever shows a zero, whatever is cut off: the file grows again without a gap.
 *
 *      page 0 ... WRITTEN-1     two writers, one for the even and one for the odd pages; filled
 *      page WRITTEN ... PAGES-1 cut off and written again, by one thread that also seals
 */
#include "content.h"

#include <pthread.h>
#include <stdatomic.h>

enum { PAGES = 96, WRITTEN = 70, WORDS = PAGE / 8, ROUNDS = 60, STEPS = 60, WRITERS = 2 };

/* The pages lie across the end of a segment. */
#define START (UINT64_C(2) * SEGMENT - 40 * PAGE)
#define SIZE  (START + PAGES * PAGE)

static struct ovfs_content *content;
static int base_files[2], write_files[2]; /* of the segments before and behind the boundary */
static _Atomic uint32_t issued[PAGES], finished[PAGES];
static _Atomic bool over;
static uint64_t base_words[PAGES * WORDS];

static uint64_t word(uint64_t page, uint32_t stamp)
{
    return (page + 1) << 32 | stamp;
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

static void add_base(int which)
{
    int err = ovfs_content_segment(content, OVFS_LAYER_BASE, (uint32_t)which + 1,
                                   fcntl(base_files[which], F_DUPFD_CLOEXEC, 3));

    CHECK(err == 0);
    CHECK(ovfs_content_present(content, ((uint64_t)which + 1) * SEGMENT, SEGMENT) == 0);
}

/* Pages are written whole, or but for their first byte's word: then they may have to be filled. */
static void write_pages(uint32_t first, uint32_t count, bool partly)
{
    static _Thread_local uint64_t words[PAGES * WORDS];
    uint64_t skip = partly ? 8 : 0;
    ssize_t len = (ssize_t)(count * PAGE - skip), n;
    uint32_t stamps[PAGES];
    bool note;

    for (uint32_t i = 0; i < count; i++) {
        stamps[i] = atomic_fetch_add(&issued[first + i], 1) + 1;
        for (uint32_t j = 0; j < WORDS; j++)
            words[i * WORDS + j] = word(first + i, stamps[i]);
    }
    do {
        n = guest_write(content, START + first * PAGE + skip, (char *)words + skip, (uint64_t)len,
                        &note);
        if (n == -EAGAIN) /* sealed, or to be filled */
            CHECK(ovfs_content_fill(content, START + first * PAGE, base_words + first * WORDS,
                                    PAGE) == 0);
    } while (n == -EAGAIN);
    CHECK(n == len);
    for (uint32_t i = partly ? 1 : 0; i < count; i++)
        atomic_store(&finished[first + i], stamps[i]);
}

static void *writer(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg, random = me;

    for (int step = 0; step < STEPS; step++) {
        uint32_t page = next_random(&random) % (WRITTEN / WRITERS) * WRITERS + me;

        write_pages(page, 1, next_random(&random) % 4 == 0);
    }
    return NULL;
}

static void check_page(uint32_t page, const uint64_t *words, size_t count, uint32_t least)
{
    uint32_t most = atomic_load(&issued[page]);

    for (size_t i = 0; i < count; i++) {
        CHECK(words[i] >> 32 == page + 1);
        CHECK((uint32_t)words[i] <= most);
        /* The first word may be left out by a write. */
        CHECK((uint32_t)words[i] >= least || i == 0);
    }
}

static void *reader(void *arg)
{
    static _Thread_local uint64_t words[PAGES * WORDS];
    uint32_t random = (uint32_t)(uintptr_t)arg;

    while (!atomic_load(&over)) {
        uint32_t first = next_random(&random) % PAGES;
        uint32_t count = 1 + next_random(&random) % (PAGES - first), least[PAGES];
        ssize_t n;

        for (uint32_t i = 0; i < count; i++)
            least[i] = atomic_load(&finished[first + i]);
        n = ovfs_content_read(content, START + first * PAGE, words, (size_t)count * PAGE);
        CHECK(n >= 0 || n == -ENODATA);
        for (uint32_t i = 0; n > 0; i++, n -= PAGE)
            check_page(first + i, words + i * WORDS, n < PAGE ? (size_t)n / 8 : WORDS, least[i]);
    }
    return NULL;
}

static void *filler(void *arg)
{
    uint32_t random = (uint32_t)(uintptr_t)arg;

    while (!atomic_load(&over)) {
        uint32_t first = next_random(&random) % PAGES;

        CHECK(ovfs_content_fill(content, START + first * PAGE, base_words + first * WORDS,
                                (size_t)(PAGES - first) * PAGE) == 0);
    }
    return NULL;
}

static void *evicter(void *arg)
{
    uint32_t random = (uint32_t)(uintptr_t)arg;

    while (!atomic_load(&over)) {
        uint32_t which = next_random(&random) % 2;

        CHECK(ovfs_content_drop(content, which + 1) == 0);
        add_base((int)which);
    }
    return NULL;
}

/* Sealed, nothing changes. */
static void check_sealed(void)
{
    static uint64_t before[PAGES * WORDS], after[PAGES * WORDS];
    struct ovfs_content_state state, later;
    ssize_t n;

    ovfs_content_seal(content, UINT64_MAX);
    state = state_of(content);
    n = ovfs_content_read(content, START, before, sizeof(before));
    later = state_of(content);
    CHECK(state.generation == later.generation && state.size == later.size);
    if (n > 0 && ovfs_content_read(content, START, after, (size_t)n) == n)
        CHECK(memcmp(before, after, (size_t)n) == 0);
    ovfs_content_seal(content, 0);
}

static void *cutter(void *arg)
{
    uint32_t random = (uint32_t)(uintptr_t)arg;

    for (int step = 0; step < STEPS / 4; step++) {
        uint32_t from = WRITTEN + next_random(&random) % (PAGES - WRITTEN);

        CHECK(ovfs_content_truncate(content, START + from * PAGE) == 0);
        for (uint32_t page = from; page < PAGES;) {
            uint32_t count = 1 + next_random(&random) % (PAGES - page);

            write_pages(page, count, false);
            page += count;
        }
        check_sealed();
    }
    return NULL;
}

static void start_round(void)
{
    content = ovfs_content_new(SIZE, SIZE, 1);
    CHECK(content);
    for (int i = 0; i < 2; i++) {
        add_base(i);
        CHECK(ftruncate(write_files[i], 0) == 0 && ftruncate(write_files[i], SEGMENT) == 0);
        CHECK(ovfs_content_segment(content, OVFS_LAYER_WRITE, (uint32_t)i + 1,
                                   fcntl(write_files[i], F_DUPFD_CLOEXEC, 3)) == 0);
    }
    for (uint32_t page = 0; page < PAGES; page++) {
        atomic_store(&issued[page], 0);
        atomic_store(&finished[page], 0);
    }
    ovfs_content_writable(content, 1);
    atomic_store(&over, false);
}

int main(void)
{
    void *(*const endless[])(void *) = {reader, reader, filler, evicter};
    pthread_t bounded[WRITERS + 1], other[4];

    for (uint32_t i = 0; i < PAGES * WORDS; i++)
        base_words[i] = word(i / WORDS, 0);
    for (int i = 0; i < 2; i++) {
        base_files[i] = scratch_file(SEGMENT);
        write_files[i] = scratch_file(SEGMENT);
    }
    put_at(base_files[0], SEGMENT - 40 * PAGE, base_words, 40 * PAGE);
    put_at(base_files[1], 0, base_words + 40 * WORDS, (PAGES - 40) * PAGE);
    for (uintptr_t round = 0; round < ROUNDS; round++) {
        start_round();
        for (uintptr_t i = 0; i < 4; i++)
            CHECK(pthread_create(&other[i], NULL, endless[i], (void *)(round * 4 + i)) == 0);
        for (uintptr_t i = 0; i < WRITERS; i++)
            CHECK(pthread_create(&bounded[i], NULL, writer, (void *)i) == 0);
        CHECK(pthread_create(&bounded[WRITERS], NULL, cutter, (void *)round) == 0);
        for (int i = 0; i < WRITERS + 1; i++)
            pthread_join(bounded[i], NULL);
        atomic_store(&over, true);
        for (int i = 0; i < 4; i++)
            pthread_join(other[i], NULL);
        ovfs_content_unref(content);
    }
    return 0;
}
