package policy

import (
	"net/netip"
	"slices"
	"time"

	"pgregory.net/rapid"
)

// sound checks what every policy from Parse must satisfy. The rest of the
// program relies on each of these.
func sound(t rapid.TB, p *Policy) {
	t.Helper()
	ok := func(holds bool, what string, args ...any) {
		t.Helper()
		if !holds {
			t.Errorf(what, args...)
		}
	}
	ok(p.Posture == Closed || p.Posture == Guard, "posture %q", p.Posture)
	ok(slices.Contains(Covers(), p.Cover), "cover %q", p.Cover)
	ok(p.Source.IPv4 >= 1 && p.Source.IPv4 <= 32 && p.Source.IPv6 >= 1 && p.Source.IPv6 <= 128, "source %+v", p.Source)
	ok(p.Log.Target == LogNFLOG || p.Log.Group == 0, "log %+v", p.Log)
	ok(p.Log.Target != LogNone || !p.Log.Progress, "log %+v", p.Log)
	ok(len(p.Doors) > 0, "no doors")
	for _, name := range p.Interfaces {
		ok(name != "" && name != "lo" && len(name) <= 15, "interface %q", name)
	}
	for _, a := range p.Allow {
		ok(a.Service != Service{} || a.From.IsValid() || a.Interface != "", "an allow entry that allows everything")
		ok(a.Service.First <= a.Service.Last, "service %v", a.Service)
		soundNetwork(t, a.From)
	}
	users := map[string]bool{} // whether the user opens a door
	for _, u := range p.Users {
		_, twice := users[u.Name]
		ok(CheckName("user", u.Name) == nil && !twice, "user %q", u.Name)
		users[u.Name] = false
		ok(len(u.Devices) > 0 && len(slices.Compact(slices.Sorted(slices.Values(u.Devices)))) == len(u.Devices), "%s has devices %q", u.Name, u.Devices)
		for _, d := range u.Devices {
			ok(CheckName("device", d) == nil, "device %q", d)
		}
		for _, n := range u.Networks {
			soundNetwork(t, n)
		}
		ok(u.Until == u.Until.UTC().Truncate(time.Second) && u.Until.Year() <= 2200, "%s until %v", u.Name, u.Until)
	}
	defer func() {
		for name, opens := range users {
			ok(opens, "%s opens no door", name)
		}
		ok(p.HasKeys() == (len(users) > 0), "keys %+v, and %d users", p.Keys, len(users))
		ok(!p.HasKeys() || p.Keys.Port.Protocol == UDP && p.Keys.Port.Number > 0 && (p.Keys.Bound == BoundOptional || p.Keys.Bound == BoundRequired), "keys %+v", p.Keys)
	}()
	free := func(port Port, what string) {
		ok(!p.HasKeys() || port.Protocol == ICMP || port.Number != p.Keys.Port.Number, "%s has the port of keys", what)
	}
	for _, a := range p.Allow {
		ok(!p.HasKeys() || !a.Service.Covers(p.Keys.Port) && !a.Service.Covers(Port{TCP, p.Keys.Port.Number}), "allow %v has the port of keys", a.Service)
	}
	names, sequences := map[string]bool{}, map[string]string{}
	for _, d := range p.Doors {
		ok(!names[d.Name], "two doors %s", d.Name)
		names[d.Name] = true
		ok(len(d.Services) > 0, "%s has no service", d.Name)
		for _, s := range d.Services {
			ok((s.Protocol == TCP || s.Protocol == UDP) && s.Number > 0, "%s has service %v", d.Name, s)
			free(s, d.Name)
		}
		k := d.Knock
		ok(len(k.Sequence)+len(k.Users) >= 1 && len(k.Sequence) <= 32 && len(k.Sequence) == len(k.SequencePos), "%s has sequence %v", d.Name, k)
		for i, u := range k.Users {
			_, known := users[u]
			ok(known && !slices.Contains(k.Users[:i], u), "%s is opened by %q", d.Name, k.Users)
			users[u] = true
		}
		ok(len(k.Close) <= 32 && len(k.Close) == len(k.ClosePos) && (len(k.Close) == 0 || len(k.Sequence) > 0), "%s has close %v", d.Name, k)
		ok(d.OnClose == OnCloseKeep || d.OnClose == OnCloseCut && len(k.Close)+len(k.Users) > 0, "%s has on_close %q", d.Name, d.OnClose)
		for _, sequence := range [][]Port{k.Sequence, k.Close} {
			prefix := ""
			for i, s := range sequence {
				ok((s.Protocol == TCP || s.Protocol == UDP) == (s.Number > 0), "%s has knock %v", d.Name, s)
				free(s, d.Name)
				prefix += s.String() + " "
				if i+1 < len(sequence) {
					ok(sequences[prefix] != "end", "%s goes through the last knock of another sequence", d.Name)
					sequences[prefix] = "step"
				}
			}
			ok(prefix == "" || sequences[prefix] == "", "%s ends where another sequence passes or ends", d.Name)
			if prefix != "" {
				sequences[prefix] = "end"
			}
		}
		ok(k.StepTimeout >= 100*time.Millisecond && k.StepTimeout <= time.Hour, "%s has step_timeout %v", d.Name, k.StepTimeout)
		ok(d.OpenFor >= 100*time.Millisecond && d.OpenFor <= 24*time.Hour, "%s has open_for %v", d.Name, d.OpenFor)
		ok(k.StepTimeout%time.Millisecond == 0 && d.OpenFor%time.Millisecond == 0, "%s has times %v %v", d.Name, k.StepTimeout, d.OpenFor)
		ok(k.Retransmits == RetransmitsIgnore || k.Retransmits == RetransmitsReset, "%s has retransmits %q", d.Name, k.Retransmits)
		ok(d.Admit == AdmitOne || d.Admit == AdmitAny, "%s has admit %q", d.Name, d.Admit)
		ok(d.Forward.IsValid() || !d.Masquerade, "%s has masquerade alone", d.Name)
		ok(!d.Forward.IsValid() || len(d.Services) == 1 && d.HasFamilyOf(d.Forward.Addr()), "%s has forward %v", d.Name, d.Forward)
		ok(d.Address.Zone() == "" && !d.Address.Is4In6(), "%s has address %v", d.Name, d.Address)
		for _, from := range d.From {
			soundNetwork(t, from)
			ok(d.HasFamilyOf(from.Addr()), "%s has from %v of a family it does not serve", d.Name, from)
		}
		ok(len(slices.Compact(slices.SortedFunc(slices.Values(d.From), netip.Prefix.Compare))) == len(d.From), "%s has from %v", d.Name, d.From)
	}
}

func soundNetwork(t rapid.TB, p netip.Prefix) {
	t.Helper()
	if p != (netip.Prefix{}) && (!p.IsValid() || p != p.Masked() || p.Addr().Is4In6()) {
		t.Errorf("network %v", p)
	}
}
