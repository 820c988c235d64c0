#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Puts a guest kernel into .cache/kernel: the distribution's kernel for virtual machines, downloaded and unpacked, not
# installed. virtio-fs, FUSE and virtio are built into Debian's newer ones; where they are modules (Debian's 6.1,
# Ubuntu), these are put beside it, numbered in the order of loading. KERNEL=/path/to/a/kernel uses that one instead and downloads nothing; it must have both built in.

set -eu

cd "$(dirname "$0")/.."
cache=.cache/kernel

[ -z "${KERNEL:-}" ] || {
    [ -r "$KERNEL" ] || { echo "KERNEL=$KERNEL cannot be read" >&2; exit 1; }
    exit 0
}
[ ! -e "$cache/vmlinuz" ] || exit 0

command -v apt-get >/dev/null || {
    echo "no guest kernel: name one that has virtio-fs built in, as in make test KERNEL=/boot/vmlinuz" >&2
    exit 1
}

case $(uname -m) in
    x86_64) debian=amd64 ;;
    aarch64) debian=arm64 ;;
esac

# Multi-queue virtio-fs came with 6.11, so the first of these that exists is not always the default kernel.
metapackages="linux-image-6.12-cloud-$debian linux-image-cloud-$debian linux-image-virtual linux-image-generic"

# The meta package depends on the image, and the image, on Ubuntu, on its modules.
packages_of() {
    apt-cache depends --important "$1" 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-\(image\|modules\)-[0-9].*\)/\1/p'
}

find_image() {
    for metapackage in $metapackages; do
        image=$(packages_of "$metapackage" | grep linux-image | head -n 1)
        [ -z "$image" ] || { echo "$image"; return; }
    done
    return 1
}

# The lists may be older than the sources: what they do not name may be there all the same.
[ -n "$(packages_of "${metapackages%% *}")" ] ||
    if [ "$(id -u)" = 0 ]; then apt-get update -q; else sudo apt-get update -q; fi
image=$(find_image) || {
    echo "none of these is available: $metapackages; KERNEL=/path names a kernel" >&2
    exit 1
}

unpacked=.cache/kernel.new
rm -rf "$unpacked" && mkdir -p "$unpacked/root"
cd "$unpacked"
echo "fetching a guest kernel: $image"
# apt's own user cannot write here, which apt warns about and then does as root.
apt-get download -q -o APT::Sandbox::User=root "$image" $(packages_of "$image" | grep linux-modules || true)
for package in *.deb; do
    dpkg -x "$package" root
done

# Unpacks a module's file, which names itself with - or _ at will. Fails where there is none: it is built in.
unpack_module() {
    file=$(find root -name "$1.ko*" -o -name "$(echo "$1" | tr _ -).ko*" | head -n 1)
    case $file in
        '') return 1 ;;
        *.zst) zstd -q -d -c "$file" ;;
        *.xz) xz -d -c "$file" ;;
        *) cat "$file" ;;
    esac >"modules/$1.new"
}

depends_of() {
    tr '\0' '\n' <"modules/$1.new" | sed -n 's/^depends=//p' | tr , ' '
}

# A module comes after those it depends on. (The loop's list is made before the recursion, so that it is whole.)
modules=0
add_module() {
    ! ls modules/*-"$1.ko" >/dev/null 2>&1 && unpack_module "$1" || return 0
    for dependency in $(depends_of "$1"); do
        add_module "$dependency"
    done
    modules=$((modules + 1))
    mv "modules/$1.new" "modules/$(printf %02d $modules)-$1.ko"
}

mkdir modules
for module in virtio_pci virtio_mmio virtio_console fuse virtiofs; do
    add_module "$module"
done
rm -f modules/*.new
cp root/boot/vmlinu?-* vmlinuz
rm -rf root ./*.deb
cd - >/dev/null
rm -rf "$cache" && mv "$unpacked" "$cache"
