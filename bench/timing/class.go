//go:build linux

package main

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
	pair   bool // two answered probes: the time between the answers counts
}

// The doors of the measured policy, and an idle port.
var (
	knocks    = [3]uint16{47011, 5120, 31877}
	udpKnocks = [2]uint16{7061, 9200}
)

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
	k1, k2, k3 := knocks[0], knocks[1], knocks[2]
	all := []class{}
	add := func(name string, source sourceKind, before, beforeOther, timed, timedOther []probe) *class {
		all = append(all, class{name: name, source: source, before: before, beforeOther: beforeOther,
			timed: s.answered(timed...), timedOther: s.answered(timedOther...)})
		return &all[len(all)-1]
	}
	after, own := "idle port after ", "the port itself: "
	for _, kind := range []sourceKind{eachNet, oneNet, ipv4Many, ipv4One} {
		from := ", " + string(kind)
		add(after+"knock 1 or a wrong port"+from, kind, syn(k1), syn(wrong), syn(idle), syn(idle))
		add(own+"knock 1 or a wrong port"+from, kind, nil, nil, syn(k1), syn(wrong))
	}
	add(after+"knocks 1 2, or 1 wrong", eachNet, syn(k1, k2), syn(k1, wrong), syn(idle), syn(idle))
	add(own+"knock 2 or wrong, after 1", eachNet, syn(k1), syn(k1), syn(k2), syn(wrong))
	add(after+"knocks 1 2 3, or 1 2 wrong", eachNet, syn(k1, k2, k3), syn(k1, k2, wrong), syn(idle), syn(idle))
	add(own+"knock 3 or wrong, after 1 2", eachNet, syn(k1, k2), syn(k1, k2), syn(k3), syn(wrong))
	add(after+"knock 1 twice, or wrong twice", eachNet, syn(k1, k1), syn(wrong, wrong), syn(idle), syn(idle))
	add(own+"knock 1 again, or wrong again", eachNet, syn(k1), syn(wrong), syn(k1), syn(wrong))
	add(after+"UDP knock 1 or a wrong port", eachNet, datagram(udpKnocks[0]), datagram(wrong), syn(idle), syn(idle))
	add(own+"UDP knock 1 or a wrong port", eachNet, nil, nil, datagram(udpKnocks[0]), datagram(wrong))
	add(after+"UDP knock 1 or wrong, IPv4", ipv4Many, datagram(udpKnocks[0]), datagram(wrong), syn(idle), syn(idle))
	add("one call: knock 1 or wrong, idle", eachNet, nil, nil, syn(k1, idle), syn(wrong, idle))
	if s.idleAnswers() {
		add("the same, between the answers", eachNet, nil, nil, syn(k1, idle), syn(wrong, idle)).pair = true
	}
	add(own+"knock 2 or wrong, from nowhere", eachNet, nil, nil, syn(k2), syn(wrong))
	add(own+"the hidden service or wrong", eachNet, nil, nil, syn(service), syn(wrong)).public = true
	return all
}
