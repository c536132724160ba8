package policy

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

// Parse reads a policy. The name is that of the file, for diagnostics. The
// error is an *InvalidError with everything that is wrong, not the first
// mistake alone; only text that is not YAML hides what follows it.
func Parse(name string, data []byte) (*Policy, error) {
	if len(data) > MaxSize {
		return nil, &InvalidError{Diagnostics: []Diagnostic{{
			File: name, Line: 1, Column: 1,
			Message: "the file is larger than 1 MiB",
			Hint:    "a policy is a small text file: check the name of the file",
		}}}
	}
	s := newSource(name, strings.TrimPrefix(string(data), "\ufeff"))
	if found := checkText(s.text); len(found) > 0 {
		return nil, s.invalid(found)
	}
	root, found := compose(s)
	if root == nil {
		return nil, s.invalid(found)
	}
	w := &walker{policy: &Policy{file: s}, unwritten: findUnwritten(root), found: found}
	w.found = append(w.found, w.unwritten.found...)
	if !w.unwritten.nodes[root] {
		w.readPolicy(root)
		w.conflicts()
	}
	if err := s.invalid(w.found); err != nil {
		return nil, err
	}
	return w.policy, nil
}

func (w *walker) readPolicy(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		w.fail(n, "a policy must be a mapping, not "+kind(n), "write \"key: value\" lines, the first of them \"version: 1\"")
		return
	}
	p := w.policy
	p.Source = Source{IPv4: 32, IPv6: 128}
	p.Log = Log{Target: LogKernel}
	w.fields("the policy", n, n, []field{
		{key: "version", shape: word, example: "1", read: w.readVersion},
		{key: "posture", shape: word, advice: `"posture: closed" to shut all that is not allowed, or "posture: guard" to hide the doors alone`, read: func(n *yaml.Node) {
			choose(w, n, "posture", &p.Posture, Closed, Guard)
		}},
		{key: "interfaces", shape: list, example: "[eth0]", absent: "every interface but loopback", read: w.readInterfaces},
		{key: "cover", shape: word, example: "drop", absent: "drop in closed, reset in guard", read: func(n *yaml.Node) {
			choose(w, n, "cover", &p.Cover, CoverDrop, CoverReset, CoverUnreachable)
		}},
		{key: "allow", shape: list, example: "[{service: tcp/443}]", absent: "nothing", read: w.readAllow},
		{key: "doors", shape: mapping, example: "{ssh: {service: tcp/22, knock: {sequence: [PORT, PORT, PORT]}}}", read: w.readDoors},
		{key: "source", shape: mapping, example: "{ipv4: 32, ipv6: 64}", absent: "{ipv4: 32, ipv6: 128}", read: w.readSource},
		{key: "log", shape: mapping, example: "{target: none}", absent: "{target: kernel}", read: w.readLog},
	})
	if p.Cover == "" {
		p.Cover = CoverDrop
		if p.Posture == Guard {
			p.Cover = CoverReset
		}
	}
}

func (w *walker) readVersion(n *yaml.Node) {
	if n.Value != "1" || n.Style != 0 {
		w.fail(n, "version must be the number 1", "write \"version: 1\"")
	}
}

func (w *walker) readInterfaces(n *yaml.Node) {
	seen := map[string]bool{}
	for _, c := range w.words(n, "an interface", "[eth0, wlan0]") {
		name, f := interfaceName(c.Value)
		if w.check(c, f) && once(w, c, seen, name, "interface "+quoted(name)) {
			w.policy.Interfaces = append(w.policy.Interfaces, name)
		}
	}
}

func (w *walker) readSource(n *yaml.Node) {
	w.fields("source", n, n, []field{
		{key: "ipv4", shape: word, example: "32", absent: "32", read: func(n *yaml.Node) {
			w.number(n, "ipv4", &w.policy.Source.IPv4, 1, 32, "a prefix length")
		}},
		{key: "ipv6", shape: word, example: "64", absent: "128", read: func(n *yaml.Node) {
			w.number(n, "ipv6", &w.policy.Source.IPv6, 1, 128, "a prefix length")
		}},
	})
}

func (w *walker) readLog(n *yaml.Node) {
	group := 0
	entries := w.fields("log", n, n, []field{
		{key: "target", shape: word, example: "kernel", absent: "kernel", read: func(n *yaml.Node) {
			choose(w, n, "target", &w.policy.Log.Target, LogKernel, LogNFLOG, LogNone)
		}},
		{key: "group", shape: word, example: "0", absent: "0", read: func(n *yaml.Node) {
			w.number(n, "group", &group, 0, 65535, "an NFLOG group")
		}},
	})
	w.policy.Log.Group = uint16(group)
	if e, there := entries["group"]; there && w.policy.Log.Target != LogNFLOG {
		w.fail(e.key, "group has no meaning without \"target: nflog\"", "remove it, or write \"target: nflog\"")
	}
}
