//go:build linux

package main

import "slices"

// A class is a secret: what was sent in two cases that an attacker should not
// be able to tell from each other.
type class struct {
	name   string
	source sourceKind

	// One case, and the other, in which each wrong port is replaced by a random
	// one that the policy does not name.
	before, beforeOther []probe
	timed, timedOther   []probe

	public bool // no secret to an attacker who knows the services
	rare   bool // tried no more often than the rules log
	scan   bool // tried in the middle of a scan, with nothing of it in the processor's caches
	pair   bool // two answered probes: the time between the answers counts
}

// idle is a port that the policy does not name.
const idle = 33333

// wrong stands for a random port that the policy does not name.
const wrong = 0

func syn(ports ...uint16) []probe {
	var all []probe
	for _, p := range ports {
		all = append(all, probe{port: p})
	}
	return all
}

func datagram(ports ...uint16) []probe {
	all := syn(ports...)
	for i := range all {
		all[i].udp = true
	}
	return all
}

// classes returns all classes for a stand.
func (s *stand) classes() []class {
	k1, k2, k3, u1 := s.knocks[0].port, s.knocks[1].port, s.knocks[2].port, s.udpKnocks[0].port
	all := []class{}
	add := func(name string, source sourceKind, before, beforeOther, timed, timedOther []probe) *class {
		all = append(all, class{name: name, source: source, before: before, beforeOther: beforeOther,
			timed: s.answered(timed...), timedOther: s.answered(timedOther...)})
		return &all[len(all)-1]
	}
	after, own := "idle port after ", "the port itself: "
	for _, kind := range sourceKinds {
		from := ", " + string(kind)
		add(after+"knock 1 or a wrong port"+from, kind, syn(k1), syn(wrong), syn(idle), syn(idle))
		add(own+"knock 1 or a wrong port"+from, kind, nil, nil, syn(k1), syn(wrong))
	}
	add(own+"knock 1 or wrong, after a wrong port", net48, syn(wrong), syn(wrong), syn(k1), syn(wrong))
	add("second idle port after knock 1 or wrong", net48, syn(k1, idle), syn(wrong, idle), syn(idle), syn(idle))
	add(after+"knocks 1 2, or 1 wrong", net48, syn(k1, k2), syn(k1, wrong), syn(idle), syn(idle))
	add(own+"knock 2 or wrong, after 1", net48, syn(k1), syn(k1), syn(k2), syn(wrong))
	add(after+"knocks 1 2 3, or 1 2 wrong", net48, syn(k1, k2, k3), syn(k1, k2, wrong), syn(idle), syn(idle))
	add(own+"knock 3 or wrong, after 1 2", net48, syn(k1, k2), syn(k1, k2), syn(k3), syn(wrong))
	add(after+"knock 1 twice, or wrong twice", net48, syn(k1, k1), syn(wrong, wrong), syn(idle), syn(idle))
	add(own+"knock 1 again, or wrong again", net48, syn(k1), syn(wrong), syn(k1), syn(wrong))
	add(after+"UDP knock 1 or a wrong port", net48, datagram(u1), datagram(wrong), syn(idle), syn(idle))
	add(own+"UDP knock 1 or a wrong port", net48, nil, nil, datagram(u1), datagram(wrong))
	add(after+"UDP knock 1 or wrong, IPv4", ipv4Many, datagram(u1), datagram(wrong), syn(idle), syn(idle))
	for _, c := range slices.Clone(all) {
		if c.source == net48 && slices.Contains(c.timedOther, probe{port: wrong}) || c.name == all[0].name {
			c.name, c.scan = "in a scan, "+c.name, true
			all = append(all, c)
		}
	}
	add(after+"knock 1 or a wrong port, logged", net48, syn(k1), syn(wrong), syn(idle), syn(idle)).rare = true
	add(own+"knock 3 or wrong, after 1 2, logged", net48, syn(k1, k2), syn(k1, k2), syn(k3), syn(wrong)).rare = true
	add(after+"knock 1, one IPv4, within its budget", ipv4One, syn(k1), syn(wrong), syn(idle), syn(idle)).rare = true
	add(own+"knock 1, one IPv4, within its budget", ipv4One, nil, nil, syn(k1), syn(wrong)).rare = true
	add("one call: knock 1 or wrong, idle", net48, nil, nil, syn(k1, idle), syn(wrong, idle))
	if s.idleAnswers() {
		add("the same, between the answers", net48, nil, nil, syn(k1, idle), syn(wrong, idle)).pair = true
	}
	add(own+"knock 2 or wrong, from nowhere", net48, nil, nil, syn(k2), syn(wrong))
	add(own+"the hidden service or wrong", net48, nil, nil, syn(service), syn(wrong)).public = true
	return all
}
