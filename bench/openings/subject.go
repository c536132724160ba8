//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"postern/bench"
	"postern/examples"
	"postern/internal/lab"
)

// A subject is a client, and the rules that it has to get through.
type subject struct {
	key    string // begins the names of its hosts
	name   string
	client *client
	rules  *rules
}

// A client is a program that knocks and connects. It is the same process, or
// script, that a person would start.
type client struct {
	command []string
	// stands tells whether a line on its standard error says that the connection
	// stands, and at which try.
	stands func(line string) (tries int, ok bool)
	// memory is what it has learned of the network, in openings before this one.
	memory memory
}

// isOpen reads what postern connect says: "server is open, at the 2nd try, after
// 312ms: 10.0.0.1:22", and of the first try nothing.
func isOpen(line string) (tries int, ok bool) {
	if !strings.Contains(line, " is open") {
		return 0, false
	}
	if !strings.Contains(line, " try") {
		return 1, true
	}
	match := atTry.FindStringSubmatch(line)
	if match == nil {
		return 0, false
	}
	tries, err := strconv.Atoi(match[1])
	return tries, err == nil
}

var atTry = regexp.MustCompile(`at the (\d+)(?:st|nd|rd|th) try`)

// memory is what a client may keep.
type memory int

const (
	forgets   memory = iota // each opening is its first
	remembers               // as on a machine that has been there before
)

// The knocks are the how-to's everywhere.
var (
	connect      = &client{command: []string{"postern", "connect", "server"}, stands: isOpen}
	connectAgain = &client{command: connect.command, stands: isOpen, memory: remembers}

	// The how-to's loop. What ssh would do after it, ncat does here: a connection
	// by the kernel, which repeats a lost SYN after a second, two more, four more.
	loop = &client{
		command: []string{"bash", "-c", `for i in 1234 2345 3456; do ncat -w 0.1 "$0" "$i"; done; ncat -v "$0" 22`, serverAddress.String()},
		stands:  func(line string) (int, bool) { return 1, strings.HasPrefix(line, "Ncat: Connected to ") },
	}
)

// Rules are what the server is given, and by which program.
type rules struct {
	load []string
	text string
}

// The rules. What has no knock is for the plain connection that tells the round trip.
var (
	howto   = &rules{[]string{"iptables-restore"}, strings.Replace(bench.Howto, "-A INPUT -j KNOCKING", "-A INPUT -p tcp --dport 9 -j ACCEPT\n-A INPUT -j KNOCKING", 1)}
	door    = oneDoor("")
	resets  = oneDoor(", retransmits: reset")
	asHowto = &rules{up, examples.Howto}

	up = []string{"postern", "up", "-f", "-"}
)

// oneDoor is a policy of one door, with everything else as it is by default.
func oneDoor(more string) *rules {
	return &rules{up, `version: 1
posture: closed
allow: [{service: tcp/9}]
doors:
  ssh: {service: tcp/22, knock: {sequence: [1234, 2345, 3456]` + more + `}}
`}
}

// loadOn loads the rules on a host. It takes a process, as it does for everybody:
// this one has more files open, for all its hosts, than Postern can do with.
func (r *rules) loadOn(ctx context.Context, k *kit, h *lab.Host) error {
	cmd := h.Command(ctx, k.program(r.load[0]), r.load[1:]...)
	cmd.Env = k.environment(k.folder)
	cmd.Stdin = strings.NewReader(r.text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", r.load[0], err, out)
	}
	return nil
}

var (
	ours         = &subject{"a", "postern connect", connect, door}
	loopAtHowto  = &subject{"b", "ncat loop, how-to's rules", loop, howto}
	loopAtOurs   = &subject{"c", "ncat loop, Postern's rules", loop, door}
	oursAgain    = &subject{"d", "postern connect, been there before", connectAgain, door}
	oursAtResets = &subject{"e", "postern connect, retransmits: reset", connect, resets}
	loopAsHowto  = &subject{"f", "ncat loop, Postern with howto.yaml", loop, asHowto}
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

// program is a client, or what loads rules, by its name.
func (k *kit) program(name string) string {
	if name == "postern" {
		return filepath.Join(k.folder, name)
	}
	return name
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
