/* SPDX-License-Identifier: Apache-2.0 */
/* Description: READDIR and READDIRPLUS: whole entries, host offsets, seeks, removal meanwhile. */
#include <dirent.h>

#include "guest.h"

enum { FILES = 2000, PAGE = 4096, SEEN_MAX = FILES + 16 };

static struct guest guest;

/* What a listing brought, in order. */
struct listing {
    size_t count;
    struct {
        char name[256];
        uint64_t off, ino, nodeid;
        uint32_t type;
    } entry[SEEN_MAX];
};

static struct listing seen;

static struct reply read_page(uint32_t opcode, uint64_t node, uint64_t fh, uint64_t offset,
                              uint32_t size)
{
    struct fuse_read_in in = {.fh = fh, .offset = offset, .size = size};

    return guest_call(
        &guest,
        &(struct call){.opcode = opcode, .nodeid = node, ARG_OF(in), .out_len = size, .seg = 1000});
}

/* Take a reply apart into `seen`. Returns the offset behind its last entry. */
static uint64_t take(const struct reply *reply, bool plus)
{
    size_t entry_size = plus ? sizeof(struct fuse_entry_out) : 0, at = 0;
    uint64_t off = 0;

    while (at < reply->len) {
        struct fuse_entry_out entry = {0};
        struct fuse_dirent dirent;
        size_t n = seen.count++;

        CHECK(n < SEEN_MAX);
        if (plus)
            memcpy(&entry, reply->at + at, sizeof(entry));
        memcpy(&dirent, reply->at + at + entry_size, sizeof(dirent));
        CHECK(dirent.namelen > 0 && dirent.namelen <= 255);
        memcpy(seen.entry[n].name, reply->at + at + entry_size + sizeof(dirent), dirent.namelen);
        seen.entry[n].name[dirent.namelen] = '\0';
        seen.entry[n].off = off = dirent.off;
        seen.entry[n].ino = dirent.ino;
        seen.entry[n].type = dirent.type;
        seen.entry[n].nodeid = entry.nodeid;
        if (entry.nodeid)
            CHECK(entry.attr.ino == dirent.ino);
        at += FUSE_DIRENT_ALIGN(entry_size + sizeof(dirent) + dirent.namelen);
    }
    CHECK(at == reply->len);
    return off;
}

/* Read on from `offset` to the end. */
static void list_from(uint32_t opcode, uint64_t node, uint64_t fh, uint64_t offset, uint32_t size)
{
    for (;;) {
        struct reply reply = read_page(opcode, node, fh, offset, size);

        CHECK(reply.error == 0);
        if (reply.len == 0)
            return;
        offset = take(&reply, opcode == FUSE_READDIRPLUS);
    }
}

static size_t find(const char *name)
{
    size_t found = SEEN_MAX;

    for (size_t i = 0; i < seen.count; i++)
        if (strcmp(seen.entry[i].name, name) == 0) {
            CHECK(found == SEEN_MAX);
            found = i;
        }
    return found;
}

static void make_files(void)
{
    char name[256];

    CHECK(mkdirat(guest.root_fd, "many", 0755) == 0);
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof(name), "many/f%04d", i);
        host_write(&guest, name, "x", 1);
    }
}

/* Every entry comes once, whatever size the pages have. */
static void test_all(uint64_t dir, uint64_t fh)
{
    uint32_t opcodes[] = {FUSE_READDIR, FUSE_READDIRPLUS}, sizes[] = {PAGE, 333, 65536};

    for (unsigned i = 0; i < 2; i++)
        for (unsigned j = 0; j < 3; j++) {
            char name[16];

            seen.count = 0;
            list_from(opcodes[i], dir, fh, 0, sizes[j]);
            CHECK(seen.count == FILES + 2);
            for (int n = 0; n < FILES; n++) {
                snprintf(name, sizeof(name), "f%04d", n);
                CHECK(find(name) < SEEN_MAX);
                CHECK(seen.entry[find(name)].type == DT_REG);
                CHECK((seen.entry[find(name)].nodeid != 0) == (opcodes[i] == FUSE_READDIRPLUS));
            }
            CHECK(seen.entry[find(".")].nodeid == 0 && seen.entry[find("..")].nodeid == 0);
        }
}

/* An offset handed out earlier leads to the entry behind it. */
static void test_seek(uint64_t dir, uint64_t fh)
{
    char expected[256];
    uint64_t offset;

    seen.count = 0;
    list_from(FUSE_READDIR, dir, fh, 0, PAGE);
    strcpy(expected, seen.entry[1500].name);
    offset = seen.entry[1499].off;
    seen.count = 0;
    list_from(FUSE_READDIR, dir, fh, offset, PAGE);
    CHECK(seen.count == FILES + 2 - 1500);
    CHECK(strcmp(seen.entry[0].name, expected) == 0);
}

/* Removing what was listed loses nothing that was not, and the present shows after a rewind. */
static void test_remove_while_listing(uint64_t dir, uint64_t fh)
{
    struct reply reply;
    uint64_t offset = 0;
    size_t removed = 0, listed = 0;

    do {
        seen.count = 0;
        reply = read_page(FUSE_READDIRPLUS, dir, fh, offset, PAGE);
        CHECK(reply.error == 0);
        if (reply.len > 0)
            offset = take(&reply, true);
        listed += seen.count;
        for (size_t i = 0; i < seen.count; i++) {
            char path[300];

            snprintf(path, sizeof(path), "many/%s", seen.entry[i].name);
            if (seen.entry[i].name[0] == 'f' && unlinkat(guest.root_fd, path, 0) == 0)
                removed++;
        }
    } while (reply.len > 0);
    CHECK(removed == FILES && listed == FILES + 2);
    host_write(&guest, "many/new", "x", 1);
    seen.count = 0;
    list_from(FUSE_READDIRPLUS, dir, fh, 0, PAGE);
    CHECK(seen.count == 3 && find("new") < SEEN_MAX);
}

/* Names removed behind a full buffer are skipped by READDIRPLUS: there is no node to tell of. */
static void test_removed_in_buffer(uint64_t dir, uint64_t fh)
{
    struct reply reply;
    uint64_t offset;

    for (int i = 0; i < 100; i++) {
        char name[32];

        snprintf(name, sizeof(name), "many/g%03d", i);
        host_write(&guest, name, "x", 1);
    }
    seen.count = 0;
    reply = read_page(FUSE_READDIR, dir, fh, 0, 512);
    offset = take(&reply, false);
    for (int i = 0; i < 100; i++) {
        char name[32];

        snprintf(name, sizeof(name), "many/g%03d", i);
        CHECK(unlinkat(guest.root_fd, name, 0) == 0);
    }
    seen.count = 0;
    list_from(FUSE_READDIRPLUS, dir, fh, offset, PAGE);
    for (size_t i = 0; i < seen.count; i++)
        CHECK(seen.entry[i].name[0] != 'g');
}

static void test_errors(uint64_t dir, uint64_t fh)
{
    CHECK(read_page(FUSE_READDIR, dir, fh, 0, 8).error == -EINVAL);
    CHECK(read_page(FUSE_READDIRPLUS, dir, fh, 0, 100).error == -EINVAL);
    CHECK(read_page(FUSE_READDIR, dir, fh, UINT64_MAX, PAGE).error == -EINVAL);
    CHECK(read_page(FUSE_READDIR, dir, fh + 77, 0, PAGE).error == -EBADF);
    seen.count = 0;
    list_from(FUSE_READDIR, dir, fh, 0, PAGE); /* all is well after that */
    CHECK(seen.count == 3);
}

/* All types, names at the limit of length and names that are not UTF-8. */
static void test_kinds(void)
{
    uint64_t fh = guest_open(&guest, FUSE_ROOT_ID, O_DIRECTORY);
    char longest[256];
    struct stat st;

    memset(longest, 'n', 255);
    longest[255] = '\0';
    host_write(&guest, longest, "x", 1);
    host_write(&guest, "\xff\xfe", "x", 1);
    CHECK(symlinkat("nowhere", guest.root_fd, "link") == 0);
    CHECK(mknodat(guest.root_fd, "fifo", S_IFIFO | 0644, 0) == 0);
    seen.count = 0;
    list_from(FUSE_READDIRPLUS, FUSE_ROOT_ID, fh, 0, PAGE);
    CHECK(seen.entry[find(longest)].nodeid != 0);
    CHECK(seen.entry[find("\xff\xfe")].nodeid != 0);
    CHECK(seen.entry[find("link")].type == DT_LNK && seen.entry[find("link")].nodeid != 0);
    CHECK(seen.entry[find("fifo")].type == DT_FIFO && seen.entry[find("fifo")].nodeid != 0);
    CHECK(seen.entry[find("many")].type == DT_DIR);
    /* What is above the root does not show. */
    CHECK(fstat(guest.root_fd, &st) == 0);
    CHECK(seen.entry[find("..")].ino == st.st_ino);
}

int main(void)
{
    uint64_t dir, fh;

    guest_start(&guest, &(struct ovfs_options){.cache = OVFS_CACHE_NEVER});
    make_files();
    dir = guest_lookup(&guest, FUSE_ROOT_ID, "many");
    fh = guest_open(&guest, dir, O_DIRECTORY);
    test_all(dir, fh);
    test_seek(dir, fh);
    test_remove_while_listing(dir, fh);
    test_removed_in_buffer(dir, fh);
    test_errors(dir, fh);
    test_kinds();
    guest_stop(&guest);
    return 0;
}
