package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"postern/internal/cli/ui"
	"postern/internal/firewall/bpf"
	"postern/internal/keystore/keystoretest"
	"postern/internal/lab"
)

// The scripts in testdata run the real main, as a process of its own, on the
// hosts of a lab. This binary plays postern when it is called so.
func TestMain(m *testing.M) {
	if name := filepath.Base(os.Args[0]); name != "postern" && name != "powerless" {
		if err := lab.Enter(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(ui.CodeUnsupported)
		}
		flag.Parse()
		flag.Set("test.parallel", "10") // they wait more than they work
	}
	// Where nft lives, which an ordinary user's PATH lacks.
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin")
	testscript.Main(m, map[string]func(){"postern": func() { os.Exit(Main()) }, "powerless": powerless})
}

// powerless runs another program without the right to change the network, as
// an ordinary user has none.
func powerless() {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_NET_ADMIN, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "powerless:", err)
		os.Exit(99)
	}
	path, err := exec.LookPath(os.Args[1])
	if err == nil {
		err = unix.Exec(path, os.Args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, "powerless:", err)
	os.Exit(99)
}

// TestScripts runs each script on a server of its own, at 192.0.2.1 and
// 2001:db8::1, with a client beside it. On the server something listens on
// 22/tcp that says "hello" to who connects.
func TestScripts(t *testing.T) { runScripts(t, testscript.Params{Dir: "testdata"}, false) }

// TestScriptsIPTables runs those that are about both backends once more.
func TestScriptsIPTables(t *testing.T) {
	var files []string
	for _, name := range []string{"close", "keys", "opened", "user"} {
		files = append(files, filepath.Join("testdata", name+".txt"))
	}
	runScripts(t, testscript.Params{Files: files}, true)
}

func runScripts(t *testing.T, which testscript.Params, iptables bool) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:   which.Dir,
		Files: which.Files,
		Setup: onServer,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"agree":      agree,
			"exits":      exits,
			"eventually": eventually,
			"keystore":   keptInStore,
			"client":     onClient,
			"connect":    connect,
			"receive":    receive,
			"refused":    refused,
			"sysctl":     sysctl,
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "bpf": // the kernel verifies keys
				return bpf.Probe() == nil, nil
			case "iptables": // the script runs with that backend
				return iptables, nil
			case "immutable": // real root makes a file so, on some file systems
				file := filepath.Join(t.TempDir(), "file")
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					return false, err
				}
				made := exec.Command("chattr", "+i", file).Run() == nil
				if made {
					made = exec.Command("chattr", "-i", file).Run() == nil
				}
				return made, nil
			case "gre":
			default:
				return false, fmt.Errorf("unknown condition %q", name)
			}
			// Adding a tunnel loads the module, where the kernel has it.
			return exec.Command("ip", "tunnel", "add", "gre9", "mode", "gre", "local", "192.0.2.1", "remote", "192.0.2.9").Run() == nil, nil
		},
		RequireUniqueNames: true,
	})
}

type keystoreKey struct{}

// keptInStore gives the script a session with a key store, and checks what is in it: words
// as in SERVICE/USER=SECRET, with "-*" for the number at the end of USER.
func keptInStore(ts *testscript.TestScript, neg bool, args []string) {
	store, _ := ts.Value(keystoreKey{}).(**keystoretest.Store)
	if neg || store == nil {
		ts.Fatalf("usage: keystore [SERVICE/USER=SECRET]...")
	}
	if *store == nil {
		bus, err := keystoretest.NewBus(ts.MkAbs("."))
		ts.Check(err)
		ts.Defer(bus.Close)
		*store, err = bus.NewStore()
		ts.Check(err)
		ts.Setenv("DBUS_SESSION_BUS_ADDRESS", bus.Address)
	}
	var got []string
	for who, secret := range (*store).Secrets() {
		got = append(got, regexp.MustCompile("-[0-9a-f]{8}$").ReplaceAllString(who, "-*")+"="+secret)
	}
	slices.Sort(got)
	if slices.Sort(args); !slices.Equal(got, args) {
		ts.Fatalf("the store has %q", got)
	}
}

type networkKey struct{}

type network struct{ server, client *lab.Host }

// onServer builds the network, and moves the script to the server: a script
// has a goroutine of its own, and what it starts is where its thread is. The
// thread is never given back.
func onServer(env *testscript.Env) error {
	l := lab.New()
	env.Defer(func() { l.Close() })
	n := network{l.Host("server"), l.Host("client")}
	l.Connect(n.server, n.client, "192.0.2.0/24", "2001:db8::/64")
	if err := l.Err(); err != nil {
		return err
	}
	env.Values[networkKey{}] = n
	env.Values[keystoreKey{}] = new(*keystoretest.Store)
	open := &[]io.Closer{}
	env.Values[socketsKey{}] = open
	env.Defer(func() {
		for _, s := range *open {
			s.Close()
		}
	})
	ln, err := n.server.Listen(context.Background(), "tcp", ":22")
	if err != nil {
		return err
	}
	env.Defer(func() { ln.Close() })
	go greet(ln)
	examples, err := ownExamples(env.WorkDir)
	if err != nil {
		return err
	}
	env.Setenv("EXAMPLES", examples)
	shared, err := os.MkdirTemp("", "shared") // into which other users get
	if err != nil {
		return err
	}
	env.Defer(func() { os.RemoveAll(shared) })
	if err := os.Chmod(shared, 0o755); err != nil {
		return err
	}
	env.Setenv("SHARED", shared)
	env.Setenv("NO_COLOR", "1")
	env.Setenv("STATE_DIRECTORY", filepath.Join(env.WorkDir, ".state"))
	env.Setenv("RUNTIME_DIRECTORY", filepath.Join(env.WorkDir, ".run"))
	runtime.LockOSThread()
	return unix.Setns(n.server.NetNS(), unix.CLONE_NEWNET)
}

// ownExamples copies the examples, each with knocks of its own: every port one
// higher. They do not log progress. (The sequences of examples are warned of, and so
// are knocks in a log.)
func ownExamples(dir string) (string, error) {
	dir = filepath.Join(dir, "examples")
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) == 0 {
		return "", fmt.Errorf("no examples: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		own := sequence.ReplaceAllStringFunc(string(text), func(knocks string) string {
			return number.ReplaceAllStringFunc(knocks, func(n string) string {
				port, _ := strconv.Atoi(n)
				return strconv.Itoa(port + 1)
			})
		})
		own = strings.ReplaceAll(own, "\n  progress: true\n", "\n")
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), []byte(own), 0o600); err != nil {
			return "", err
		}
	}
	return dir, nil
}

var (
	sequence = regexp.MustCompile(`sequence: \[.*\]`)
	number   = regexp.MustCompile(`\d+`)
)

func greet(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		c.Write([]byte("hello\n"))
		c.Close()
	}
}

// exits runs a command that must end with a code: exits 3 postern up.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command args...")
	}
	got := 0
	err := ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if want := args[0]; strconv.Itoa(got) != want {
		ts.Fatalf("exits with %d, want %s", got, want)
	}
}

// eventually runs a command until it does well: for a minute.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: eventually command args...")
	}
	for end := time.Now().Add(time.Minute); ts.Exec(args[0], args[1:]...) != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("still fails")
		}
	}
}

// agree runs check, doctor and up with the same arguments, and expects the same findings
// from all: agree short-sequence 'warning: two knocks' -f policy.yaml expects one of
// that kind and like that among them, and that all fail if one is an error.
func agree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: agree kind 'severity: regexp' args...")
	}
	kind, text, args := args[0], args[1], args[2:]
	findings := func(verb ...string) (all []ui.Remark, failed bool) {
		failed = ts.Exec("postern", slices.Concat(verb, []string{"--json"}, args)...) != nil
		var answer struct{ Warnings []ui.Remark }
		if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &answer); err != nil {
			ts.Fatalf("%s: %v", verb, err)
		}
		return answer.Warnings, failed
	}
	checked, failed := findings("check")
	examined, unwell := findings("doctor", "--scan=false")
	if !reflect.DeepEqual(checked, examined) {
		ts.Fatalf("check and doctor disagree:\n%+v\n%+v", checked, examined)
	}
	loaded, refused := findings("up")
	if !reflect.DeepEqual(checked, loaded) {
		ts.Fatalf("check and up disagree:\n%+v\n%+v", checked, loaded)
	}
	want := regexp.MustCompile("^" + text)
	var found, isError bool
	for _, r := range checked {
		found = found || r.Kind == kind && want.MatchString(r.Severity+": "+r.Message)
		isError = isError || r.Severity == "error"
	}
	if !found {
		ts.Fatalf("no %s like %q in %+v", kind, want, checked)
	}
	if failed != isError || refused != isError || unwell != isError {
		ts.Fatalf("check failed: %v; doctor failed: %v; up failed: %v; an error among the findings: %v", failed, unwell, refused, isError)
	}
}

// onClient runs a command on the client.
func onClient(ts *testscript.TestScript, neg bool, args []string) {
	var failed error
	ts.Check(ts.Value(networkKey{}).(network).client.Do(func() error {
		failed = ts.Exec(args[0], args[1:]...)
		return nil
	}))
	if neg != (failed != nil) {
		ts.Fatalf("on the client: %v", failed)
	}
}

// connect connects from the client, and expects to be greeted.
func connect(ts *testscript.TestScript, neg bool, args []string) {
	address, err := netip.ParseAddrPort(args[0])
	ts.Check(err)
	patience := 10 * time.Second
	if neg { // long enough: nobody answers
		patience = 300 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := ts.Value(networkKey{}).(network).client.Dial(ctx, "tcp", address)
	if err == nil {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		var greeting []byte
		if greeting, err = io.ReadAll(conn); err == nil && string(greeting) != "hello\n" {
			err = fmt.Errorf("greeted with %q", greeting)
		}
	}
	if neg != (err != nil) {
		ts.Fatalf("connecting to %s: %v", address, err)
	}
}

type socketsKey struct{}

// receive opens sockets on the server, in place of those of the last call: receive
// ip4:112 ip6:89 udp:0.0.0.0:500 tcp::80.
func receive(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: receive network:address...")
	}
	open, _ := ts.Value(socketsKey{}).(*[]io.Closer)
	for _, s := range *open {
		ts.Check(s.Close())
	}
	*open = nil
	server := ts.Value(networkKey{}).(network).server
	for _, arg := range args {
		kind, address, _ := strings.Cut(arg, ":")
		var s io.Closer
		var err error
		switch kind {
		case "tcp":
			s, err = server.Listen(context.Background(), kind, address)
		case "udp":
			s, err = server.ListenPacket(context.Background(), kind, address)
		default: // ip4:112
			s, err = server.ListenPacket(context.Background(), arg, "")
		}
		ts.Check(err)
		*open = append(*open, s)
	}
}

// refused knocks at a port from the client, and expects a RST or port unreachable;
// or, negated, to hear nothing: refused tcp 192.0.2.1:23.
func refused(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: refused tcp|udp address:port")
	}
	address, err := netip.ParseAddrPort(args[1])
	ts.Check(err)
	patience := 10 * time.Second
	if neg { // long enough
		patience = 300 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := ts.Value(networkKey{}).(network).client.Dial(ctx, args[0], address)
	if err == nil {
		defer conn.Close()
		if args[0] == "udp" {
			conn.SetDeadline(time.Now().Add(patience))
			conn.Write([]byte("hello\n"))
			_, err = conn.Read(make([]byte, 1))
		}
	}
	silent := false
	if e, ok := errors.AsType[net.Error](err); ok {
		silent = e.Timeout()
	}
	if neg && !silent || !neg && !errors.Is(err, unix.ECONNREFUSED) {
		ts.Fatalf("%s to %s: %v", args[0], address, err)
	}
}

// sysctl sets one of the server's settings.
func sysctl(ts *testscript.TestScript, _ bool, args []string) {
	ts.Value(networkKey{}).(network).server.Sysctl(args[0], args[1])
}
