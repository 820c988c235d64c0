/* SPDX-License-Identifier: Apache-2.0 */
/* Description: the virtqueue takes chains of every legal shape, refuses the others, and tells and
 * asks the driver when VIRTIO says so. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "virtq.h"

enum {
    NUM = 16,
    DESC_AT = 0,
    AVAIL_AT = 4096,
    USED_AT = 8192,
    TABLE_AT = 12288,
    DATA_AT = 65536,
    SPLIT_AT = 1 << 20, /* a second region begins here, in guest addresses right behind the first */
    SIZE = SPLIT_AT + 65536,
    USER = 0x40000000,
};

struct fixture {
    char *memory;
    struct guest_mem *mem;
    struct virtq vq;
    struct iovec iovs[FUSE_REQ_IOVS];
    struct fuse_req req;
};

static struct vring_desc *descs(struct fixture *f)
{
    return (struct vring_desc *)(f->memory + DESC_AT);
}

static struct vring_avail *avail(struct fixture *f)
{
    return (struct vring_avail *)(f->memory + AVAIL_AT);
}

static struct vring_used *used(struct fixture *f)
{
    return (struct vring_used *)(f->memory + USED_AT);
}

static void setup(struct fixture *f, uint16_t base, bool event_idx)
{
    static atomic_bool failed;
    int fd = memfd_create("guest", MFD_CLOEXEC);
    struct ovfs_mem_region regions[] = {
        {.guest_addr = 0, .size = SPLIT_AT, .user_addr = USER, .mmap_offset = 0, .fd = fd},
        {.guest_addr = SPLIT_AT,
         .size = SIZE - SPLIT_AT,
         .user_addr = USER + 2 * SIZE,
         .mmap_offset = SPLIT_AT,
         .fd = fd},
    };
    struct ovfs_vring vring = {.num = NUM,
                               .base = base,
                               .desc_addr = USER + DESC_AT,
                               .avail_addr = USER + AVAIL_AT,
                               .used_addr = USER + USED_AT,
                               .event_idx = event_idx,
                               .indirect = 1};

    memset(f, 0, sizeof(*f));
    CHECK(fd >= 0 && ftruncate(fd, SIZE) == 0);
    f->memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(f->memory != MAP_FAILED);
    CHECK(guest_mem_extend(NULL, regions, 2, &failed, &f->mem) == 0);
    close(fd);
    avail(f)->idx = base;
    used(f)->idx = base;
    f->req.iov = f->iovs;
    CHECK(virtq_init(&f->vq, &vring, f->mem) == 0);
}

static void teardown(struct fixture *f)
{
    guest_mem_unref(f->mem);
    munmap(f->memory, SIZE);
}

static void offer(struct fixture *f, uint16_t head)
{
    avail(f)->ring[avail(f)->idx % NUM] = head;
    avail(f)->idx++;
}

static int pop(struct fixture *f)
{
    return virtq_pop(&f->vq, f->mem, &f->req);
}

static void test_direct_and_wrap(void)
{
    struct fixture f;

    setup(&f, 65530, true);
    for (int i = 0; i < 70000; i++) {
        uint16_t head = (uint16_t)(i % (NUM - 1));

        descs(&f)[head] = (struct vring_desc){DATA_AT, 40, VRING_DESC_F_NEXT, NUM - 1};
        descs(&f)[NUM - 1] = (struct vring_desc){DATA_AT + 100, 16, VRING_DESC_F_WRITE, 0};
        offer(&f, head);
        CHECK(pop(&f) == 1 && f.req.head == head);
        CHECK(f.req.in.left == 40 && f.req.in.count == 1 && f.req.out.left == 16);
        CHECK((char *)f.req.out.iov[0].iov_base - (char *)f.req.in.iov[0].iov_base == 100);
        virtq_push(&f.vq, head, 16);
        virtq_publish(&f.vq);
        CHECK(used(&f)->idx == avail(&f)->idx);
        CHECK(used(&f)->ring[(uint16_t)(used(&f)->idx - 1) % NUM].id == head);
    }
    CHECK(pop(&f) == 0);
    teardown(&f);
}

static void test_straddling_regions(void)
{
    struct fixture f;

    setup(&f, 0, true);
    descs(&f)[0] = (struct vring_desc){SPLIT_AT - 10, 40, 0, 0};
    offer(&f, 0);
    CHECK(pop(&f) == 1 && f.req.in.count == 2 && f.req.in.left == 40);
    CHECK(f.req.in.iov[0].iov_len == 10 && f.req.in.iov[1].iov_len == 30);
    teardown(&f);
}

/* An indirect table, also one that itself straddles two regions. */
static void test_indirect(uint64_t table_at)
{
    struct vring_desc table[3] = {
        {DATA_AT, 40, VRING_DESC_F_NEXT, 2},
        {0, 0, 0, 0},
        {DATA_AT + 64, 4096, VRING_DESC_F_WRITE, 0},
    };
    struct fixture f;

    setup(&f, 0, true);
    memcpy(f.memory + table_at, table, sizeof(table));
    descs(&f)[3] = (struct vring_desc){table_at, sizeof(table), VRING_DESC_F_INDIRECT, 0};
    offer(&f, 3);
    CHECK(pop(&f) == 1 && f.req.head == 3 && f.req.in.left == 40 && f.req.out.left == 4096);
    teardown(&f);
}

static void bad(struct vring_desc first, struct vring_desc second)
{
    struct fixture f;

    setup(&f, 0, true);
    descs(&f)[0] = first;
    descs(&f)[1] = second;
    offer(&f, 0);
    CHECK(pop(&f) == -EBADMSG && f.req.head == 0);
    descs(&f)[2] = (struct vring_desc){DATA_AT, 40, 0, 0}; /* and the next one is served */
    offer(&f, 2);
    CHECK(pop(&f) == 1 && f.req.head == 2);
    teardown(&f);
}

static void test_refused(void)
{
    struct vring_desc ok = {DATA_AT, 40, 0, 0};
    struct fixture f;

    bad((struct vring_desc){DATA_AT, 1, VRING_DESC_F_NEXT, 0}, ok); /* itself */
    bad((struct vring_desc){DATA_AT, 1, VRING_DESC_F_NEXT, 1},
        (struct vring_desc){DATA_AT, 1, VRING_DESC_F_NEXT, 0});       /* a loop of two */
    bad((struct vring_desc){DATA_AT, 1, VRING_DESC_F_NEXT, NUM}, ok); /* next too high */
    bad((struct vring_desc){SIZE, 1, 0, 0}, ok);                      /* behind memory */
    bad((struct vring_desc){SIZE - 1, 2, 0, 0}, ok);                  /* ends behind it */
    bad((struct vring_desc){UINT64_MAX, 2, 0, 0}, ok);                /* wraps */
    bad((struct vring_desc){DATA_AT, 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1}, ok);
    bad((struct vring_desc){TABLE_AT, 17, VRING_DESC_F_INDIRECT, 0}, ok); /* no whole entries */
    bad((struct vring_desc){TABLE_AT, 0, VRING_DESC_F_INDIRECT, 0}, ok);
    bad((struct vring_desc){SIZE, 16, VRING_DESC_F_INDIRECT, 0}, ok);
    bad((struct vring_desc){TABLE_AT, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1}, ok);
    /* an indirect table inside itself: the ring's table, read as an indirect one */
    bad((struct vring_desc){DESC_AT, 16, VRING_DESC_F_INDIRECT, 0}, ok);

    setup(&f, 0, true);
    offer(&f, NUM); /* no descriptor at all */
    CHECK(pop(&f) == -EBADMSG && f.req.head == VIRTQ_NO_HEAD);
    avail(&f)->idx += NUM + 1;
    CHECK(pop(&f) == -EPIPE);
    teardown(&f);
}

static void test_notification(void)
{
    struct fixture f;
    uint16_t *used_event, *avail_event;

    setup(&f, 0, true);
    used_event = &avail(&f)->ring[NUM];
    avail_event = (uint16_t *)&used(&f)->ring[NUM];
    CHECK(!virtq_publish(&f.vq)); /* nothing to tell */
    virtq_push(&f.vq, 0, 0);
    CHECK(virtq_publish(&f.vq)); /* the first always */
    *used_event = 3;
    virtq_push(&f.vq, 0, 0);
    CHECK(!virtq_publish(&f.vq)); /* 2 */
    virtq_push(&f.vq, 0, 0);
    virtq_push(&f.vq, 0, 0);
    CHECK(virtq_publish(&f.vq)); /* 4 passed 3 */
    virtq_push(&f.vq, 0, 0);
    CHECK(!virtq_publish(&f.vq));
    CHECK(virtq_sleep(&f.vq) && *avail_event == 0);
    offer(&f, 0);
    CHECK(!virtq_sleep(&f.vq)); /* one came in between */
    teardown(&f);

    setup(&f, 0, false);
    virtq_wake(&f.vq);
    CHECK(used(&f)->flags == VRING_USED_F_NO_NOTIFY);
    CHECK(virtq_sleep(&f.vq) && used(&f)->flags == 0);
    virtq_push(&f.vq, 0, 0);
    CHECK(virtq_publish(&f.vq));
    avail(&f)->flags = VRING_AVAIL_F_NO_INTERRUPT;
    virtq_push(&f.vq, 0, 0);
    CHECK(!virtq_publish(&f.vq));
    teardown(&f);
}

static void test_rings_outside_memory(void)
{
    struct ovfs_vring vring = {.num = NUM, .desc_addr = USER, .avail_addr = USER + AVAIL_AT};
    struct fixture f;
    struct virtq vq;

    setup(&f, 0, true);
    vring.used_addr = USER + SPLIT_AT - 16; /* not whole in its region */
    CHECK(virtq_init(&vq, &vring, f.mem) == -EFAULT);
    vring.used_addr = USER + USED_AT + 1;
    CHECK(virtq_init(&vq, &vring, f.mem) == -EFAULT);
    vring.used_addr = USER + USED_AT;
    CHECK(virtq_init(&vq, &vring, f.mem) == 0);
    vring.num = 24;
    CHECK(virtq_init(&vq, &vring, f.mem) == -EINVAL);
    vring.num = NUM;
    vring.base = 65536;
    CHECK(virtq_init(&vq, &vring, f.mem) == -EINVAL);
    teardown(&f);
}

int main(void)
{
    test_direct_and_wrap();
    test_straddling_regions();
    test_indirect(TABLE_AT);
    test_indirect(SPLIT_AT - 24);
    test_refused();
    test_notification();
    test_rings_outside_memory();
    return 0;
}
