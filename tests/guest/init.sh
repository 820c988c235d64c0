#!/busybox/sh
# SPDX-License-Identifier: Apache-2.0
#
# The guest's first process: mounts what programs expect, loads the modules that came with the image, and then runs
# commands for the host. They come in over a serial port, one a line, as "id base64-of-a-script"; each runs in the
# background and is answered, when it ends, with "id status base64-of-its-output". The port is named on the kernel's
# command line as ovfs.port=. The console stays for the kernel's own messages.

export PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin:/busybox
export HOME=/root TMPDIR=/tmp LC_ALL=C

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
chmod 1777 /tmp /dev/shm
ln -s /proc/self/fd /dev/fd
ulimit -n 4096

for module in /modules/*; do
    [ ! -e "$module" ] || insmod "$module"
done

git config --global user.name guest
git config --global user.email guest@localhost
git config --global safe.directory '*'
git config --global init.defaultBranch main
git config --global init.templateDir ''

run() {
    echo "$2" | base64 -d >"/run/$1.sh"
    # By its path: busybox would run its own sh, and that its own applets before real programs.
    setsid /usr/bin/dash "/run/$1.sh" </dev/null >"/run/$1.out" 2>&1
    status=$?
    # One writer at a time, or long answers would run into each other.
    {
        flock 9
        printf '%s %s ' "$1" "$status"
        tail -c 262144 "/run/$1.out" | base64 -w 0
        echo
    } 9>/run/lock >&3
    rm -f "/run/$1.sh" "/run/$1.out"
}

port=$(sed -n 's/.*ovfs\.port=\([^ ]*\).*/\1/p' /proc/cmdline)
exec 3<>"/dev/$port"
stty raw -echo <&3
echo READY >&3
while read -r id script <&3; do
    run "$id" "$script" &
done
echo "the port to the host was closed"
poweroff -f
