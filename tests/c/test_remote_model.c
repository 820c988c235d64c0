/* SPDX-License-Identifier: Apache-2.0
 * Description: random READs and WRITEs of a guest against a twin in memory, while the control plane
 * fetches, evicts, fills, seals and truncates as it likes.
 */
#include "remote_file.h"
#include "fuse_req.h"

enum { ROOM = 6 * BLOCK, STEPS = 6000, MOST = 2 * BLOCK };

/* The file's interesting part lies across the end of a segment. */
#define FROM (UINT64_C(1) * SEGMENT - 3 * BLOCK)

static unsigned char stored[ROOM], twin[ROOM]; /* from FROM on; before it are zeros */
static uint64_t size, base_size;               /* as the twin has them, from FROM on */
static int base_files[2];
static bool has_base[2];
static uint32_t random_state = 1;

static uint32_t below(uint32_t limit)
{
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % limit;
}

/* An offset from FROM on: anywhere, or near a page's edge. */
static uint32_t somewhere(void)
{
    uint32_t page = below(ROOM / PAGE) * PAGE;

    switch (below(3)) {
    case 0:
        return page;
    case 1:
        return page + below(16);
    default:
        return below(ROOM);
    }
}

/* ---- the control plane ---- */

static void add_base(int which)
{
    if (has_base[which])
        return;
    has_base[which] = true;
    CHECK(ovfs_content_segment(content, OVFS_LAYER_BASE, (uint32_t)which, dup(base_files[which])) ==
          0);
}

static void drop_base(int which)
{
    CHECK((ovfs_content_drop(content, (uint32_t)which) == 0) == has_base[which]);
    has_base[which] = false;
}

/* A mailed READ: some of what is missing, or all. */
static void fetch(const struct fuse_read_in *in)
{
    uint64_t len;

    for (int i = 0; i < 2; i++)
        add_base(i);
    for (uint64_t at = in->offset; at < in->offset + in->size; at += len) {
        int source = ovfs_content_extent(content, at, &len);

        if (len == 0)
            return;
        if (source != OVFS_SOURCE_MISSING)
            continue;
        CHECK(ovfs_content_present(content, at - at % BLOCK, len + at % BLOCK + BLOCK) == 0);
        if (below(2))
            return;
    }
}

/* A mailed WRITE: whatever it may have been about. */
static void prepare(const struct fuse_write_in *in)
{
    uint64_t ends[] = {in->offset, in->offset + in->size - 1};

    ovfs_content_seal(content, 0);
    for (int i = 0; i < 2; i++) {
        uint64_t page = ends[i] - ends[i] % PAGE, end = page + PAGE;
        int err = ovfs_content_segment(content, OVFS_LAYER_WRITE, (uint32_t)(page / SEGMENT),
                                       scratch_file(SEGMENT));

        CHECK(err == 0 || err == -EEXIST);
        end = end < FROM + base_size ? end : FROM + base_size;
        if (page < end)
            CHECK(ovfs_content_fill(content, page, stored + (page - FROM), end - page) == 0);
    }
}

/* Serve the mailbox until the guest has its answer. */
static struct reply serve(void)
{
    int looks = 0;

    while (!guest_answered(&guest, 1, 0, 0)) {
        CHECK(looks++ < 10000);
        while (ovfs_mail_take(guest.plane, &mail, 1) == 1) {
            union fuse_arg arg;

            if (mail.opcode == OVFS_NOTE_WROTE)
                continue;
            CHECK(mail.opcode == FUSE_READ || mail.opcode == FUSE_WRITE);
            memcpy(&arg, mail.arg, mail.arg_len);
            if (mail.opcode == FUSE_READ)
                fetch(&arg.read);
            else
                prepare(&arg.write);
            retry();
        }
    }
    return guest_reply(&guest, 0);
}

static void truncate_to(uint64_t to)
{
    CHECK(ovfs_content_truncate(content, FROM + to) == 0);
    if (to < size)
        memset(twin + to, 0, ROOM - to);
    size = to;
    base_size = base_size < size ? base_size : size;
}

static void meddle(void)
{
    uint32_t at = below(ROOM / PAGE) * PAGE;

    switch (below(20)) {
    case 0:
        truncate_to(somewhere());
        break;
    case 1:
        drop_base((int)below(2));
        break;
    case 2:
        ovfs_content_seal(content, FROM + at);
        break;
    case 3:
        if (state_of(content).size > FROM + at)
            ovfs_content_fill(content, FROM + at, stored + at, ROOM - at); /* or no segment */
        break;
    case 4:
        CHECK(posix_fadvise(base_files[at / PAGE % 2], 0, 0, POSIX_FADV_DONTNEED) == 0);
        break;
    }
}

/* ---- the guest ---- */

static void check_reading(void)
{
    uint64_t at = somewhere();
    uint32_t len = 1 + below(MOST);
    uint64_t there = at < size ? size - at : 0;
    struct reply reply;

    there = there < len ? there : len;
    send_read(FROM + at, len);
    reply = serve();
    CHECK(reply.error == 0 && reply.len == there);
    CHECK(memcmp(reply.at, twin + at, there) == 0);
}

static void check_writing(void)
{
    static unsigned char data[MOST];
    uint64_t at = somewhere();
    uint32_t len = 1 + below(below(2) ? MOST : 100);
    struct reply reply;

    len = at + len < ROOM ? len : (uint32_t)(ROOM - at);
    memset(data, (int)below(256), len);
    send_write(FROM + at, data, len, 0);
    reply = serve();
    CHECK(reply.error == 0 && ((const struct fuse_write_out *)reply.at)->size == len);
    memcpy(twin + at, data, len);
    size = size > at + len ? size : at + len;
}

/* A new file of the stored bytes; the one before goes. */
static void renew(void)
{
    if (content)
        end();
    size = base_size = somewhere();
    memset(twin, 0, ROOM);
    memcpy(twin, stored, base_size);
    has_base[0] = has_base[1] = false;
    begin(ovfs_content_new(FROM + size, FROM + base_size, next_ino), 0644, O_RDWR);
    ovfs_content_writable(content, 1);
}

int main(void)
{
    plane_begin();
    for (int i = 0; i < 2; i++)
        base_files[i] = scratch_file(SEGMENT);
    for (uint32_t i = 0; i < ROOM; i++)
        stored[i] = (unsigned char)(1 + (i + i / PAGE) % 255);
    put_at(base_files[0], (off_t)FROM, stored, 3 * BLOCK);
    put_at(base_files[1], 0, stored + 3 * BLOCK, ROOM - 3 * BLOCK);
    for (int step = 0; step < STEPS; step++) {
        if (step % 100 == 0)
            renew();
        seg = 500 + below(8000);
        meddle();
        if (below(3))
            check_reading();
        else
            check_writing();
    }
    plane_end();
    return 0;
}
