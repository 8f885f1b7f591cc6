#!/bin/sh
# Keeps four harts busy with work whose results are known: each worker says how many rounds it has
# done, and FAIL if a result is wrong.
mkdir -p /tmp/soak && cd /tmp/soak || exit 1
head -c 1500000 /proc/kallsyms > text
sum=$(sha256sum < text)
script=$(lua5.4 /bench.lua)

round() {
    name=$1
    count=0
    shift
    while :; do
        "$@" || { echo "soak FAIL $name"; sleep 1; }
        count=$((count + 1))
        echo "soak $name $count"
    done
}

pack() {
    gzip -c text > packed.$1 && [ "$(gunzip -c packed.$1 | sha256sum)" = "$sum" ]
}

processes() {
    n=0
    while [ $n -lt 40 ]; do
        [ "$(/bin/busybox echo $n | /bin/busybox cat)" = $n ] || return 1
        n=$((n + 1))
    done
}

shell() {
    i=0 s=0
    while [ $i -lt 20000 ]; do i=$((i + 1)) s=$((s + i % 7)); done
    [ $s = 59998 ] && [ "$(awk 'BEGIN { for (i = 0; i < 40000; i++) s += i * i % 7; print s }')" = 79997 ]
}

script() {
    [ "$(lua5.4 /bench.lua)" = "$script" ]
}

round pack pack 1 &
round processes processes &
round shell shell &
round script script &
round code /soak_code &
wait
