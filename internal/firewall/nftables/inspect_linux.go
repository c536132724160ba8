package nftables

import (
	"cmp"
	"slices"
	"strings"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"

	"postern/internal/firewall"
)

// Inspect reads our table. Of a very full one it reads a part, and says so.
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
		if s.Name == "rule_set" {
			status.Digest = strings.TrimPrefix(s.Comment, digestComment)
		}
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
			}
			if err != nil {
				return nil, err
			}
			status.Partial = status.Partial || !whole
		}
	}
	slices.SortFunc(status.Progress, func(a, b firewall.Progress) int { return a.Source.Compare(b.Source) })
	slices.SortFunc(status.Grants, func(a, b firewall.Grant) int {
		return cmp.Or(a.Source.Compare(b.Source), cmp.Compare(a.Service, b.Service))
	})

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
