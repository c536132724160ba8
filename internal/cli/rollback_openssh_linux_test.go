package cli

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/lab"
	"postern/internal/lab/openssh"
)

// TestRollbackOverSSH loads a policy that locks its caller out, over a real ssh through
// a door, and kills something at a random moment: the terminal, the link, up, what it
// leaves behind, the watchdog, or the machine. Afterwards the caller logs in as before, and at no
// moment is the port open. "make rollback" does it 200 times.
func TestRollbackOverSSH(t *testing.T) {
	t.Parallel()
	if !lab.RealRoot() {
		t.Skip("sshd cannot become another user in a user namespace: run this as root")
	}
	h := newRollback(t)
	keys := h.path("keys")
	if err := os.Mkdir(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	server, err := openssh.Start(t.Context(), h.server, 22, keys)
	if err != nil {
		t.Fatal(err)
	}
	h.write(t, "ssh_config", "Host home\n\tProxyCommand postern connect -q home\n"+server.Client(h.at.Addr4()))
	h.run(t, "postern", "add", "home", "--address", h.at.Addr4().String(), "--knock", "1234,2345,3456", "--timeout", "30s")
	// One that the caller can confirm: another door beside theirs.
	h.write(t, "fine.yaml", goodPolicy+"  web: {service: tcp/80, knock: {sequence: [5234, 2345, 3456]}}\n")
	h.onClient(t, "nft", "add table inet cut; add chain inet cut in { type filter hook input priority 0; }; add chain inet cut out { type filter hook output priority 0; }")
	postern := fmt.Sprintf("STATE_DIRECTORY=%s RUNTIME_DIRECTORY=%s exec %s ", h.path("state"), h.path("run"), h.path("bin/postern"))

	p := h.probe(t, 22)
	defer p.shut(t)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	kill := func(pids []int) {
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	count := map[string]int{}
	for i := range *kills {
		what := []string{"terminal", "link", "up", "agent", "nothing", "machine", "confirm", "all but up", "watchdog"}[i%9]
		var watchdog *exec.Cmd // in every second round
		if what == "watchdog" || random.IntN(2) == 0 {
			watchdog = h.lasting("watchdog")
			h.start(t, watchdog)
		}
		before := h.settled(t)
		file := "bad.yaml"
		if what == "confirm" {
			file = "fine.yaml"
		}
		args := h.ssh("ssh", "home", postern+"up --yes --confirm 3s -f "+h.path(file))
		if random.IntN(2) == 0 || what == "all but up" { // then up itself is at the prompt
			args = append(args[:1:1], append([]string{"-tt"}, args[1:]...)...)
		}
		up := h.command(t, args...)
		var said strings.Builder
		up.Stdout, up.Stderr = &said, &said
		in, err := up.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := up.Start(); err != nil {
			t.Fatal(err)
		}
		// From before up begins to after its deadline.
		moment := time.Duration(random.Int64N(int64(2500 * time.Millisecond)))
		time.Sleep(moment)
		switch what {
		case "terminal":
			up.Process.Kill()
		case "link":
			h.onClient(t, "nft", "add rule inet cut in drop; add rule inet cut out drop")
		case "up":
			kill(h.processes(t, "--confirm"))
		case "agent":
			kill(h.agents(t))
		case "all but up":
			h.eventually(t, "up has left no agent", func() bool { return len(h.agents(t)) > 0 || h.kept(t).Pending == nil })
			kill(h.agents(t))
		case "machine":
			kill(h.processes(t, "--confirm"))
			kill(h.agents(t))
			up.Process.Kill()
			if watchdog != nil {
				watchdog.Process.Kill()
				watchdog.Wait()
			}
			if err := os.RemoveAll(h.path("run")); err != nil { // a tmpfs
				t.Fatal(err)
			}
			h.verb(t, "up", "--boot")
		case "watchdog":
			watchdog.Process.Kill()
		case "confirm":
			h.eventually(t, "the rules that can be confirmed are not loaded", func() bool { return h.kept(t).Pending != nil })
			h.run(t, h.ssh("ssh", "home", postern+"confirm")...)
		}
		if what == "link" { // dead for longer than the rules may wait
			h.settled(t)
			h.onClient(t, "nft", "flush chain inet cut in; flush chain inet cut out")
		}
		if what == "nothing" || what == "all but up" {
			h.eventually(t, "up does not end", func() bool { return len(h.processes(t, "--confirm")) == 0 })
		}
		h.eventually(t, "up goes on", func() bool { return len(h.processes(t, "--confirm")) == 0 })
		after := h.settled(t)
		in.Close()
		up.Process.Kill()
		up.Wait()
		if watchdog != nil {
			watchdog.Process.Kill()
			watchdog.Wait()
		}
		if after.Same(&before) == (what == "confirm") {
			t.Errorf("round %d, %s after %v: runs %+v, and it was %+v before\n%s", i, what, moment, after, before, &said)
		}
		if got := h.finish(t, h.command(t, h.ssh("ssh", "home", "echo in")...)); got.out != "in\n" {
			t.Fatalf("round %d, %s after %v: locked out: %+v\n%s", i, what, moment, got, &said)
		}
		if what == "confirm" {
			h.verb(t, "up", "--no-confirm", "-f", h.path("policy.yaml"))
		}
		count[what]++
	}
	t.Logf("killed: %v", count)
}
