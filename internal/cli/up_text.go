package cli

const (
	shortUp = "load the policy into the kernel"
	longUp  = `Compiles the policy and has the kernel run it, in place of the one it may be
running. Open connections, grants and knocks under way go on. Nothing changes
if anything fails.

It warns of other rules on this host that get in the way of a door, or by which a
hidden port shows. If you came in over SSH, and the policy would keep your
address out of that port, it wants --yes. So it does if an interface of the
policy is a port of another one (of a bridge, say), by whose name the packets
come in.

The rules are those of nftables. For a kernel or an administrator with iptables
alone there is --backend iptables: see "postern show --format iptables-save", and
docs/limits.md for what it does less well.`
	exampleUp = `  postern up
  postern up -f examples/guard.yaml --yes`
	flagYes = "go on even if the policy keeps you out of the port you came in by, or hides nothing on an interface"
)
