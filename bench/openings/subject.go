//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"postern/bench"
	"postern/examples"
	"postern/internal/key"
	"postern/internal/keyfile"
	"postern/internal/lab"
)

// A subject is a client, and the rules that its packets pass.
type subject struct {
	key    string // the prefix of its hosts' names
	name   string
	client *client
	rules  *rules
}

// A client is a program that knocks and connects: the same process or script
// that a person would start.
type client struct {
	command []string
	// reportsOpen reports whether a line on standard error says that the
	// connection is established, and at which try.
	reportsOpen func(line string) (tries int, ok bool)
	// memory is what the client keeps of earlier openings.
	memory memory
	// port is where it sends its one datagram; 0 if it knocks.
	port uint16
	// devices is how many devices it is, one after the other, each with a key of its own; 0
	// if it is always the same.
	devices int
}

// at returns the client as it makes an opening.
func (c *client) at(opening int) *client {
	if c.devices == 0 {
		return c
	}
	own := *c
	own.command = []string{"postern", "connect", deviceName(opening % c.devices)}
	return &own
}

// deviceName is the name of a device of alice's, and of the host that its key is saved for.
func deviceName(n int) string { return fmt.Sprint("device", n) }

// isOpen parses the message of postern connect: "server is open, at the 2nd
// try, after 312ms: 10.0.0.1:22". For the first try, the number is left out.
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

// memory says what a client keeps of earlier openings.
type memory int

const (
	forgets   memory = iota // each opening is its first
	remembers               // as on a machine that has connected before
)

// All subjects use the how-to's knocks, but for one that has a key.
var (
	// It remembers the times of its tokens: one that forgets uses the same time in all
	// openings within eight seconds.
	connectByKey = &client{command: []string{"postern", "connect", "keyed"}, reportsOpen: isOpen, memory: remembers, port: tokenPort}
	// A server without BPF knows one token of a device in eight seconds.
	connectByTags = &client{reportsOpen: isOpen, memory: remembers, port: tokenPort, devices: taggedDevices}
	connect       = &client{command: []string{"postern", "connect", "server"}, reportsOpen: isOpen}
	connectAgain  = &client{command: connect.command, reportsOpen: isOpen, memory: remembers}

	// The how-to's loop. ncat does what ssh would do after it: a connection by
	// the kernel, which retransmits a lost SYN after one, two and four seconds.
	loop = &client{
		command:     []string{"bash", "-c", `for i in 1234 2345 3456; do ncat -w 0.1 "$0" "$i"; done; ncat -v "$0" 22`, serverAddress.String()},
		reportsOpen: func(line string) (int, bool) { return 1, strings.HasPrefix(line, "Ncat: Connected to ") },
	}
)

// rules are the server's rules, and the program that loads them.
type rules struct {
	load []string
	text string
	// daemon is a program that lets in who has the right, if it is not the kernel. It is
	// told its interface.
	daemon []string
	// settle is how long after loading they let in who has the right.
	settle time.Duration
}

// The rules. The empty ones are for the plain connection that measures the
// round trip.
var (
	howto   = &rules{load: []string{"iptables-restore"}, text: strings.Replace(bench.Howto, "-A INPUT -j KNOCKING", "-A INPUT -p tcp --dport 9 -j ACCEPT\n-A INPUT -j KNOCKING", 1)}
	keyed   = &rules{load: []string{"postern", "up", "-f", keyedPolicy}, settle: key.DefaultWindow.Ahead + key.Spacing + 100*time.Millisecond}
	tagged  = &rules{load: append(strings.Fields("setpriv --bounding-set=-sys_admin,-bpf --inh-caps=-all"), keyed.load...), settle: keyed.settle}
	door    = oneDoor("")
	resets  = oneDoor(", retransmits: reset")
	asHowto = &rules{load: up, text: examples.Howto}

	up = []string{"postern", "up", "-f", "-"}
)

// oneDoor returns a policy of one door, with defaults for everything else.
func oneDoor(more string) *rules {
	return &rules{load: up, text: `version: 1
posture: closed
allow: [{service: tcp/9}]
doors:
  ssh: {service: tcp/22, knock: {sequence: [1234, 2345, 3456]` + more + `}}
`}
}

// loadOn loads the rules on a host, in a process of its own: this one has more
// open files, for all its hosts, than Postern can use.
func (r *rules) loadOn(ctx context.Context, k *kit, at *lab.Link) error {
	cmd := at.Host.Command(ctx, k.program(r.load[0]), r.load[1:]...)
	cmd.Dir, cmd.Env = k.folder, k.environment(k.folder)
	cmd.Stdin = strings.NewReader(r.text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", r.load[0], err, out)
	}
	if r.daemon != nil {
		cmd := at.Host.Command(ctx, r.daemon[0], append(r.daemon[1:], "-i", at.Name)...)
		cmd.Dir, cmd.Env = k.folder, k.environment(k.folder)
		if err := cmd.Start(); err != nil {
			return err
		}
		go cmd.Wait()
	}
	time.Sleep(r.settle)
	return nil
}

var (
	ours         = &subject{"a", "postern connect", connect, door}
	loopAtHowto  = &subject{"b", "ncat loop, how-to's rules", loop, howto}
	loopAtOurs   = &subject{"c", "ncat loop, Postern's rules", loop, door}
	oursByKey    = &subject{"g", "postern connect, with a key", connectByKey, keyed}
	oursByTags   = &subject{"h", "postern connect, with a key, no BPF", connectByTags, tagged}
	oursAgain    = &subject{"d", "postern connect, been there before", connectAgain, door}
	oursAtResets = &subject{"e", "postern connect, retransmits: reset", connect, resets}
	loopAsHowto  = &subject{"f", "ncat loop, Postern with howto.yaml", loop, asHowto}
)

// A kit is the files that clients need: postern itself, and its hosts file.
type kit struct{ folder string }

// taggedDevices is how many devices of alice's have keys for the openings without BPF: as
// many as there are openings within eight seconds.
const taggedDevices = 20

// hostsFile has the only server, by knocks and by a key.
const hostsFile = `version: 1
hosts:
  server: {address: 10.0.0.1, knock: [1234, 2345, 3456]}
  keyed: {address: 10.0.0.1, key: %s, token: %d}
`

// tokenPort is the one of keyedText.
const tokenPort = 40123

// keyedPolicy is a file in the kit's folder, beside the keys of its users.
const keyedPolicy = "keyed.yaml"

const keyedText = `version: 1
posture: closed
allow: [{service: tcp/9}]
keys: {port: udp/40123}
users: {alice: {devices: [laptop%s]}}
doors:
  ssh: {service: tcp/22, knock: {key: [alice]}}
`

func newKit(folder string) (*kit, error) {
	config := filepath.Join(folder, "config", "postern")
	if err := os.MkdirAll(config, 0o700); err != nil {
		return nil, err
	}
	policy := filepath.Join(folder, keyedPolicy)
	var credential key.Credential
	devices, hosts := "", ""
	if _, err := keyfile.Change(keyfile.Path(policy), func(f *keyfile.File) error {
		credential = f.Credential(f.Enroll("alice/laptop"), "ssh")
		for i := range taggedDevices {
			name := deviceName(i)
			devices += ", " + name
			hosts += fmt.Sprintf("  %s: {address: 10.0.0.1, key: %s, token: %d}\n", name, f.Credential(f.Enroll("alice/"+name), "ssh").Encode(), tokenPort)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	for name, text := range fwknopFiles(folder) {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return &kit{folder}, errors.Join(
		os.WriteFile(policy, fmt.Appendf(nil, keyedText, devices), 0o600),
		os.WriteFile(filepath.Join(config, "hosts.yaml"), fmt.Appendf(nil, hostsFile+hosts, credential.Encode(), tokenPort), 0o600),
	)
}

// program returns the path of a client, or of a program that loads rules.
func (k *kit) program(name string) string {
	if name == "postern" {
		return filepath.Join(k.folder, name)
	}
	return name
}

// environment returns a client's environment. Its cache is its memory.
func (k *kit) environment(cache string) []string {
	return []string{
		"PATH=" + k.folder + ":" + os.Getenv("PATH"),
		"HOME=" + k.folder,
		"XDG_CONFIG_HOME=" + filepath.Join(k.folder, "config"),
		"XDG_CACHE_HOME=" + cache,
		"LC_ALL=C",
	}
}
