package main

// What the verbs and flags are for.
const (
	shortRoot = "hide network services behind a knock"
	longRoot  = `Postern hides network services. A hidden service looks like a port with nothing
behind it, until a client knocks: a few connection attempts to the right closed
ports, in the right order. The kernel does all of it; no daemon stays behind.

Knocking hides a service. It is no substitute for the service's own
authentication: whoever watches the network can repeat a knock.`

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

	shortDown = "take everything out of the kernel again"
	longDown  = `Removes Postern's own rules from the kernel, of whichever backend, and nothing
else. What the policy hid is then as open as without it.`

	shortStatus = "show what is loaded, who knocks, who may enter"
	longStatus  = `Shows whether the kernel runs the policy, which sources are part-way through a
knock, which hold a grant and for how long, and what was counted. It ends with
exit code 1 if somebody else has changed the loaded rules: what they hide may
be open then, and "postern up" mends it.`

	shortShow = "print the policy as rules, as a client's script or as ports to forward"
	longShow  = `Prints the policy in another form. It needs no privilege, and gives the same on
every host.

  nft                the rules that "postern up" loads, for the program nft
  iptables-save      rules for iptables-restore, and for tables with no others:
  ip6tables-save     where the policy has the habits of the well-known port
                     knocking how-to, the how-to's own
  iptables-script    the same as commands
  ip6tables-script
  client-sh          a script for those who are to come in: it knocks, and runs
  client-ps1         ssh. For a POSIX shell, and for PowerShell. It holds the
                     knocks: give it to nobody else
  ports              which ports a home router must forward`
	exampleShow = `  postern show -f policy.yaml | less
  postern show --comments=false > postern.nft
  postern show --format iptables-save > rules.v4
  postern show --format client-sh --door ssh > knock.sh`

	shortCheck = "find mistakes in the policy, and what scans do to it"
	longCheck  = `Says what is wrong with the policy. If nothing is: for each door, whether a scan
of all ports in order would open it, and how many random probes it takes on
average. Then what is likely a mistake, in the policy or on this host.`
	exampleCheck = `  postern check -f policy.yaml
  postern check --rate 100000 --here=false`

	shortKnock = "knock at a host's door"
	longKnock  = `Sends one knock to each port, in the given order: TCP unless a port is written
PORT:udp, or icmp/echo for a ping. No answer is waited for; none would tell
whether the door opened. Connect right after it, over the same address.`
	exampleKnock = `  postern knock server.example 47011 5120 31877 && ssh server.example
  postern knock -4 server.example 20914 7061:udp 41230`

	shortImport = "make a policy of iptables rules that knock, or of a knockd.conf"
	longImport  = `Reads what another port knocker is set up with, and prints a policy that means
the same. FILE is what iptables-save lists, or a script of iptables commands, if
their knocks are remembered by "-m recent"; or a knockd.conf; - is standard input.
Chains and lists may have any names: the doors are read off what the rules do.

What the policy does not hold, or holds otherwise, is listed on standard error,
line by line. The rest of the other firewall (what goes out, what is
forwarded, translation of addresses) stays where it is.

It reads FILE and nothing else, and changes nothing on this host: the old rules,
or knockd, go on working, and go on refusing what a door of postern lets in. Read
the policy, write it to a file, and go on with "postern check". Then, with a
second session open: "postern up"; stop knockd, or take the old rules out (first
"iptables -P INPUT ACCEPT", then the rules); and knock your way in from elsewhere.`
	exampleImport = `  iptables-save | postern import - > policy.yaml
  postern import /etc/knockd.conf > policy.yaml && postern check -f policy.yaml`

	shortHelp       = "say more about a verb"
	shortCompletion = "print a script that completes postern's verbs in a shell"

	flagFile     = "the policy `FILE`; - is standard input"
	flagJSON     = "answer with JSON, for programs"
	flagHelp     = "say more"
	flagVersion  = "print the version"
	flagYes      = "go on even if the policy keeps you out of the port you came in by, or hides nothing on an interface"
	flagComments = "explain every part of the rules"
	flagDoor     = "the `DOOR` that a client script opens; needed where the policy has several"
	flagBackend  = "the `BACKEND` that runs the policy: nftables or iptables (default the one that has rules loaded, or nftables)"
	flagAll      = "show every source, not the first 20"
	flagIPv4     = "use the host's IPv4 address"
	flagIPv6     = "use the host's IPv6 address"
	flagDelay    = "the `TIME` between two knocks"
	flagRate     = "take a scan to send `N` probes a second"
	flagCPUs     = "take a host to judge `N` packets at the same moment"
	flagHere     = "look at this host as well: who listens, what is forwarded"
)
