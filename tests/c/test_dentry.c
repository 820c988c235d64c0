/* SPDX-License-Identifier: Apache-2.0
 * Description: names are found, replaced, dropped by directory, and bounded in number. */
#include "remote/dentry.h"

#include <stdio.h>
#include <string.h>

#include "check.h"
#include "remote/stamp.h"

static struct stamps stamps;
static struct dentry_table *table;

static int set(uint64_t parent, const char *name, uint64_t ino, bool overlay)
{
    struct dentry dentry = {
        .ino = ino, .until_ns = 1000, .stamp = stamp_new(&stamps), .overlay = overlay};

    return dentry_set(table, parent, name, strlen(name), &dentry);
}

/* UINT64_MAX: there is none. */
static uint64_t find(uint64_t parent, const char *name)
{
    struct dentry dentry;

    if (!dentry_find(table, parent, name, strlen(name), &dentry))
        return UINT64_MAX;
    CHECK(dentry.until_ns == 1000);
    return dentry.ino;
}

static void a_name_is_of_one_directory(void)
{
    char longest[256] = {0};

    memset(longest, 'n', 255);
    CHECK(find(1, "name") == UINT64_MAX);
    CHECK(set(1, "name", 7, false) == 0 && set(2, "name", 8, false) == 0);
    CHECK(set(1, "name2", 0, false) == 0 && set(1, longest, 9, false) == 0);
    CHECK(find(1, "name") == 7 && find(2, "name") == 8 && find(1, "name2") == 0);
    CHECK(find(1, longest) == 9);
    longest[254] = 'm';
    CHECK(find(1, longest) == UINT64_MAX);
    CHECK(set(1, "name", 10, false) == 0);
    CHECK(find(1, "name") == 10 && dentry_count(table) == 4);
    dentry_remove(table, 1, "name", 4);
    dentry_remove(table, 1, "name", 4);
    CHECK(find(1, "name") == UINT64_MAX && find(2, "name") == 8);
}

static void a_directory_s_names_are_dropped_at_once(void)
{
    CHECK(set(3, "a", 1, false) == 0 && set(3, "b", 2, false) == 0 && set(4, "a", 3, false) == 0);
    stamp_mark(&stamps, STAMP_NAMES, 3);
    CHECK(find(3, "a") == UINT64_MAX && find(3, "b") == UINT64_MAX && find(4, "a") == 3);
    CHECK(set(3, "a", 4, false) == 0);
    CHECK(find(3, "a") == 4);
}

/* What is asked for stays; what goes is told if somebody relies on it. */
static void their_number_is_bounded(void)
{
    uint64_t before = stamp_new(&stamps);
    char name[32];

    CHECK(set(5, "overlay", 1, true) == 0 && set(6, "wanted", 2, false) == 0);
    CHECK(stamp_holds(&stamps, STAMP_LOOKUPS, 5, before));
    for (int i = 0; i < 400000; i++) {
        snprintf(name, sizeof(name), "name-%d", i);
        CHECK(set(6, name, 3, false) == 0);
        if (i % 1000 == 0)
            CHECK(find(6, "wanted") == 2);
    }
    CHECK(dentry_count(table) == 64 * 2048);
    CHECK(find(6, name) == 3 && find(6, "name-0") == UINT64_MAX);
    CHECK(find(5, "overlay") == UINT64_MAX);
    CHECK(!stamp_holds(&stamps, STAMP_LOOKUPS, 5, before));
    CHECK(stamp_holds(&stamps, STAMP_LOOKUPS, 6, before));
    dentry_clear(table);
    CHECK(dentry_count(table) == 0 && find(6, "wanted") == UINT64_MAX);
    CHECK(set(6, "wanted", 2, false) == 0 && find(6, "wanted") == 2);
}

int main(void)
{
    CHECK(dentry_table_new(&stamps, &table) == 0);
    a_name_is_of_one_directory();
    a_directory_s_names_are_dropped_at_once();
    their_number_is_bounded();
    dentry_table_free(table);
    return 0;
}
