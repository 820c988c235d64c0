#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Real programs at work in a directory, each judged by its exit status. The same script runs in the guest, on the
# share, and on the host, on the bare directory.
#
#     workload.sh DIRECTORY GROUP...      groups: coreutils git archive database fio stress
#
# Prints "step status" for each step, and after a failure the step's output on lines that start with "| ".

directory=$1
shift

# Runs one step, a function, in a directory of its own; `set -e` makes any failing command the step's.
step() {
    rm -rf "$directory/$1"
    mkdir "$directory/$1"
    # Not in a list with && and not in a condition: set -e would mean nothing then, down to the last subshell.
    output=$(
        set -e
        cd "$directory/$1"
        "$@" 2>&1
    )
    status=$?
    echo "$1 $status"
    if [ "$status" != 0 ]; then
        echo "$output" | tail -n 40 | sed 's/^/| /'
    fi
    chmod -R u+rwx "$directory/$1" 2>/dev/null
    rm -rf "$directory/$1" || echo "remove_$1 1"
}

# Succeeds if the command fails; a plain "!" would hide its success from set -e.
refused() {
    if "$@"; then
        echo "not refused: $*"
        return 1
    fi
}

# A tree with one of each kind, whose description does not depend on where it is.
make_tree() {
    mkdir -p tree/a/b tree/empty
    seq 1 5000 >tree/a/numbers
    head -c 300000 /dev/urandom >tree/a/b/random
    : >tree/nothing
    printf x >"tree/a name with blanks"
    printf y >"tree/$(printf 'caf\351')" # a name that is not UTF-8
    ln -s ../a/numbers tree/empty-link
    ln -s nowhere tree/dangling
    ln tree/a/numbers tree/a/b/hard
    mkfifo tree/fifo
    chmod 640 tree/a/numbers
    chmod 4755 tree/nothing
    chmod 1777 tree/empty
    touch -d '2001-02-03 04:05:06.789 UTC' tree/a/numbers tree/a
    setfattr -n user.colour -v blue tree/a/numbers
}

describe() {
    (cd "$1" && find . ! -name . -printf '%P %y %m %U %G %n %l %T@ ' \( -type f -printf '%s\n' -o -printf '\n' \) | sort)
}

same_tree() {
    describe "$1" >first.txt
    describe "$2" >second.txt
    diff first.txt second.txt
    cmp "$1/a/numbers" "$2/a/numbers"
    cmp "$1/a/b/random" "$2/a/b/random"
}

copy() {
    make_tree
    cp -a tree copied
    same_tree tree copied
    [ "$(getfattr --only-values -n user.colour copied/a/numbers)" = blue ]
    [ copied/a/numbers -ef copied/a/b/hard ]
    cp --reflink=never --sparse=always tree/a/b/random sparse
    cmp tree/a/b/random sparse
    rm -r copied
    [ ! -e copied ]
}

move() {
    make_tree
    cp -a tree expected
    mv tree moved
    same_tree expected moved
    mv -T moved/a moved/renamed
    printf old >target
    printf new >source
    mv -f source target
    [ "$(cat target)" = new ]
    mv -n target moved/nothing
    [ -e target ]
    mkdir full full/inside other
    refused mv -T other full
}

link() {
    printf one >first
    ln first second
    ln -s first symbolic
    [ "$(stat -c %h first)" = 2 ]
    [ "$(readlink symbolic)" = first ]
    [ "$(stat -c %i first)" = "$(stat -c %i second)" ]
    printf two >>second
    [ "$(cat symbolic)" = onetwo ]
    rm first
    [ "$(stat -c %h second)" = 1 ]
    refused cat symbolic
    ln -sf second symbolic
    [ "$(cat symbolic)" = onetwo ]
    refused ln second second
    unlink second
}

modes() {
    : >file
    mkdir dir
    for mode in 0 7 70 700 644 1755 2755 4755 7777; do
        chmod "00$mode" file dir # fewer digits would keep a directory's set-id bits
        [ "$(stat -c %a file)" = "$mode" ]
        [ "$(stat -c %a dir)" = "$mode" ]
    done
    chmod 6755 file
    chown 1000:1000 file
    [ "$(stat -c '%u %g %a' file)" = '1000 1000 755' ]
    chown :7 file
    [ "$(stat -c '%u %g' file)" = '1000 7' ]
    umask 027
    : >masked
    mkdir masked-dir
    [ "$(stat -c %a masked)" = 640 ]
    [ "$(stat -c %a masked-dir)" = 750 ]
}

stamps() {
    touch -d '1999-12-31 23:59:59.123456789 UTC' file
    [ "$(stat -c %y file | cut -c 21-29)" = 123456789 ]
    touch -a -d '2030-01-01 UTC' file
    [ "$(stat -c '%X %Y' file)" = '1893456000 946684799' ]
    before=$(stat -c %Z file)
    sleep 1
    touch file
    [ "$(stat -c %Z file)" -gt "$before" ]
    touch -r file other
    [ "$(stat -c %y file)" = "$(stat -c %y other)" ]
}

contents() {
    dd if=/dev/urandom of=data bs=64k count=16 conv=fsync
    dd if=data of=copied bs=1000
    cmp data copied
    dd if=/dev/zero of=copied bs=1 seek=500000 count=3 conv=notrunc
    [ "$(stat -c %s copied)" = 1048576 ]
    refused cmp data copied
    truncate -s 100 copied
    cmp -n 100 data copied
    [ "$(stat -c %s copied)" = 100 ]
    truncate -s 5G huge
    printf end | dd of=huge bs=1 seek=5368709117 conv=notrunc
    [ "$(tail -c 3 huge)" = end ]
    [ "$(stat -c %b huge)" -lt 1000 ]
    dd if=data of=direct bs=4096 oflag=append conv=notrunc
    cmp data direct
    shuffled=$(sort -R data | wc -c)
    [ "$shuffled" -ge 1048576 ]
    split -b 300k data part.
    cat part.* | cmp - data
    tee teed <data | sha256sum
    cmp data teed
    sync -f data
}

special() {
    mkfifo -m 600 pipe
    (echo through >pipe) &
    [ "$(cat pipe)" = through ]
    wait
    mknod null c 1 3
    [ "$(stat -c '%F %t %T' null)" = 'character special file 1 3' ]
    mknod loop b 7 0
    [ "$(stat -c %F loop)" = 'block special file' ]
    install -m 711 -D "$0" x/y
    [ "$(stat -c %a x/y)" = 711 ]
}

listing() {
    mkdir many
    seq -f 'many/file-%05g' 1 1500 | xargs touch
    [ "$(ls many | wc -l)" = 1500 ]
    [ "$(find many -type f -name '*7' | wc -l)" = 150 ]
    find many -name '*[02468]' -delete
    [ "$(ls -l many | grep -c file-)" = 750 ]
    du -s many
    df .
    df -i .
    stat -f .
    long=$(printf '%0255d' 0)
    : >"$long"
    [ -e "$long" ]
    refused touch "${long}0"
    rm -r many
    mkdir -p empty/not
    refused rmdir empty
}

open_unlinked() {
    seq 1 10000 >file
    exec 5<file
    exec 6>>file
    rm file
    echo last >&6
    [ "$(tail -n 1 <&5)" = last ]
    exec 5<&- 6>&-
}

acl() {
    : >file
    chmod 600 file
    setpriv --reuid=1000 --regid=1000 --clear-groups test ! -r file
    chmod 604 file
    setpriv --reuid=1000 --regid=1000 --clear-groups test -r file
    chmod 700 .
    refused setpriv --reuid=1000 --regid=1000 --clear-groups cat file
    chmod 1777 .
    refused setpriv --reuid=1000 --regid=1000 --clear-groups rm -f file
    setpriv --reuid=1000 --regid=1000 --clear-groups touch mine
    [ "$(stat -c '%u %g' mine)" = '1000 1000' ]
    setpriv --reuid=1000 --regid=1000 --clear-groups rm mine
}

repository() {
    git init -q -b main work
    cd work
    git config gc.auto 0
    for i in $(seq 1 40); do
        seq "$i" 400 >"file $i"
    done
    mkdir deep && cp "file 1" deep/
    git add -A
    git commit -q -m first
    git checkout -q -b side
    git mv "file 2" deep/renamed
    echo more >>"file 3"
    git commit -q -a -m second
    git checkout -q main
    echo other >>"file 4"
    git commit -q -a -m third
    git merge -q -m merged side
    git tag v1
    git gc -q
    git fsck --full --strict
    [ -z "$(git status --porcelain)" ]
    cd ..
    git clone -q --no-hardlinks work cloned
    git -C cloned fsck --full
    diff -r -x .git work cloned
    git -C cloned worktree add -q ../tree v1
    diff -r -x .git work tree
}

archive() {
    make_tree
    tar --xattrs -cf tree.tar tree
    mkdir out
    tar --xattrs -xpf tree.tar -C out
    same_tree tree out/tree
    diff -r --exclude=fifo --no-dereference tree out/tree
    tar -czf tree.tgz tree
    gzip -t tree.tgz
    tar -df tree.tar
    rm -r out
}

query() {
    sqlite3 -batch -bail "$1" "$2"
}

database() {
    query "$1.db" "pragma journal_mode=$1" | grep -qx "$1"
    query "$1.db" "create table t(k integer primary key, v text); create index i on t(v);
        with recursive n(x) as (select 1 union all select x+1 from n where x<2000)
        insert into t select x, hex(randomblob(40)) from n;"
    for i in 1 2 3 4 5; do
        query "$1.db" "begin immediate; update t set v=v||'$i' where k%7=$i; delete from t where k%11=$i; commit;"
    done
    # Two writers at once: each waits for the other's lock.
    (for i in 1 2 3 4 5; do
        sqlite3 -batch -bail -cmd '.timeout 20000' "$1.db" "insert into t(v) values('first')"
    done) &
    for i in 1 2 3 4 5; do
        sqlite3 -batch -bail -cmd '.timeout 20000' "$1.db" "insert into t(v) values('second')"
    done
    wait $!
    [ "$(query "$1.db" "select count(*) from t where v in ('first','second')")" = 10 ]
    query "$1.db" "vacuum"
    [ "$(query "$1.db" "pragma integrity_check")" = ok ]
}

sqlite_rollback() {
    database delete
}

sqlite_wal() {
    database wal
}

verified() {
    fio --name=verify --directory=. --verify=crc32c --verify_fatal=1 --do_verify=1 --randseed=7 \
        --output-format=terse --minimal "$@"
}

fio_sequential() {
    verified --rw=write --bs=256k --size=8m --ioengine=psync --end_fsync=1
}

fio_random() {
    verified --rw=randwrite --bs=1k-17k --bs_unaligned=1 --size=2m --ioengine=psync --fsync=64
}

fio_mmap() {
    verified --rw=randwrite --bs=4k --size=2m --ioengine=mmap
}

fio_async() {
    verified --rw=randwrite --bs=4k --size=2m --ioengine=io_uring --iodepth=16
}

fio_direct() {
    verified --rw=randwrite --bs=4k --size=2m --ioengine=psync --direct=1
}

fio_vectors() {
    verified --rw=randrw --bs=4k --size=2m --ioengine=pvsync2 --numjobs=2 --group_reporting
}

# Stressor and number of operations; those of stress-ng that exercise a file system and mean something on any.
stressors='access:30 chdir:400 chmod:60 chown:60 copy-file:6 dentry:400 dir:200 dirdeep:60 dirmany:60 dup:30
    fallocate:20 fcntl:300 fiemap:50 filename:300 flock:300 fsize:10 fstat:200 getdent:100 hdd:30 inotify:5 io:20
    iomix:100 lease:50 link:1 locka:300 lockf:300 lockofd:300 mknod:30 open:200 rename:200 seek:500 symlink:1
    sync-file:10 touch:200 utime:300 xattr:10'

stress() {
    name=$(echo "$1" | sed 's/^stress_//; s/_/-/g')
    timeout -k 5 60 stress-ng --temp-path . --verify --timeout 1 --log-brief --oomable --chdir-dirs 100 \
        --hdd-bytes 4m --fallocate-bytes 4m --iomix-bytes 2m --seek-size 2m --sync-file-bytes 1m \
        --fiemap-bytes 1m --dirdeep-inodes 200 --"$name" 1 --"$name"-ops "$2"
}

run_group() {
    case $1 in
        coreutils)
            for each in copy move link modes stamps contents special listing open_unlinked acl; do step $each; done
            ;;
        git) step repository ;;
        archive) step archive ;;
        database)
            for each in sqlite_rollback sqlite_wal; do step $each; done
            ;;
        fio)
            for each in sequential random mmap async direct vectors; do step fio_$each; done
            ;;
        stress)
            for each in $stressors; do
                name=stress_$(echo "${each%:*}" | tr - _)
                eval "$name() { stress $name ${each#*:}; }"
                step "$name"
            done
            ;;
    esac
}

for group in "$@"; do
    run_group "$group"
done
