/* SPDX-License-Identifier: Apache-2.0
 * Description: the node table: keys, lookup counts, FORGET, and a million nodes in little memory.
 */
#include "inode.h"

#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "wire_fuse.h"

enum { MILLION = 1000 * 1000 };

static unsigned destroyed;

static void on_destroy(struct inode *inode, void *context)
{
    CHECK(inode && context == &destroyed);
    destroyed++;
}

static struct inode_table *new_table(void)
{
    struct inode_table *table;

    destroyed = 0;
    CHECK(inode_table_new(sizeof(struct inode), on_destroy, &destroyed, &table) == 0);
    return table;
}

/* A key of `len` bytes that begins with `number`. */
static struct inode_key key_of(uint64_t number, uint8_t len)
{
    static unsigned char bytes[128];

    memset(bytes, 0x5a, sizeof(bytes));
    memcpy(bytes, &number, sizeof(number));
    return (struct inode_key){.mount = 3, .type = 1, .len = len, .bytes = bytes};
}

static uint64_t enter(struct inode_table *table, uint64_t number, bool *made)
{
    struct inode_key key = key_of(number, 8);
    struct inode *inode = inode_enter(table, &key, S_IFREG, -1, made);
    uint64_t id;

    CHECK(inode && inode->type == S_IFREG && inode->mount == 3 && inode->key_type == 1);
    id = inode_id(table, inode);
    inode_unpin(table, inode);
    return id;
}

static bool knows(struct inode_table *table, uint64_t id)
{
    struct inode *inode = inode_pin(table, id);

    if (inode)
        inode_unpin(table, inode);
    return inode;
}

static void the_root_stays(void)
{
    struct inode_table *table = new_table();
    bool made;

    CHECK(enter(table, 0, &made) == FUSE_ROOT_ID && made);
    inode_forget(table, FUSE_ROOT_ID, UINT64_MAX);
    CHECK(knows(table, FUSE_ROOT_ID));
    inode_forget_all(table);
    CHECK(knows(table, FUSE_ROOT_ID) && destroyed == 0);
    CHECK(enter(table, 0, &made) == FUSE_ROOT_ID && !made);
    inode_table_free(table);
    CHECK(destroyed == 1);
}

static void a_key_is_one_node(void)
{
    struct inode_table *table = new_table();
    struct inode_key key = key_of(7, 8), other;
    struct inode *inode;
    uint64_t id;
    bool made;

    enter(table, 0, &made);
    id = enter(table, 7, &made);
    CHECK(made);
    CHECK(enter(table, 7, &made) == id && !made);
    inode = inode_find(table, &key, false);
    CHECK(inode && inode_id(table, inode) == id && inode->lookups == 2);
    inode_unpin(table, inode);
    other = key;
    other.mount = 4;
    CHECK(!inode_find(table, &other, true));
    other = key;
    other.type = INODE_KEY_INO;
    CHECK(!inode_find(table, &other, true));
    other = key_of(7, 12);
    CHECK(!inode_find(table, &other, true));
    inode_table_free(table);
}

static void lookups_are_counted(void)
{
    struct inode_table *table = new_table();
    struct inode_key key = key_of(9, 8);
    uint64_t id;
    bool made;

    enter(table, 0, &made);
    id = enter(table, 9, &made);
    inode_unpin(table, inode_find(table, &key, true));
    inode_forget(table, id, 1);
    CHECK(knows(table, id));
    inode_forget(table, id, 1);
    key = key_of(9, 8);
    CHECK(!knows(table, id) && !inode_find(table, &key, true) && destroyed == 1);
    inode_forget(table, id, 1);                  /* not known any more */
    inode_forget(table, UINT64_MAX, 1);          /* never known */
    CHECK(enter(table, 9, &made) != id && made); /* ids never come again */
    id = enter(table, 9, &made);
    inode_forget(table, id, 1000); /* more than there are: clamps */
    CHECK(!knows(table, id) && destroyed == 2);
    CHECK(inode_count(table) == 1);
    inode_table_free(table);
}

static void a_forgotten_node_lives_while_pinned(void)
{
    struct inode_table *table = new_table();
    struct inode_key key = key_of(5, 8);
    struct inode *pinned, *second;
    uint64_t id;
    bool made;

    enter(table, 0, &made);
    id = enter(table, 5, &made);
    pinned = inode_pin(table, id);
    inode_forget(table, id, 1);
    CHECK(destroyed == 0 && !knows(table, id));
    key = key_of(5, 8);
    second = inode_enter(table, &key, S_IFREG, -1, &made);
    CHECK(made && second != pinned && inode_id(table, second) != id);
    CHECK(memcmp(inode_key_bytes(pinned), key.bytes, 8) == 0);
    inode_unpin(table, pinned);
    CHECK(destroyed == 1);
    inode_forget(table, inode_id(table, second), 1);
    inode_unpin(table, second);
    CHECK(destroyed == 2);
    inode_table_free(table);
}

static void keys_of_every_length(void)
{
    struct inode_table *table = new_table();
    static uint64_t ids[129];
    unsigned len;
    bool made;

    enter(table, 0, &made);
    for (len = 8; len <= 128; len++) {
        struct inode_key key = key_of(77, (uint8_t)len);
        struct inode *inode = inode_enter(table, &key, S_IFDIR, -1, &made);

        CHECK(made && memcmp(inode_key_bytes(inode), key.bytes, len) == 0);
        ids[len] = inode_id(table, inode);
        inode_unpin(table, inode);
    }
    for (len = 8; len <= 128; len++) {
        struct inode_key key = key_of(77, (uint8_t)len);
        struct inode *inode = inode_find(table, &key, false);

        CHECK(inode && inode_id(table, inode) == ids[len]);
        inode_unpin(table, inode);
        inode_forget(table, ids[len], 1);
    }
    CHECK(inode_count(table) == 1);
    inode_table_free(table);
}

static size_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long size, resident;

    CHECK(file && fscanf(file, "%lu %lu", &size, &resident) == 2);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void a_million_nodes(void)
{
    struct inode_table *table = new_table();
    uint64_t *ids = calloc(MILLION, sizeof(*ids));
    size_t before, full, after;
    bool made;
    uint64_t i;

    CHECK(ids);
    memset(ids, 1, MILLION * sizeof(*ids));
    enter(table, 0, &made);
    before = resident_bytes();
    for (i = 1; i < MILLION; i++) {
        ids[i] = enter(table, i, &made);
        CHECK(made);
    }
    full = resident_bytes();
    for (i = 1; i < MILLION; i++)
        CHECK(enter(table, i, &made) == ids[i] && !made);
    for (i = MILLION - 1; i > 0; i--)
        inode_forget(table, ids[i], 2);
    after = resident_bytes();
    CHECK(inode_count(table) == 1 && destroyed == MILLION - 1);
#ifndef __SANITIZE_ADDRESS__ /* whose allocator keeps what is freed */
    CHECK(full - before < (size_t)MILLION * 100);
    CHECK(after < before || after - before < (full - before) / 8);
#else
    (void)full;
    (void)before;
    (void)after;
#endif
    free(ids);
    inode_table_free(table);
}

int main(void)
{
    the_root_stays();
    a_key_is_one_node();
    lookups_are_counted();
    a_forgotten_node_lives_while_pinned();
    keys_of_every_length();
    a_million_nodes();
    return 0;
}
