//go:build !(386 || arm || mips || mipsle)

package preflight

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"postern/internal/automaton"
	"postern/internal/change"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/firewall/bpf"
	"postern/internal/host"
	"postern/internal/keyfile"
	"postern/internal/preflight/otherrules"
)

// read asks the host for everything.
func read(m *automaton.Machine, b firewall.Backend, survey backends.Survey) *facts {
	f := &facts{machine: m, backend: b}
	f.readBackend(survey)
	f.readPolicyFile()
	f.readSecret()
	f.readKeys(survey)
	f.readInterfaces()
	for i := range m.Doors {
		var missing host.Setting
		if to := m.Doors[i].Forward; to.IsValid() {
			if setting, ok := host.Forwarding(to.Addr()); !ok {
				missing = setting
			}
		}
		f.noForward = append(f.noForward, missing)
	}
	var err error
	f.listening, err = host.Listening()
	f.missing("listening programs", err)
	f.readReceivers()
	f.readProtocols()
	f.wayIn = host.WayIn()
	rules, err := otherrules.Read()
	f.missing("other firewall rules", err)
	if err == nil {
		f.obstacles, f.refusals = rules.Obstacles(m, b), rules.Refusals(m)
		f.openings = rules.Openings(m)
		f.published = rules.Published()
		f.rewrites = rules.Rewrites()
	}
	return f
}

func (f *facts) readBackend(survey backends.Survey) {
	takeover, err := survey.TakeOver(f.backend)
	var permission *firewall.PermissionError
	switch {
	case errors.As(err, &permission):
		f.missing("the rules that are loaded", err)
	case err != nil:
		f.refusal = err
		return
	default:
		before := takeover.Before
		f.unread = takeover.Unread
		f.loaded = before.Loaded && !before.Altered && before.Digest == f.backend.Digest(f.machine)
	}
	if a, ok := f.backend.(firewall.Adviser); ok {
		f.advice, err = a.Advise()
		f.missing("the limits of the "+f.backend.Name()+" backend", err)
	}
}

func (f *facts) readPolicyFile() {
	name := f.machine.Policy.Diagnose(f.machine.Doors[0].Pos, "", "").File
	readers, changers, err := host.OthersMay(name)
	if errors.Is(err, fs.ErrNotExist) { // standard input, say
		return
	}
	f.missing("who may change the policy", err)
	f.policyPath, f.readers, f.changers = name, readers, changers
}

func (f *facts) readSecret() {
	here := change.Here()
	err := here.SecretFault()
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		f.missing("the secret of this host", err)
		return
	}
	f.noSecret = err
	if readers, _, err := host.OthersMay(here.SecretFile()); err == nil {
		f.secretReaders = readers
	}
}

func (f *facts) readKeys(survey backends.Survey) {
	f.now = time.Now()
	if !f.machine.Policy.HasKeys() {
		return
	}
	name := f.policyPath
	if name == "" {
		name = "-"
	}
	file := keyfile.Path(name)
	if path, err := filepath.Abs(file); err == nil {
		file = path
	}
	keys, err := keyfile.Read(file)
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		f.keysBroken = err
		err = nil
	} else if err == nil {
		f.keys = keys
	}
	f.missing("the keys file", err)
	if loaded, _, err := survey.Loaded(); err == nil { // otherwise the backend says so
		for _, b := range loaded {
			f.known = append(f.known, b.Status.Keys...)
		}
	}
	if err = bpf.Probe(); err != nil && errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		f.missing("whether the kernel can verify keys", err)
	} else {
		f.noVerifier = err
		if by, able := f.backend.(firewall.TagVerifier); able && err != nil {
			f.tagsLast, f.noVerifier = tagsLast(by, f.machine, err)
		}
	}
}

// tagsLast returns how long tags last where there is no program for a reason, and the
// reason, with what keeps tags from it.
func tagsLast(by firewall.TagVerifier, m *automaton.Machine, reason error) (time.Duration, error) {
	lacks, ok := errors.AsType[*firewall.UnsupportedError](reason)
	if !ok {
		return 0, reason
	}
	last, err := by.TagsLast(m, lacks)
	if err != nil {
		return 0, err
	}
	return last, lacks
}

func (f *facts) readInterfaces() {
	all, err := net.Interfaces()
	if err != nil {
		f.missing("interfaces", fmt.Errorf("listing the interfaces: %w", err))
	}
	for _, i := range all {
		f.interfaces = append(f.interfaces, i.Name)
	}
	f.links, err = host.Links()
	f.missing("links and routes", err)
	f.masters, err = host.Masters()
	f.missing("bridges", err)
}

func (f *facts) readReceivers() {
	placed := func(all []host.Receiver) []host.Receiver {
		for i := range all {
			r := &all[i]
			if r.Interface == "" && !r.Local.Addr().IsUnspecified() {
				r.Interface, _ = host.Interface(r.Local.Addr().WithZone(""))
			}
			r.Interface = f.arrivesAs(r.Interface)
		}
		return all
	}
	udp, err := host.Receiving()
	f.missing("programs that receive UDP", err)
	tcp, err := host.Accepting()
	f.missing("programs that accept TCP connections", err)
	f.receivers, f.acceptors = placed(udp), placed(tcp)
}

func (f *facts) readProtocols() {
	var err error
	f.tunnels, err = host.Tunnels()
	f.missing("tunnels", err)
	for i := range f.tunnels {
		t := &f.tunnels[i]
		if t.Interface == "" && t.Local.IsValid() {
			t.Interface, _ = host.Interface(t.Local)
		}
		t.Interface = f.arrivesAs(t.Interface)
	}
	f.rawProtocols, err = host.RawProtocols()
	f.missing("raw sockets", err)
	f.ipsec, err = host.IPsec()
	f.missing("IPsec", err)
}
