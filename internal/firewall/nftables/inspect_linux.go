package nftables

import (
	"net/netip"
	"slices"
	"strings"

	nft "github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"postern/internal/automaton"
	"postern/internal/firewall"
)

// Inspect reads our table.
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
	_, found, err := ours(conn)
	if err != nil || !found {
		return status, err
	}
	status.Loaded = true
	sets, err := conn.GetSets(table)
	if err != nil {
		return nil, err
	}
	for _, s := range sets {
		if s.Name == "service" {
			status.Digest = strings.TrimPrefix(s.Comment, digestComment)
		}
		name := strings.TrimRight(s.Name, "46")
		if !slices.Contains([]string{"at", "once", "many"}, name) {
			continue
		}
		elements, err := conn.GetSetElements(s)
		if err != nil {
			return nil, err
		}
		for _, e := range elements {
			bytes := 4
			if strings.HasSuffix(s.Name, "6") {
				bytes = 16
			}
			if len(e.Key) < bytes {
				continue
			}
			source, _ := netip.AddrFromSlice(e.Key[:bytes])
			if name == "at" {
				if len(e.Val) >= 4 {
					id := automaton.StateID(binaryutil.NativeEndian.Uint32(e.Val))
					status.Progress = append(status.Progress, firewall.Progress{Source: source, State: id, Left: e.Expires})
				}
				continue
			}
			if len(e.Key) >= bytes+4 {
				id := automaton.ServiceID(binaryutil.NativeEndian.Uint32(e.Key[bytes:]))
				status.Grants = append(status.Grants, firewall.Grant{Source: source, Service: id, Left: e.Expires})
			}
		}
	}
	slices.SortFunc(status.Progress, func(a, b firewall.Progress) int { return a.Source.Compare(b.Source) })
	slices.SortFunc(status.Grants, func(a, b firewall.Grant) int { return a.Source.Compare(b.Source) })

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
			status.Counters = append(status.Counters, firewall.Counter{Name: named.Name, Packets: c.Packets, Bytes: c.Bytes})
		}
	}
	slices.SortFunc(status.Counters, func(a, b firewall.Counter) int { return strings.Compare(a.Name, b.Name) })
	return status, nil
}
