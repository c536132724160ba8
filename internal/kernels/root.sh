# Makes a Debian of the suite $2 in $1/root, with the programs that the tests run, and
# its archive, $1/root.cpio. Its processes have a PID namespace and mounts of their own.
mount -t proc proc /proc
PATH=$PATH:/usr/sbin:/sbin
debootstrap --variant=minbase --include=nftables,iptables,nmap,ncat,netcat-openbsd,openssh-client,openssh-server,\
openvpn,iproute2,iputils-ping,tcpdump,busybox,kmod,procps,mandoc,wireguard-tools,ca-certificates \
	"$2" "$1/root"
cd "$1/root"
rm -rf var/cache/apt/archives/*.deb var/lib/apt/lists/* usr/share/doc usr/share/man usr/share/locale
# Kernels come from security updates, too, and the newest one from backports.
read -r _ mirror _ <etc/apt/sources.list
echo "deb $mirror-security $2-security main" >>etc/apt/sources.list
if [ "$2" = trixie ]; then
	echo "deb $mirror $2-backports main" >>etc/apt/sources.list
fi
find . -xdev | busybox cpio -o -H newc >"$1/root.cpio"
