package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"postern/bench"
	"postern/examples"
	"postern/internal/firewall/nftables"
)

// A subject is a client, and the rules that it has to get through.
type subject struct {
	name   string
	client *client
	rules  bench.Loader
}

// A client is a program that knocks and connects. It is the same process, or
// script, that a person would start.
type client struct {
	command []string
	// What it says on standard error once the connection stands, and how often it
	// has tried; without that group, once.
	stands *regexp.Regexp
	// keeps what it has learned of the network, from one opening to the next.
	memory memory
}

// memory is what a client may keep.
type memory int

const (
	forgets   memory = iota // each opening is its first
	remembers               // as on a machine that has been there before
)

// The knocks are the how-to's everywhere.
var (
	// What postern connect says: "server is open at the 2nd try, after ...".
	isOpen = regexp.MustCompile(`is open(?: at the (\d+)\w\w try)?`)

	connect      = &client{command: []string{"postern", "connect", "server"}, stands: isOpen}
	connectAgain = &client{command: connect.command, stands: isOpen, memory: remembers}

	// The how-to's loop. What ssh would do after it, ncat does here: a connection
	// by the kernel, which repeats a lost SYN after a second, two more, four more.
	loop = &client{
		command: []string{"bash", "-c", `for i in 1234 2345 3456; do ncat -w 0.1 "$0" "$i"; done; ncat -v "$0" 22`, serverAddress.String()},
		stands:  regexp.MustCompile(`^Ncat: Connected to `),
	}
)

// The rules. What has no knock is for the plain connection that tells the round trip.
var (
	howto   = bench.Load("iptables-restore", strings.Replace(bench.Howto, "-A INPUT -j KNOCKING", "-A INPUT -p tcp --dport 9 -j ACCEPT\n-A INPUT -j KNOCKING", 1))
	door    = policyRules("")
	resets  = policyRules(", retransmits: reset")
	asHowto = bench.LoadPolicy(nftables.Backend{}, examples.Howto)
)

// policyRules is a policy of one door, with everything else as it is by default.
func policyRules(more string) bench.Loader {
	return bench.LoadPolicy(nftables.Backend{}, `version: 1
posture: closed
allow: [{service: tcp/9}]
doors:
  ssh: {service: tcp/22, knock: {sequence: [1234, 2345, 3456]`+more+`}}
`)
}

var (
	ours         = &subject{"postern connect", connect, door}
	loopAtHowto  = &subject{"ncat loop, how-to's rules", loop, howto}
	loopAtOurs   = &subject{"ncat loop, Postern's rules", loop, door}
	oursAgain    = &subject{"postern connect, been there before", connectAgain, door}
	oursAtResets = &subject{"postern connect, retransmits: reset", connect, resets}
	loopAsHowto  = &subject{"ncat loop, Postern with howto.yaml", loop, asHowto}
)

// A kit is what the clients need on disk: postern itself, and its hosts file.
type kit struct{ folder string }

// hostsFile has the only server there is.
const hostsFile = `version: 1
hosts:
  server: {address: 10.0.0.1, knock: [1234, 2345, 3456]}
`

func newKit(folder string) (*kit, error) {
	config := filepath.Join(folder, "config", "postern")
	if err := os.MkdirAll(config, 0o700); err != nil {
		return nil, err
	}
	return &kit{folder}, os.WriteFile(filepath.Join(config, "hosts.yaml"), []byte(hostsFile), 0o600)
}

// environment is a client's. Its cache is its memory.
func (k *kit) environment(cache string) []string {
	return []string{
		"PATH=" + k.folder + ":" + os.Getenv("PATH"),
		"HOME=" + k.folder,
		"XDG_CONFIG_HOME=" + filepath.Join(k.folder, "config"),
		"XDG_CACHE_HOME=" + cache,
		"LC_ALL=C",
	}
}
