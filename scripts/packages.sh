#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Brings what pip cannot: the compiler, liburing, the virtual machine monitors, the programs that the guest tests run,
# and a peer for the benchmarks. Only what is missing is installed, so that a second call costs one dpkg-query and needs
# neither network nor root. On a distribution that is not Debian's it names what is missing, and is content once that is
# there.

set -eu

cd "$(dirname "$0")/.."
PATH=$PATH:/sbin:/usr/sbin
arch=$(uname -m)

# One package a line, and what of it to look for where there is no dpkg: a program, or a file.
needed() {
    cat <<-END
	gcc             gcc
	libc6-dev       /usr/include/stdio.h
	liburing-dev    /usr/include/liburing.h
	busybox-static  busybox
	git             git
	fio             fio
	sqlite3         sqlite3
	stress-ng       stress-ng
	strace          strace
	e2fsprogs       mke2fs
	acl             setfacl
	attr            setfattr
	fuse3           fusermount3
	s3fs            s3fs
	rsync           rsync
	END
    case $arch in
        # User-mode Linux exists for x86-64 alone; elsewhere QEMU is the only real guest.
        x86_64) printf '%s\n' "qemu-system-x86 qemu-system-x86_64" "user-mode-linux linux.uml" ;;
        aarch64) echo "qemu-system-arm qemu-system-aarch64" ;;
        *) echo "ovfs is tested on x86_64 and aarch64, not on $arch" >&2; exit 1 ;;
    esac
}

missing_packages() {
    needed | while read -r package _; do
        case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
            *" installed") ;;
            *) echo "$package" ;;
        esac
    done
}

missing_things() {
    needed | while read -r package thing; do
        case $thing in
            /*) [ -e "$thing" ] || echo "  $thing (in Debian's $package)" ;;
            *) command -v "$thing" >/dev/null || echo "  $thing (in Debian's $package)" ;;
        esac
    done
}

if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
    missing=$(missing_packages)
    # Unquoted on purpose: package names, one argument each.
    [ -z "$missing" ] || sh scripts/apt.sh $missing
else
    missing=$(missing_things)
    if [ -n "$missing" ]; then
        printf '%s\n' "this is not Debian or Ubuntu; install these and call again:" "$missing" >&2
        exit 1
    fi
fi
