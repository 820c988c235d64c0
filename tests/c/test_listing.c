/* SPDX-License-Identifier: Apache-2.0
 * Description: a listing finds each of its names, knows no other, and refuses what is no name. */
#include "remote/listing.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "check.h"

enum { MANY = 20000 };

static struct listing *of_one(const char *name, uint16_t len, int *err)
{
    struct ovfs_entry entry = {.ino = 5, .attr = {.mode = S_IFREG}, .attr_valid_ns = 10};

    return listing_new(1, &entry, name, &len, 100, err);
}

static void impossible_names_are_refused(void)
{
    char longest[257];
    int err;

    memset(longest, 'n', sizeof(longest));
    CHECK(!of_one("", 0, &err) && err == -EINVAL);
    CHECK(!of_one(".", 1, &err) && err == -EINVAL);
    CHECK(!of_one("..", 2, &err) && err == -EINVAL);
    CHECK(!of_one("a/b", 3, &err) && err == -EINVAL);
    CHECK(!of_one("a\0b", 3, &err) && err == -EINVAL);
    CHECK(!of_one(longest, 256, &err) && err == -EINVAL);
}

static void odd_names_are_not(void)
{
    static const char *const odd[] = {"...", ".a", "a.", " ", "\xff\xfe", "..a", "a.."};
    struct listing *listing;
    int err;

    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        listing = of_one(odd[i], (uint16_t)strlen(odd[i]), &err);
        CHECK(listing && listing_find(listing, odd[i], strlen(odd[i])));
        listing_unref(listing);
    }
}

static void each_name_is_found(void)
{
    static struct ovfs_entry entries[MANY];
    static uint16_t lens[MANY];
    static char names[MANY * 16];
    const struct listed *listed;
    struct listing *listing;
    size_t used = 0;
    char name[32];
    int err;

    for (int i = 0; i < MANY; i++) {
        entries[i] = (struct ovfs_entry){
            .ino = (uint64_t)i, .attr = {.mode = S_IFREG}, .attr_valid_ns = i % 2 ? 50 : 0};
        lens[i] = (uint16_t)snprintf(names + used, sizeof(names) - used, "name-%d", i);
        used += lens[i];
    }
    listing = listing_new(MANY, entries, names, lens, 100, &err);
    CHECK(listing && listing->count == MANY);
    memset(names, 'x', sizeof(names)); /* it has copies */
    for (int i = 0; i < MANY; i++) {
        int len = snprintf(name, sizeof(name), "name-%d", i);

        listed = listing_find(listing, name, (size_t)len);
        CHECK(listed && listed == &listing->items[i] && listed->ino == (uint64_t)i);
        CHECK(listed->attr_until_ns == (i % 2 ? 150u : 0u));
        CHECK(memcmp(listing_name(listing, listed), name, (size_t)len) == 0);
        CHECK(!listing_find(listing, name, (size_t)len - 1) || i > 9);
        name[0] = 'N';
        CHECK(!listing_find(listing, name, (size_t)len));
    }
    /* without a node: a number all the same, and another for another name */
    listed = &listing->items[0];
    CHECK(listed->ino == 0 && listing_ino(listing, listed) >> 63);
    CHECK(listing_ino(listing, &listing->items[1]) == 1);
    CHECK(listing_ref(listing) == listing);
    listing_unref(listing);
    CHECK(listing->count == MANY);
    listing_unref(listing);
}

static void an_empty_directory_has_no_name(void)
{
    int err;
    struct listing *listing = listing_new(0, NULL, NULL, NULL, 0, &err);

    CHECK(listing && !listing_find(listing, "name", 4));
    listing_unref(listing);
    listing_unref(NULL);
}

int main(void)
{
    impossible_names_are_refused();
    odd_names_are_not();
    each_name_is_found();
    an_empty_directory_has_no_name();
    return 0;
}
