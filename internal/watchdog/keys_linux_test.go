package watchdog

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/firewall/iptables"
	"postern/internal/firewall/nftables"
	"postern/internal/keyfile"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

// TestKeys: keys open doors also by way of interfaces that come later, and after others
// have taken the rules; a key that was revoked meanwhile does not come back.
func TestKeys(t *testing.T) {
	if !lab.RealRoot() {
		t.Skip("only root of the machine may load BPF programs")
	}
	for _, b := range []firewall.Backend{nftables.Backend{}, iptables.Backend{Variant: "nft"}} {
		t.Run(b.Name(), func(t *testing.T) { testKeys(t, b) })
	}
}

func testKeys(t *testing.T, b firewall.Backend) {
	const policy = labtest.Closed + "keys: {port: udp/40123}\nusers: {alice: {devices: [laptop, phone]}}\n" +
		"doors: {ssh: {service: 22, knock: {key: [alice]}}}\n"
	s := newScene(t, b)
	file := filepath.Join(t.TempDir(), "keys.yaml")
	enroll := func(do func(*keyfile.File)) (keys *keyfile.File) {
		t.Helper()
		if _, err := keyfile.Change(file, func(f *keyfile.File) error { do(f); return nil }); err != nil {
			t.Fatal(err)
		}
		keys, err := keyfile.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	keys := enroll(func(f *keyfile.File) { f.Enroll("alice/laptop"); f.Enroll("alice/phone") })
	laptop, phone := keys.Find("alice/laptop").ID, keys.Find("alice/phone").ID

	s.upWithKeys(policy, file)
	s.watch(true)

	// everywhere reports whether the keys of these devices alone count, on all interfaces.
	everywhere := func(only ...any) bool {
		status := labtest.Inspect(t, s.Gateway, s.Backend)
		if !status.Loaded || status.Altered || len(status.Bare) > 0 || len(status.Keys) != len(only) {
			return false
		}
		for _, k := range status.Keys {
			known := false
			for _, d := range only {
				known = known || d == k.Device
			}
			if !known {
				return false
			}
		}
		return true
	}
	if !everywhere(laptop, phone) {
		t.Fatal("not loaded")
	}
	s.Connect(s.Client, s.Gateway, "198.18.0.0/24", "2001:db8:18::/64")
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	s.until("it serves the new interface", func() bool { return everywhere(laptop, phone) })

	enroll(func(f *keyfile.File) { f.Drop("alice/phone") })
	if err := s.Gateway.Do(func() error { return s.Backend.(firewall.KeyVerifier).Forget(phone) }); err != nil {
		t.Fatal(err)
	}
	flushRuleset(s)
	s.until("the rules are back, without the key", func() bool { return everywhere(laptop) })
	s.Connect(s.Client, s.Gateway, "198.19.0.0/24", "2001:db8:19::/64")
	s.until("it serves the next one, without the key", func() bool { return everywhere(laptop) })

	// Others take the program, too.
	if err := s.Gateway.Do(bpf.Detach); err != nil {
		t.Fatal(err)
	}
	flushRuleset(s)
	s.until("both are back", func() bool { return everywhere(laptop) })

	// They take it from one interface alone, when no other has come meanwhile.
	s.Connect(s.Client, s.Gateway, "198.20.0.0/24", "2001:db8:20::/64")
	s.until("it serves a third one", func() bool { return everywhere(laptop) })
	if err := s.Gateway.Do(takeProgram); err != nil {
		t.Fatal(err)
	}
	if everywhere(laptop) {
		t.Fatal("the program was not taken")
	}
	flushRuleset(s)
	s.until("both are back, and everywhere", func() bool { return everywhere(laptop) })

	// The keys are lost: the rules come back all the same.
	if err := os.WriteFile(file, []byte("no keys"), 0o600); err != nil {
		t.Fatal(err)
	}
	flushRuleset(s)
	s.until("the rules are back", func() bool { return s.sound(policy) })
	s.until("it said what is wrong", func() bool { return s.said.count("no key opens a door") > 0 })
}

// takeProgram detaches the program from one interface.
func takeProgram() error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	of := links[len(links)-1]
	index := of.Attrs().Index
	all, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: ebpf.AttachTCXIngress})
	if err != nil { // this kernel has only clsact
		return netlink.QdiscDel(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
		}})
	}
	for _, p := range all.Programs {
		program, err := ebpf.NewProgramFromID(p.ID)
		if err != nil {
			return err
		}
		defer program.Close()
		if err := link.RawDetachProgram(link.RawDetachProgramOptions{Target: index, Program: program, Attach: ebpf.AttachTCXIngress}); err != nil {
			return err
		}
	}
	return nil
}
