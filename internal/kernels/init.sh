#!/bin/sh
# The first process of a virtual machine: runs /suite/run and switches the machine off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root USER=root LANG=C.UTF-8 TERM=dumb
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
chmod 1777 /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
echo gw >/proc/sys/kernel/hostname
exec </dev/null 1<>/dev/ttyS1 2>&1
stty raw <&1
echo "@up $(cut -d' ' -f1 /proc/uptime) $(uname -r)"
# suite NAME COMMAND...: runs it, and says how it ended and when.
suite() {
	name=$1
	shift
	echo "@begin $name $(cut -d' ' -f1 /proc/uptime)"
	"$@"
	echo "@end $name $? $(cut -d' ' -f1 /proc/uptime)"
}
. /suite/run
busybox poweroff -f
