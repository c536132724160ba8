# Puts a kernel of the Debian in the directory $2 into the directory $1: its image, as
# vmlinuz, and an archive of its modules, as modules.cpio. $3 is the release that apt
# takes it from, or empty. The modules are those that a firewall on a network can want.
mount -t proc proc /proc
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o "lowerdir=$2,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
cd /mnt/root
mount -t proc proc proc
cp /etc/resolv.conf etc/resolv.conf
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
chroot . apt-get -q update
# The package that everyone installs names those that have the files.
chroot . apt-get -q ${3:+-t "$3"} --simulate install linux-image-amd64 |
	sed -n 's/^Inst \(linux-\(image\|binary\|base\|modules\)-[0-9][^ ]*\) .*/\1/p' >list
[ -s list ]
chroot . sh -euc 'cd /tmp; apt-get -q '"${3:+-t $3}"' -o APT::Sandbox::User=root download $(cat /list)
	for package in *.deb; do dpkg-deb -x "$package" /kernel; done'
cd kernel
# The packages of newer kernels have all of it below usr.
[ ! -d lib/modules ] || { mkdir -p usr/lib; mv lib/modules usr/lib/; }
version=$(ls usr/lib/modules)
image=boot/vmlinuz-$version
[ -f "$image" ] || image=usr/lib/modules/$version/vmlinuz
cp "$image" "$1/vmlinuz"
mkdir -p "/mnt/root/usr/lib/modules/$version"
cd "usr/lib/modules/$version"
{
	ls modules.builtin* modules.order
	find kernel/net kernel/lib kernel/crypto kernel/arch kernel/fs/overlayfs kernel/fs/fuse \
		kernel/drivers/net/bonding kernel/drivers/net/team kernel/drivers/net/ipvlan kernel/drivers/net/vxlan \
		kernel/drivers/net/wireguard -name '*.ko*'
	find kernel/drivers/net -maxdepth 1 -name '*.ko*'
} | grep -v 'net/\(bluetooth\|mac80211\|wireless\|nfc\|sunrpc\|ceph\|rxrpc\)/' |
	tar -c -T - | tar -x -C "/mnt/root/usr/lib/modules/$version"
cd /mnt/root
# Without the signatures, which take an emulated processor a second to check for
# every ten modules. (Those that are compressed keep them.)
find "usr/lib/modules/$version" -name '*.ko' -exec chroot . perl -0777 -pi -e '
	substr($_, -40 - unpack("N", substr($_, -32, 4))) = "" if /~Module signature appended~\n\z/' {} +
chroot . depmod "$version"
find usr/lib/modules | busybox cpio -o -H newc >"$1/modules.cpio"
echo "$version" >"$1/version"
