package iptables

import "postern/internal/firewall"

// Inspect reads our rules, and the kernel's lists of sources.
func (b Backend) Inspect() (*firewall.Status, error) {
	loaded, err := b.read()
	if err != nil {
		return nil, explain(err)
	}
	ours := loaded.contents()
	status := &firewall.Status{Loaded: len(ours) > 0}
	for _, at := range places {
		here := ours[at]
		if n, found := here.note(); found {
			status.Digest = n.digest
			break
		}
	}
	status.Altered = status.Loaded && !sound(ours, status.Digest)
	return status, nil
}
