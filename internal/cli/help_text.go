package cli

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
PORT:udp, or icmp/echo for a ping. With a NAME alone, what to knock at is in
the hosts file: see "postern add". No answer is waited for; none would tell
whether the door opened. Connect right after it, over the same address.

What is written for knockd's client works as it is: -u, -d, -v, -4 and -6.`
	exampleKnock = `  postern knock home && ssh ann@home.example
  postern knock server.example 47011 5120 31877 && ssh server.example
  postern knock -4 -d 200 server.example 20914 7061:udp 41230`

	shortHosts = "list the hosts that a name is enough to knock at"
	longHosts  = `Lists the hosts file: ~/.config/postern/hosts.yaml on Linux, elsewhere in the
user's folder for settings. Of the knocks, which are a secret, it says how many
they are. To take a host out, delete its lines from the file.`
	exampleHosts = `  postern hosts
  postern hosts --secrets`

	shortAdd = "add a host to the hosts file, by its settings or by a link"
	longAdd  = `Writes an entry into the hosts file, so that a name is enough to knock. What to
write is in the flags, or in a LINK that "postern share" printed on the server;
the link - is read from standard input, where no history of commands keeps it.
Flags change what a link says. With --force they change the host of that name, and
leave the rest of it as it is; --user "", and likewise others, takes a setting out. A
link with --force takes the whole place of the old one.

The file holds the knocks, and is readable by you alone. Its comments and the
order in it stay as they are; an entry can as well be written by hand:

  version: 1
  hosts:
    home:
      address: home.example
      port: 22                # of the service; udp/51820 is a UDP one
      knock: [20914, udp/7061, 41230]
      step_timeout: 3s        # the door's
      user: ann               # to log in as, over ssh`
	exampleAdd = `  postern add home --address home.example --knock 20914,7061:udp,41230
  postern add - <link.txt
  postern add --force home --port 2222
  postern add postern://home.example:22/v1/name=ssh/knock=20914,41230/ home`

	shortShare = "print a door's link, for a client to come in by"
	longShare  = `Prints a link that holds all that a client must know to come in by a door: for
"postern add". On a terminal it is drawn as a QR code as well. Without --host
the link leads to the door's address, or to this host's public one if it has
exactly one.

The link holds the knocks. Whoever has it can knock, so give it to nobody else,
and by a way that nobody else reads. It opens the door, and is no substitute
for the authentication of the service behind it.`
	exampleShare = `  postern share ssh --host home.example
  ssh home.example sudo postern share --host home.example | postern add - home`

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
second session open: "postern up"; stop knockd, or take the old rules out; and
knock your way in from elsewhere.

Of the old rules set the policy back ("iptables -P INPUT ACCEPT"), then take out
the jump to their chains ("iptables -D INPUT -j ...") and these chains ("iptables
-F NAME", "iptables -X NAME"), and nothing else. To flush INPUT or a whole table
would take postern's own rules out as well, if they are there by --backend iptables.`
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
	flagDelay    = "the `TIME` between two knocks, in milliseconds if it is a number alone; of a host by name, its gap if it has one"
	flagSecrets  = "show the knocks themselves"
	flagRate     = "take a scan to send `N` probes a second"
	flagCPUs     = "take a host to judge `N` packets at the same moment"
	flagForce    = "change the host of that name, or replace it by a link"
	flagHost     = "how clients reach the door: a name or an `ADDRESS`"
	flagService  = "the `PORT` of the service, where the door has several"
	flagName     = "what the client calls the host, if not by the door's `NAME`"
	flagQR       = "draw the link as a QR code, on standard error; left out: if a terminal shows both"
	flagHere     = "look at this host as well: who listens, what is forwarded"
)

// What the settings of a host are, as flags.
const (
	flagAddress     = "where the host is: a name or an IP `ADDRESS`"
	flagPort        = "the service's `PORT`, tcp unless written 51820:udp; 22 if left out"
	flagKnock       = "the `PORTS` to knock at, as in 1234,2345:udp,icmp/echo"
	flagStepTimeout = "the door's step_timeout, the longest `TIME` between two knocks; 3s if left out"
	flagGap         = "the least `TIME` between two knocks"
	flagTimeout     = "how much `TIME` to give an opening; 15s if left out"
	flagFamily      = "`4` to come by IPv4 only, 6 by IPv6"
	flagUser        = "the `USER` to log in as, over ssh"
)
