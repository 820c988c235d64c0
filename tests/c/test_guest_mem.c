/* SPDX-License-Identifier: Apache-2.0 */
/* Description: guest addresses are translated within their region, and a file that shrinks under
 * its mapping raises the flag instead of ending the process. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "guest_mem.h"

enum { PAGE = 4096 };

static int memory_file(size_t size)
{
    int fd = memfd_create("guest", MFD_CLOEXEC);

    CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    return fd;
}

static void test_translation(void)
{
    int fd = memory_file(8 * PAGE);
    atomic_bool failed = false;
    struct ovfs_mem_region regions[] = {
        {.guest_addr = 0x100000,
         .size = 2 * PAGE,
         .user_addr = 0x7000000,
         .mmap_offset = 0,
         .fd = fd},
        {.guest_addr = 0, .size = PAGE, .user_addr = 0x9000000, .mmap_offset = 4 * PAGE, .fd = fd},
    };
    struct guest_mem *mem, *more;
    uint64_t len = 3 * PAGE;
    char *at;

    CHECK(guest_mem_extend(NULL, regions, 2, &failed, &mem) == 0);
    CHECK(mem->count == 2 && mem->regions[0].guest_addr == 0);
    at = guest_mem_at(mem, 0x100000 + 100, &len);
    CHECK(at && len == 2 * PAGE - 100);
    CHECK(pwrite(fd, "guest", 5, 100) == 5 && memcmp(at, "guest", 5) == 0);
    len = 4;
    at = guest_mem_at(mem, 8, &len);
    CHECK(at && len == 4);
    CHECK(pwrite(fd, "low", 3, 4 * PAGE + 8) == 3 && memcmp(at, "low", 3) == 0);
    CHECK(!guest_mem_at(mem, PAGE, &len) && !guest_mem_at(mem, 0x100000 - 1, &len));
    CHECK(!guest_mem_at(mem, 0x100000 + 2 * PAGE, &len) && !guest_mem_at(mem, UINT64_MAX, &len));
    CHECK(guest_mem_at_user(mem, 0x9000000 + 8, PAGE - 8) == (void *)at);
    CHECK(!guest_mem_at_user(mem, 0x9000000 + 8, PAGE) &&
          !guest_mem_at_user(mem, 0x9000000 - 1, 1));

    regions[0].guest_addr += PAGE;
    CHECK(guest_mem_extend(mem, regions, 1, &failed, &more) == -EEXIST);
    regions[0].guest_addr = 0x100000 - PAGE;
    CHECK(guest_mem_extend(mem, regions, 1, &failed, &more) == -EEXIST);
    regions[0] = (struct ovfs_mem_region){.guest_addr = UINT64_MAX - 1, .size = PAGE, .fd = fd};
    CHECK(guest_mem_extend(mem, regions, 1, &failed, &more) == -EINVAL);
    regions[0] = (struct ovfs_mem_region){.guest_addr = 0x200000, .size = 0, .fd = fd};
    CHECK(guest_mem_extend(mem, regions, 1, &failed, &more) == -EINVAL);
    regions[0] = (struct ovfs_mem_region){.guest_addr = 0x200000, .size = PAGE, .fd = -1};
    CHECK(guest_mem_extend(mem, regions, 1, &failed, &more) == -EBADF);

    CHECK(guest_mem_without(mem, 0, PAGE, 0x9000001, &more) == -ENOENT);
    CHECK(guest_mem_without(mem, 0, PAGE, 0x9000000, &more) == 0);
    guest_mem_unref(mem);
    len = 1;
    CHECK(more->count == 1 && !guest_mem_at(more, 8, &len));
    at = guest_mem_at(more, 0x100000 + 100, &len);
    CHECK(at && *at == 'g'); /* the shared mapping outlived the first table */
    guest_mem_unref(more);
    close(fd);
}

static void test_shrunk_file(void)
{
    int fd = memory_file(4 * PAGE);
    atomic_bool failed = false;
    struct ovfs_mem_region region = {.guest_addr = 0, .size = 4 * PAGE, .user_addr = 0, .fd = fd};
    struct guest_mem *mem;
    uint64_t len = 1;
    volatile char *at;

    CHECK(guest_mem_extend(NULL, &region, 1, &failed, &mem) == 0);
    at = guest_mem_at(mem, 3 * PAGE, &len);
    *at = 1;
    CHECK(!failed && ftruncate(fd, PAGE) == 0);
    CHECK(*at == 0 && failed);
    *at = 2;
    guest_mem_unref(mem);
    close(fd);
}

int main(void)
{
    test_translation();
    test_shrunk_file();
    return 0;
}
