/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each workload sends: a table of at most four steps, each a request and what to take from its
 * reply. The layout of a request is that of Linux' virtio-fs: header, all arguments together, data
 * pages; reply header, reply, pages.
 */
#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void *request(struct slot *slot, uint32_t opcode, uint64_t nodeid, uint32_t arg_len,
                     uint32_t out_len)
{
    struct fuse_in_header *header = slot_header(slot);

    header->opcode = opcode;
    header->nodeid = nodeid;
    slot->arg_len = arg_len;
    slot->out_len = out_len;
    slot->data_in = slot->data_out = 0;
    return memset(slot_arg(slot), 0, arg_len < 128 ? arg_len : 128);
}

/* Arguments that end in a name. */
static void *request_name(struct slot *slot, uint32_t opcode, uint64_t nodeid, uint32_t arg_len,
                          const char *name, uint32_t out_len)
{
    uint32_t size = (uint32_t)strlen(name) + 1;
    uint8_t *arg = request(slot, opcode, nodeid, arg_len, out_len);

    memcpy(arg + arg_len, name, size);
    slot->arg_len += size;
    return arg;
}

static uint64_t next_offset(struct bench *bench)
{
    uint64_t blocks = bench->job->file_size / bench->job->size;

    if (bench->job->random)
        return bench_random(bench) % blocks * bench->job->size;
    /* From the start, whichever slot is free: as a guest that reads ahead. */
    return bench->taken % blocks * bench->job->size;
}

static void read_at(struct bench *bench, struct slot *slot, uint64_t nodeid, uint64_t fh,
                    uint64_t offset)
{
    struct fuse_read_in *arg = request(slot, FUSE_READ, nodeid, sizeof(*arg), 0);

    arg->fh = fh;
    arg->offset = offset;
    arg->size = bench->job->size;
    slot->data_out = bench->job->size;
}

static void build_read(struct bench *bench, struct slot *slot)
{
    read_at(bench, slot, bench->job->nodeid, bench->job->fh, next_offset(bench));
}

static bool reply_read(struct bench *bench, struct slot *slot)
{
    bench->result->bytes += bench->job->size;
    return slot_reply(slot)->len == sizeof(struct fuse_out_header) + bench->job->size;
}

static void write_at(struct bench *bench, struct slot *slot, uint64_t nodeid, uint64_t fh,
                     uint64_t offset)
{
    struct fuse_write_in *arg =
        request(slot, FUSE_WRITE, nodeid, sizeof(*arg), sizeof(struct fuse_write_out));

    arg->fh = fh;
    arg->offset = offset;
    arg->size = bench->job->size;
    slot->data_in = bench->job->size;
}

static void build_write(struct bench *bench, struct slot *slot)
{
    write_at(bench, slot, bench->job->nodeid, bench->job->fh, next_offset(bench));
}

static bool reply_write(struct bench *bench, struct slot *slot)
{
    const struct fuse_write_out *out = slot_reply_arg(slot);

    bench->result->bytes += bench->job->size;
    return out->size == bench->job->size;
}

static void build_mixed(struct bench *bench, struct slot *slot)
{
    if (bench_random(bench) % 10 < 7)
        build_read(bench, slot);
    else
        build_write(bench, slot);
}

static bool reply_mixed(struct bench *bench, struct slot *slot)
{
    return slot->data_out != 0 ? reply_read(bench, slot) : reply_write(bench, slot);
}

static uint64_t pick_node(struct bench *bench)
{
    return bench->job->nodes[bench->taken % bench->job->n_nodes];
}

static void build_getattr(struct bench *bench, struct slot *slot)
{
    request(slot, FUSE_GETATTR, pick_node(bench), sizeof(struct fuse_getattr_in),
            sizeof(struct fuse_attr_out));
}

static void build_lookup(struct bench *bench, struct slot *slot)
{
    slot->pick = (uint32_t)(bench->taken % bench->job->n_names);
    request_name(slot, FUSE_LOOKUP, bench->job->nodeid, 0, bench->job->names[slot->pick],
                 sizeof(struct fuse_entry_out));
}

static bool reply_lookup(struct bench *bench, struct slot *slot)
{
    const struct fuse_entry_out *out = slot_reply_arg(slot);

    slot->nodeid = out->nodeid;
    ledger_add(bench, slot->nodeid);
    return slot->nodeid != 0;
}

static void build_open(struct bench *bench, struct slot *slot)
{
    struct fuse_open_in *arg =
        request(slot, FUSE_OPEN, slot->nodeid, sizeof(*arg), sizeof(struct fuse_open_out));

    arg->flags = bench->job->flags;
}

static void build_open_node(struct bench *bench, struct slot *slot)
{
    slot->nodeid = pick_node(bench);
    build_open(bench, slot);
}

static bool reply_open(struct bench *bench, struct slot *slot)
{
    const struct fuse_open_out *out = slot_reply_arg(slot);

    (void)bench;
    slot->fh = out->fh;
    return true;
}

static void build_release(struct bench *bench, struct slot *slot)
{
    struct fuse_release_in *arg = request(slot, FUSE_RELEASE, slot->nodeid, sizeof(*arg), 0);

    arg->fh = slot->fh;
    arg->flags = bench->job->flags;
}

static void build_small_read(struct bench *bench, struct slot *slot)
{
    read_at(bench, slot, slot->nodeid, slot->fh, 0);
}

static void own_name(const struct slot *slot, char *name, size_t size)
{
    snprintf(name, size, "bench-%x-%x", slot->index, slot->turn);
}

static void create_at(struct bench *bench, struct slot *slot, const char *name)
{
    struct fuse_create_in *arg =
        request_name(slot, FUSE_CREATE, bench->job->nodeid, sizeof(*arg), name,
                     sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out));

    arg->flags = bench->job->flags;
    arg->mode = 0100644;
    arg->umask = 022;
}

static void build_create(struct bench *bench, struct slot *slot)
{
    char name[64];

    own_name(slot, name, sizeof(name));
    create_at(bench, slot, name);
}

static bool reply_create(struct bench *bench, struct slot *slot)
{
    const struct fuse_entry_out *entry = slot_reply_arg(slot);
    const struct fuse_open_out *open = (const void *)(entry + 1);

    (void)bench;
    slot->nodeid = entry->nodeid;
    slot->fh = open->fh;
    return slot->nodeid != 0;
}

/* The daemon says so by an error or by no node. */
static bool reply_absent(struct bench *bench, struct slot *slot)
{
    const struct fuse_entry_out *entry = slot_reply_arg(slot);

    (void)bench;
    return entry->nodeid == 0;
}

static void build_store_create(struct bench *bench, struct slot *slot)
{
    create_at(bench, slot, bench->job->names[slot->pick]);
}

static bool reply_store_create(struct bench *bench, struct slot *slot)
{
    if (!reply_create(bench, slot))
        return false;
    ledger_add(bench, slot->nodeid);
    return true;
}

static void build_store_write(struct bench *bench, struct slot *slot)
{
    write_at(bench, slot, slot->nodeid, slot->fh, 0);
}

static void build_flush(struct bench *bench, struct slot *slot)
{
    struct fuse_flush_in *arg = request(slot, FUSE_FLUSH, slot->nodeid, sizeof(*arg), 0);

    (void)bench;
    arg->fh = slot->fh;
}

static void build_unlink(struct bench *bench, struct slot *slot)
{
    char name[64];

    own_name(slot, name, sizeof(name));
    request_name(slot, FUSE_UNLINK, bench->job->nodeid, 0, name, 0);
}

/* A guest evicts an unlinked inode at once. */
static bool reply_unlink(struct bench *bench, struct slot *slot)
{
    forget_send(bench, slot->nodeid, 1);
    return true;
}

static void rename_between(struct bench *bench, struct slot *slot, bool back)
{
    const char *name = bench->job->names[slot->index];
    uint32_t size = (uint32_t)strlen(name) + 1;
    struct fuse_rename2_in *arg = request(slot, FUSE_RENAME2, bench->job->nodeid, sizeof(*arg), 0);
    uint8_t *old = (uint8_t *)(arg + 1), *new;

    arg->newdir = bench->job->nodeid;
    slot->arg_len += 2 * size + 1;
    /* The other name is the name with a tilde behind it. */
    memcpy(old, name, size);
    if (back)
        memcpy(old + size - 1, "~", 2);
    new = old + size + back;
    memcpy(new, name, size);
    if (!back)
        memcpy(new + size - 1, "~", 2);
}

static void build_rename(struct bench *bench, struct slot *slot)
{
    rename_between(bench, slot, false);
}

static void build_rename_back(struct bench *bench, struct slot *slot)
{
    rename_between(bench, slot, true);
}

static void build_readdirplus(struct bench *bench, struct slot *slot)
{
    struct fuse_read_in *arg = request(slot, FUSE_READDIRPLUS, bench->job->nodeid, sizeof(*arg), 0);

    arg->fh = bench->job->nodes[slot->index];
    arg->offset = slot->offset;
    arg->size = bench->job->size;
    slot->data_out = bench->job->size;
}

/* No lookup is counted for a directory itself and its parent. */
static bool is_dot(const struct fuse_dirent *entry)
{
    return (entry->namelen == 1 && entry->name[0] == '.') ||
           (entry->namelen == 2 && entry->name[0] == '.' && entry->name[1] == '.');
}

static bool reply_readdirplus(struct bench *bench, struct slot *slot)
{
    uint32_t left = slot_reply(slot)->len - (uint32_t)sizeof(struct fuse_out_header);
    const uint8_t *at = slot->data;

    if (left > bench->job->size)
        return false;
    bench->result->bytes += left;
    if (left == 0)
        slot->offset = 0; /* the end: from the start again */
    while (left >= FUSE_NAME_OFFSET_DIRENTPLUS) {
        const struct fuse_direntplus *entry = (const void *)at;
        uint32_t size = (uint32_t)FUSE_DIRENTPLUS_SIZE(entry);

        if (size > left)
            return false;
        if (!is_dot(&entry->dirent))
            ledger_add(bench, entry->entry_out.nodeid);
        slot->offset = entry->dirent.off;
        at += size;
        left -= size;
    }
    return true;
}

const struct workload workloads[VMM_WORKLOADS] = {
    [VMM_READ] = {true, {{build_read, reply_read}}},
    [VMM_WRITE] = {true, {{build_write, reply_write}}},
    [VMM_MIXED] = {true, {{build_mixed, reply_mixed}}},
    [VMM_GETATTR] = {false, {{build_getattr, NULL}}},
    [VMM_LOOKUP] = {false, {{build_lookup, reply_lookup}}},
    [VMM_OPEN_RELEASE] = {false, {{build_open_node, reply_open}, {build_release, NULL}}},
    [VMM_CREATE_UNLINK] = {false,
                           {{build_create, reply_create},
                            {build_release, NULL},
                            {build_unlink, reply_unlink}}},
    [VMM_RENAME] = {false, {{build_rename, NULL}, {build_rename_back, NULL}}},
    [VMM_READDIRPLUS] = {true, {{build_readdirplus, reply_readdirplus}}},
    [VMM_SMALL_FILE] = {true,
                        {{build_lookup, reply_lookup},
                         {build_open, reply_open},
                         {build_small_read, reply_read},
                         {build_release, NULL}}},
    [VMM_STORE_FILE] = {true,
                        {{build_lookup, reply_absent, .allowed = ENOENT},
                         {build_store_create, reply_store_create},
                         {build_store_write, reply_write},
                         {build_flush, NULL},
                         {build_release, NULL}}},
};
