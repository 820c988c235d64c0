// SPDX-License-Identifier: Apache-2.0
//
// Takes a lock in the guest and holds it, since no usual program waits for an fcntl lock.
//
//     lock KIND HOW FILE [RELEASE]
//
// KIND is fcntl (a POSIX record lock) or flock; HOW is try or wait. Prints "locked", holds the lock
// until the file RELEASE exists (without one, not at all) and ends with 0; ends with 1 if somebody
// else holds it, 2 on any error.

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static int take(int fd, const char *kind, int wait)
{
    if (strcmp(kind, "flock") == 0)
        return flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB));
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, wait ? F_SETLKW : F_SETLK, &whole);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: lock fcntl|flock try|wait FILE [RELEASE]\n");
        return 2;
    }
    int fd = open(argv[3], O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        perror(argv[3]);
        return 2;
    }
    if (take(fd, argv[1], strcmp(argv[2], "wait") == 0) != 0) {
        int busy = errno == EAGAIN || errno == EACCES;
        perror("lock");
        return busy ? 1 : 2;
    }
    puts("locked");
    fflush(stdout);
    while (argc > 4 && access(argv[4], F_OK) != 0)
        usleep(20000);
    return 0;
}
