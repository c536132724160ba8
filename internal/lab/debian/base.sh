# Makes a Debian of the suite $2 in the directory $1. Its processes have a PID namespace and
# mounts of their own.
mount -t proc proc /proc
PATH=$PATH:/usr/sbin:/sbin
debootstrap --variant=minbase \
	--include=systemd,systemd-sysv,libpam-systemd,dbus,openssh-server,ifupdown,nftables,iptables,iproute2,kmod,procps,man-db \
	"$2" "$1"
rm -f "$1"/var/cache/apt/archives/*.deb

# What would start in the middle of a test, and has nothing to do with it.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
	e2scrub_reap.service fstrim.timer man-db.timer systemd-pstore.service; do
	ln -sf /dev/null "$1/etc/systemd/system/$unit"
done

# Root logs in with a key, and from a program: the message of the day is in its way.
mkdir -p -m 700 "$1/root/.ssh"
ssh-keygen -q -t ed25519 -N '' -C root@outside -f "$1/root/.ssh/id_ed25519"
cp "$1/root/.ssh/id_ed25519.pub" "$1/root/.ssh/authorized_keys"
touch "$1/root/.hushlogin"
mkdir -p "$1/var/log/journal"
echo gw >"$1/etc/hostname"
echo '127.0.0.1 localhost gw' >"$1/etc/hosts"
