# Installs the package $3 into a system that lies as a layer in $1 over the base $2.
# Only downloading has a network; what installing starts has none.
mount -t proc proc /proc
mkdir "$1.work" "$1.root"
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1,workdir=$1.work" "$1.root"
mount -t proc proc "$1.root/proc"
cp /etc/resolv.conf "$1.root/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' >"$1.root/usr/sbin/policy-rc.d"
chmod 755 "$1.root/usr/sbin/policy-rc.d"
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
chroot "$1.root" apt-get -q update
chroot "$1.root" apt-get -qy --no-install-recommends --download-only install "$3"
unshare --net chroot "$1.root" apt-get -qy --no-install-recommends --no-download install "$3"
chroot "$1.root" apt-get clean
# Installed, and off: a test enables what it is about.
for unit in ufw firewalld netfilter-persistent; do
	chroot "$1.root" systemctl disable "$unit" || true
done
rm -rf "$1.root/usr/sbin/policy-rc.d" "$1.root/etc/resolv.conf" "$1.root/var/lib/apt/lists"
umount "$1.root/proc" "$1.root"
rm -rf "$1.work"
rmdir "$1.root"
