# What interfaces of odd kinds, tunnels and bad cables do to doors. Each function is a suite
# of its own; $1 is the backend.

p=/suite/postern
umask 077

# network makes a client beside the machine: 192.0.2.1 here, 192.0.2.2 there.
network() {
	ip netns add client
	ip link add eth1 type veth peer name eth0 netns client
	ip addr add 192.0.2.1/24 dev eth1
	ip link set eth1 up
	ip -n client addr add 192.0.2.2/24 dev eth0
	ip -n client link set eth0 up
	ip -n client link set lo up
}

policy() { # BACKEND LINE: a policy, to standard output
	printf 'version: 1\nposture: closed\nbackend: %s\n%s\n' "$1" "$2"
}

# says requires a line that matches of the last command's output, and prints it.
says() { grep -E "$1" /tmp/said || { echo "not said: $1"; cat /tmp/said; exit 1; }; }

# not requires that a command fails, which set -e does not see after an exclamation mark.
not() { if "$@"; then echo "it should have failed: $*"; exit 1; fi; }

# A door's policy that names a port of each kind of master, and the lower one of two that
# are stacked.
masters() {
	door='doors: {ssh: {service: tcp/22, knock: {sequence: [41830, 7719, 52004]}}}'
	ip link add vrf1 type vrf table 10
	ip link add bond1 type bond
	ip link add br1 type bridge
	ip link add team1 type team
	for master in vrf1 bond1 br1 team1; do
		ip link add "d$master" type dummy
		ip link set "d$master" master "$master"
		policy "$1" "interfaces: [d$master]
$door" >/tmp/policy
		$p check -f /tmp/policy >/tmp/said 2>&1 || true
		says "error: .*d$master is a port of $master"
		policy "$1" "interfaces: [$master]
$door" >/tmp/policy
		$p check -f /tmp/policy >/tmp/said 2>&1 || true
		not grep 'is a port of' /tmp/said
	done
	ip link add d0 type dummy
	ip link set d0 up
	ip link add link d0 name d0.7 type vlan id 7
	ip link add link d0 name mac0 type macvlan
	ip link set d0.7 up
	ip link set mac0 up
	policy "$1" "interfaces: [d0]
$door" >/tmp/policy
	$p check -f /tmp/policy >/tmp/said 2>&1 || true
	says 'd0\.7'
	says 'mac0'
}

# A door whose interface is a VRF's port: it is hidden, and opens, or "check" says that
# it does not.
vrf() {
	network
	ip link add vrf1 type vrf table 10
	ip link set vrf1 up
	ip link set eth1 master vrf1
	sysctl -qw net.ipv4.tcp_l3mdev_accept=1
	policy "$1" 'doors: {ssh: {service: tcp/22, knock: {sequence: [41830, 7719, 52004]}}}' >/tmp/policy
	$p check -f /tmp/policy >/tmp/said 2>&1 || true
	if grep 'no door opens at an address in the VRF vrf1' /tmp/said; then
		# Subshells that a condition runs do not end at a failure.
		code=0
		sh -euc '. /suite/links; door_opens "$@"' sh "$1" "interfaces: [vrf1]" >/tmp/opens 2>&1 || code=$?
		cat /tmp/opens
		[ $code != 0 ] && grep 'did not open after' /tmp/opens
	else
		door_opens "$1" "interfaces: [vrf1]"
	fi
}

# The same for a bond of one cable.
bond() {
	bond_network
	door_opens "$1" "interfaces: [bond1]"
}

bond_network() {
	network
	ip addr flush dev eth1
	ip link set eth1 down
	ip link add bond1 type bond mode active-backup miimon 100
	ip link set eth1 master bond1
	ip addr add 192.0.2.1/24 dev bond1
	ip link set bond1 up
}

# And for a bridge whose packets go through the chains of IP (br_netfilter).
bridge() {
	bridge_network
	door_opens "$1" "interfaces: [br1]"
}

bridge_network() {
	network
	modprobe br_netfilter
	sysctl -qw net.bridge.bridge-nf-call-iptables=1
	ip addr flush dev eth1
	ip link add br1 type bridge
	ip link set eth1 master br1
	ip addr add 192.0.2.1/24 dev br1
	ip link set br1 up
}

# A cable that loses a fifth of all packets each way, delays them and swaps some.
netem() {
	network
	tc qdisc add dev eth1 root netem loss 20% delay 15ms 5ms
	ip netns exec client tc qdisc add dev eth0 root netem loss 20% delay 15ms 5ms
	door_opens "$1" ""
}

# connects has the client connect through a door, to standard output. It ends when its
# input does, so that has to wait for the answer. (A WireGuard peer that was made again is
# greeted 15 s after it has stopped to answer.)
connects() { sleep 40 | ip netns exec client $p connect "$1" --timeout 60s; }

# door_opens hides a service at 22/tcp: the client gets in by knocking only.
door_opens() {
	ncat -lk 22 --sh-exec 'echo hello' &
	trap "kill $!" EXIT
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		ip netns exec client ping -c 1 -W 1 192.0.2.1 >/dev/null && break
	done
	# As it is without rules.
	sleep 3 | ip netns exec client ncat -w 5 192.0.2.1 22 | grep hello
	policy "$1" "$2
doors: {ssh: {service: tcp/22, knock: {sequence: [41830, 7719, 52004]}}}" >/tmp/policy
	$p up --no-confirm --yes -f /tmp/policy
	not ip netns exec client ncat -w 2 192.0.2.1 22 </dev/null
	ip netns exec client $p add server --address 192.0.2.1 --knock 41830,7719,52004
	connects server | grep hello
	$p status -f /tmp/policy
}

# WireGuard behind a door: no handshake without the knock, and one after it.
wireguard() {
	network
	wireguard_network
	policy "$1" 'allow: [{interface: wg0}]
doors: {ssh: {service: tcp/22, knock: {sequence: [41830, 7719, 52004]}}}' >/tmp/policy
	$p check -f /tmp/policy >/tmp/said 2>&1 || true
	says '51820'
	policy "$1" 'allow: [{interface: wg0}]
doors: {vpn: {service: udp/51820, knock: {sequence: [41830, 7719, 52004]}, open_for: 15s}}' >/tmp/policy
	$p up --no-confirm --yes -f /tmp/policy
	not ip netns exec client ping -c 2 -W 2 10.9.0.1
	not sh -c 'wg show wg0 latest-handshakes | grep -v "	0$"'
	ip netns exec client $p add server --address 192.0.2.1 --port 51820:udp --knock 41830,7719,52004
	ip netns exec client $p knock server
	ip netns exec client ping -c 12 -i 1 -W 2 10.9.0.1 | grep 'bytes from'
	not sh -c 'wg show wg0 latest-handshakes | grep "	0$"'
	# It goes on when the grant has run out.
	sleep 20
	ip netns exec client ping -c 1 -W 2 10.9.0.1 | grep 'bytes from'
}

# wireguard_network makes a tunnel between the two: 10.9.0.1 here, 10.9.0.2 there.
wireguard_network() {
	wg genkey >/tmp/here
	wg genkey >/tmp/there
	wireguard_here
	ip -n client link add wg0 type wireguard
	ip netns exec client wg set wg0 private-key /tmp/there peer "$(wg pubkey </tmp/here)" \
		allowed-ips 10.9.0.1/32 endpoint 192.0.2.1:51820
	ip -n client addr add 10.9.0.2/24 dev wg0
	ip -n client link set wg0 up
}

wireguard_here() {
	ip link add wg0 type wireguard
	wg set wg0 listen-port 51820 private-key /tmp/here peer "$(wg pubkey </tmp/there)" allowed-ips 10.9.0.2/32
	ip addr add 10.9.0.1/24 dev wg0
	ip link set wg0 up
}

# Keys on a bond, a bridge, a VLAN and in a tunnel.
bond_keys() {
	bond_network
	key_opens "$1" "interfaces: [bond1]" 192.0.2.1
}

bridge_keys() {
	bridge_network
	key_opens "$1" "interfaces: [br1]" 192.0.2.1
}

vlan_keys() {
	network
	ip addr flush dev eth1
	ip link add link eth1 name eth1.7 type vlan id 7
	ip addr add 192.0.2.1/24 dev eth1.7
	ip link set eth1.7 up
	ip -n client addr flush dev eth0
	ip -n client link add link eth0 name eth0.7 type vlan id 7
	ip -n client addr add 192.0.2.2/24 dev eth0.7
	ip -n client link set eth0.7 up
	key_opens "$1" "interfaces: [eth1.7]" 192.0.2.1
}

# The tunnel itself is open; what is in it has no header of a link. Its interface goes and
# comes, and the watchdog has tokens verified on the new one.
wireguard_keys() {
	network
	wireguard_network
	key_opens "$1" "allow: [{service: udp/51820}]" 10.9.0.1
	for _ in 1 2; do
		ip link del wg0
		wireguard_here
		connects server | grep hello
		$p status -f /tmp/policy
	done
}

# key_opens hides a service at 22/tcp of an address: the client gets in by its key only.
key_opens() {
	ncat -lk 22 --sh-exec 'echo hello' &
	server=$!
	trap 'kill $server' EXIT
	policy "$1" "$2
keys: {port: udp/40123}
users: {alice: {devices: [laptop]}}
doors: {ssh: {service: tcp/22, knock: {key: [alice]}}}" >/tmp/policy
	$p user add alice laptop --host "$3" -f /tmp/policy >/tmp/link
	$p up --no-confirm --yes -f /tmp/policy
	$p watchdog &
	trap 'kill $server '$! EXIT
	not ip netns exec client ncat -w 2 "$3" 22 </dev/null
	ip netns exec client $p add - server </tmp/link
	connects server | grep hello
	not ip netns exec client ncat -w 2 "$3" 22 </dev/null
	$p status -f /tmp/policy
}

# The tunnels of the kernel, each of which a closed policy cuts off.
tunnels() {
	network
	for kind in gre ipip sit; do
		ip tunnel add "my$kind" mode "$kind" local 192.0.2.1 remote 192.0.2.2
		ip link set "my$kind" up
		policy "$1" 'doors: {ssh: {service: tcp/22, knock: {sequence: [41830, 7719, 52004]}}}' >/tmp/policy
		$p check -f /tmp/policy >/tmp/said 2>&1 || true
		says "my$kind"
		ip link del "my$kind"
	done
}

# clean leaves nothing of a suite to the next.
clean() {
	$p down >/dev/null 2>&1
	ip netns del client 2>/dev/null
	for link in eth1 vrf1 bond1 br1 team1 wg0 d0 dvrf1 dbond1 dbr1 dteam1; do ip link del "$link" 2>/dev/null; done
	rm -rf /root/.config/postern /tmp/keys.yaml
}
