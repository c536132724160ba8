//go:build linux

package booted

import (
	"bytes"
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/lab/debian"
	"postern/internal/lab/prober"
)

var (
	runs = flag.Int("runs", 6, "how many policies TestKills loads and has killed")
	seed = flag.Uint64("seed", uint64(time.Now().UnixNano()), "what TestKills does")
)

// wait is how long rules wait for a confirmation.
const wait = 3 * time.Second

// A victim is something that can die while rules wait for a confirmation.
type victim string

const (
	terminal victim = "terminal" // of the client
	link     victim = "link"     // the client's, until all is over
	up       victim = "up"       // the program
	agent    victim = "agent"    // the process that rolls back
	watchdog victim = "watchdog"
	power    victim = "power" // of the machine
)

var victims = []victim{terminal, link, up, agent, watchdog, power}

// TestKills loads policies over a real ssh through the door, for a time: one that locks
// the client out, or one that the client can confirm by a second log-in. Meanwhile it
// kills some of the victims, each at a random moment. In the end the client logs in as
// before, what runs is the former policy or the confirmed one, whole, and at no moment
// was the port open.
func TestKills(t *testing.T) {
	t.Logf("-seed %d", *seed)
	for _, backend := range []string{"nftables", "iptables"} {
		t.Run(backend, func(t *testing.T) {
			k := &kills{scene: newScene(t, debian.Plain, backend), random: rand.New(rand.NewPCG(*seed, 0)), count: map[string]int{}}
			k.put(k.policy())
			k.m.Write("/etc/postern/bad.yaml", strings.Replace(k.policy(), sequence, "1,2,3", 1), 0o600)
			k.m.Write("/etc/postern/good.yaml", k.policy()+"  web: {service: tcp/80, knock: {sequence: [52341, 2345, 3456]}}\n", 0o600)
			k.m.On()
			k.install()
			k.hides("at first")
			for i := range (*runs + 1) / 2 {
				k.run(i)
				if t.Failed() {
					break
				}
			}
			t.Logf("%v", k.count)
			t.Logf("in all: %s", k.report)
		})
	}
}

type kills struct {
	*scene
	random *rand.Rand
	prober *prober.Prober
	report prober.Report
	count  map[string]int
}

func (k *kills) start() {
	k.Helper()
	var err error
	if k.prober, err = prober.Start(k.uplink, k.targets()...); err != nil {
		k.Fatal(err)
	}
}

func (k *kills) stop() {
	k.Helper()
	r, err := k.prober.Stop()
	if err != nil {
		k.Error(err)
	}
	if k.report.Begin.IsZero() {
		k.report = r
	} else {
		k.report.Add(r)
	}
}

func (k *kills) chance(of int) bool { return k.random.IntN(of) == 0 }

// run loads one policy. The former one is loaded before, and confirmed.
func (k *kills) run(i int) {
	k.Helper()
	file, confirm := "/etc/postern/bad.yaml", i%4 == 2
	if confirm || k.chance(4) {
		file = "/etc/postern/good.yaml"
	}
	dying := slices.Clone(victims)
	k.random.Shuffle(len(dying), func(i, j int) { dying[i], dying[j] = dying[j], dying[i] })
	dying = dying[:1+k.random.IntN(3)]
	moments := make([]time.Duration, len(dying))
	for i := range moments {
		within := wait + time.Second
		if k.chance(2) { // while the client logs in, and up loads the rules
			within = time.Second
		}
		moments[i] = time.Duration(k.random.Int64N(int64(within)))
	}
	slices.Sort(moments)
	k.Logf("run %d: %s, confirmed: %v, killed: %v after %v", i, file, confirm, dying, moments)

	k.start()
	ctx, cancel := context.WithCancel(k.Context())
	defer cancel()
	options := []string{"-o", "ProxyCommand=" + k.opens(k.home.Addr4(), hidden, sequence)}
	if k.chance(2) {
		options = append(options, "-tt") // then up asks
	}
	long := wait
	if confirm {
		long *= 3 // which is time for another log-in
	}
	ssh := k.m.SSH(ctx, k.client, k.home.Addr4(), "postern up --yes --confirm "+long.String()+" -f "+file, options...)
	var said bytes.Buffer
	ssh.Stdout, ssh.Stderr = &said, &said
	in, err := ssh.StdinPipe()
	if err == nil {
		err = ssh.Start()
	}
	if err != nil {
		k.Fatal(err)
	}
	defer in.Close()
	begin := time.Now()
	confirmed := false
	if confirm { // and what dies, dies later
		k.eventually("the rules that can be confirmed are not loaded", func() bool {
			out, _ := k.m.Try("postern status --json")
			return strings.Contains(out, `"seconds_left"`)
		})
		out, err := k.ssh(k.home.Addr4(), "postern confirm")
		if confirmed = err == nil; !confirmed && !strings.Contains(out, "no rules wait") && !strings.Contains(out, "too late") {
			k.Logf("confirm: %v: %s", err, out)
		}
	}
	for i, v := range dying {
		time.Sleep(time.Until(begin.Add(moments[i])))
		k.kill(v, ssh.Process.Kill)
		k.count[string(v)]++
	}
	// Until it has been decided, and the rest of the session is gone.
	k.eventually("rules still wait", func() bool {
		out, _ := k.m.Try("pgrep -f 'postern [u]p'; postern status --json")
		return strings.HasPrefix(out, "{") && !strings.Contains(out, `"seconds_left"`)
	})
	ssh.Process.Kill()
	ssh.Wait()
	if slices.Contains(dying, link) {
		k.ip("up")
	}
	want, other := policyFile, file
	if confirmed {
		want, other = file, policyFile
	}
	k.eventually("what runs is not "+want, func() bool {
		_, code := k.m.Status("postern status -f " + want)
		return code == 0
	})
	if _, code := k.m.Status("postern status -f " + other); code == 0 {
		k.Errorf("%s and %s are loaded", want, other)
	}
	k.letsIn("afterwards", k.home.Addr4())
	k.stop()
	if k.report.Open > 0 {
		k.Errorf("open: %s", k.report)
	}
	if k.Failed() {
		k.Logf("ssh said:\n%s\nstatus: %s", &said, k.status())
	}
	if confirmed {
		k.count["confirmed"]++
		k.m.Run("postern up --no-confirm")
	}
}

func (k *kills) status() string {
	out, _ := k.m.Try("postern status")
	return out
}

// kill kills a victim. What is dead already is not an error.
func (k *kills) kill(v victim, hangUp func() error) {
	k.Helper()
	switch v {
	case terminal:
		hangUp()
	case link:
		k.ip("down")
	case up:
		k.m.Try("pkill -KILL -f 'postern [u]p --yes'")
	case agent:
		k.m.Try("pkill -KILL -f -- '[-]-expired'")
	case watchdog:
		k.m.Run("systemctl kill --signal=KILL postern-watchdog || true")
	case power:
		k.stop()
		k.m.Cut()
		k.m.Plug()
		k.start()
		k.m.On()
	}
}

// ip has the client's end of its cable up or down.
func (k *kills) ip(state string) {
	k.Helper()
	if out, err := k.client.Command(k.Context(), "ip", "link", "set", "gw", state).CombinedOutput(); err != nil {
		k.Fatalf("%v: %s", err, out)
	}
}

// eventually waits until it is so, for as long as systemd may take to do it on a busy
// machine.
func (k *kills) eventually(failure string, so func() bool) {
	k.Helper()
	for deadline := time.Now().Add(3*wait + 15*time.Second); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			k.Fatalf("%s: %s", failure, k.status())
		}
	}
}
