package nftables

import (
	"cmp"
	"slices"
	"strings"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/firewall/verifier"
)

// Inspect reads our table, but for what sources have earned.
func (Backend) Inspect() (*firewall.Status, error) {
	var status *firewall.Status
	err := retry(func() error {
		var err error
		status, err = inspect(&nft.Conn{})
		return err
	})
	return status, err
}

func inspect(conn *nft.Conn) (*firewall.Status, error) {
	status := &firewall.Status{}
	generation, found, err := ours(conn)
	if err != nil || found == nil {
		return status, err
	}
	status.Loaded = true
	sets, err := conn.GetSets(table)
	if err != nil {
		return nil, err
	}
	applied := "" // the shape that was
	for _, s := range sets {
		if s.Name == "rule_set" {
			status.Digest, applied = readComment(s.Comment)
		}
	}
	loaded, sound, err := inspectShape(conn, sets)
	if err != nil {
		return nil, err
	}
	if now, err := conn.GetGen(); err != nil {
		return nil, err
	} else if now.ID != generation { // the rules changed between the looks: look again
		return nil, unix.EINTR
	}
	status.Altered = !sound || loaded.String() != applied
	if has(sets, "keys") {
		look := verifier.Inspect
		if has(sets, "tags") {
			look = inspectTags
		}
		if err := look(status, bpf.Priority, knownCodes); err != nil {
			return nil, err
		}
	}

	if slices.ContainsFunc(sets, func(s *nft.Set) bool { return s.Name == "counted" }) {
		if err := verifier.InspectEarly(status); err != nil {
			return nil, err
		}
	}

	objects, err := conn.GetNamedObjects(table)
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		named, ok := o.(*nft.NamedObj)
		if !ok {
			continue
		}
		if c, ok := named.Obj.(*expr.Counter); ok {
			counter := firewall.Counter{Name: named.Name, Packets: c.Packets, Bytes: c.Bytes}
			if e := status.Early; e != nil && named.Name == blocked {
				counter.Packets, counter.Bytes = counter.Packets+e.Packets, counter.Bytes+e.Bytes
			}
			status.Counters = append(status.Counters, counter)
		}
	}
	slices.SortFunc(status.Counters, func(a, b firewall.Counter) int { return strings.Compare(a.Name, b.Name) })
	return status, nil
}

// ReadSources reads what sources have earned: of very many a part, and says so.
func (Backend) ReadSources(status *firewall.Status) error {
	return retry(func() error {
		status.Progress, status.Grants, status.Partial = nil, nil, false
		for i := range status.Keys {
			status.Keys[i].Opened = nil
		}
		sets, err := (&nft.Conn{}).GetSets(table)
		if err != nil {
			return err
		}
		for _, s := range sets {
			for _, f := range families {
				whole := true
				switch s.Name {
				case "at" + f.suffix():
					var all []firewall.Progress
					all, whole, err = dumpProgress(f)
					status.Progress = append(status.Progress, all...)
				case "once" + f.suffix(), "many" + f.suffix():
					var all []firewall.Grant
					all, whole, err = dumpGrants(s.Name, f)
					status.Grants = append(status.Grants, all...)
				case "opened" + f.suffix():
					whole, err = dumpOpened(f, status.Keys)
				}
				if err != nil {
					return err
				}
				status.Partial = status.Partial || !whole
			}
			if s.Name == "noted" {
				noted, whole, err := dumpNoted()
				if err != nil {
					return err
				}
				status.Progress, status.Partial = append(status.Progress, noted...), status.Partial || !whole
			}
		}
		slices.SortFunc(status.Progress, func(a, b firewall.Progress) int { return a.Source.Compare(b.Source) })
		status.Progress = slices.CompactFunc(status.Progress, func(a, b firewall.Progress) bool { return a.Source == b.Source })
		slices.SortFunc(status.Grants, func(a, b firewall.Grant) int {
			return cmp.Or(a.Source.Compare(b.Source), cmp.Compare(a.ID, b.ID))
		})
		return nil
	})
}

// inspectShape counts what is loaded, and reports whether the kernel calls it as it
// should: the table not put to sleep, the chains with no policy but accept.
func inspectShape(conn *nft.Conn, sets []*nft.Set) (loaded shape, sound bool, err error) {
	t, err := conn.ListTableOfFamily(Table, nft.TableFamilyINet)
	if err != nil {
		return nil, false, err
	}
	sound = uint32(t.Flags)&tableDormant == 0
	loaded = shape{}
	chains, err := conn.ListChainsOfTableFamily(nft.TableFamilyINet)
	if err != nil {
		return nil, false, err
	}
	rules, err := dumpRules()
	if err != nil {
		return nil, false, err
	}
	for _, c := range chains {
		if c.Table.Name == Table {
			loaded["chain "+c.Name] = rules[c.Name]
			sound = sound && (c.Policy == nil || *c.Policy == nft.ChainPolicyAccept)
		}
	}
	for _, s := range sets {
		if s.HasTimeout || slices.Contains([]string{"keys", "counted", "told"}, s.Name) {
			continue
		}
		n := 0
		if s.Interval { // whose ends may have the key of another's beginning
			_, err = dump(s.Name, func(element, lifetime) bool { n++; return true })
		} else {
			err = dumpWhole(s.Name, func(element, lifetime) { n++ })
		}
		if err != nil {
			return nil, false, err
		}
		loaded["set "+s.Name] = n
	}
	return loaded, sound, nil
}
