package policy

import (
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v4"

	"postern/internal/document"
)

// MaxSize is the size of the largest policy that is parsed. Ten thousand doors
// fit.
const MaxSize = document.MaxSize

// language holds the texts that are specific to policies.
var language = document.FileKind{
	Name:       "policy",
	EmptyHint:  "a policy begins with \"version: 1\" and \"posture: guard\" and has at least one door under \"doors:\"",
	MaxNesting: "six levels",
	Mapping:    "{ipv4: 32, ipv6: 64}",
	KeyOwners: map[string]string{
		"version": "the top of the file", "posture": "the top of the file", "interfaces": "the top of the file",
		"cover": "the top of the file", "early_drop": "the top of the file", "allow": "the top of the file", "doors": "the top of the file",
		"admitted": "the top of the file", "keys": "the top of the file", "users": "the top of the file", "source": "the top of the file", "log": "the top of the file", "backend": "the top of the file",
		"knock": "a door", "open_for": "a door", "admit": "a door", "on_close": "a door", "forfeit": "a door", "forward": "a door",
		"masquerade": "a door", "address": "a door or keys",
		"service": "a door or an allow entry", "from": "a door or an allow entry", "interface": "an allow entry",
		"sequence": "a door's knock", "close": "a door's knock", "step_timeout": "a door's knock", "retransmits": "a door's knock", "key": "a door's knock",
		"port": "keys", "devices": "a user", "networks": "a user", "until": "a user",
		"mark": "admitted", "ipv4": "source", "ipv6": "source", "target": "log", "group": "log", "progress": "log",
	},
	UnknownKey: func(key string) (meant, hint string) {
		if key == "port" || key == "ports" {
			return "service", "write the port as a service, as in \"service: tcp/22\""
		}
		return "", ""
	},
}

// Parse parses a policy. The name is used in diagnostics. The error is an
// *InvalidError with everything that is wrong; only text that is not YAML hides
// the errors after it.
func Parse(name string, data []byte) (*Policy, error) {
	p := &Policy{}
	file, err := document.Parse(name, data, &language, func(d *document.Walker, root *yaml.Node) {
		w := &walker{Walker: d, policy: p, users: map[string]*userEntry{}}
		w.readPolicy(root)
		w.conflicts()
		w.people()
	})
	if err != nil {
		return nil, err
	}
	p.file = file
	return p, nil
}

// A walker reads the YAML tree into a policy.
type walker struct {
	*document.Walker
	policy  *Policy
	doors   []doorEntry  // one for each of policy.Doors
	allowed []*yaml.Node // one for each of policy.Allow
	keys    *yaml.Node   // the key "keys"; nil if it is missing
	users   map[string]*userEntry
}

func (w *walker) readPolicy(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		w.Fail(n, "a policy must be a mapping, not "+document.Kind(n), "write \"key: value\" lines, the first of them \"version: 1\"")
		return
	}
	if w.RejectNewer(n) {
		return
	}
	p := w.policy
	defaults := New(p.Posture)
	p.EarlyDrop, p.Source, p.Log = defaults.EarlyDrop, defaults.Source, defaults.Log
	entries := w.Fields("the policy", n, n, []document.Field{
		{Key: "version", Shape: document.Scalar, Example: "1", Read: w.readVersion},
		{Key: "posture", Shape: document.Scalar, Advice: `"posture: closed" to shut all that is not allowed, or "posture: guard" to hide the doors alone`, Read: func(n *yaml.Node) {
			choose(w, n, "posture", &p.Posture, Closed, Guard)
		}},
		{Key: "interfaces", Shape: document.List, Example: "[eth0]", Default: "every interface but loopback", Read: w.readInterfaces},
		{Key: "cover", Shape: document.Scalar, Example: "drop", Default: fmt.Sprintf("%s in closed, %s in guard", Closed.DefaultCover(), Guard.DefaultCover()), Read: func(n *yaml.Node) {
			choose(w, n, "cover", &p.Cover, Covers()...)
		}},
		{Key: "early_drop", Shape: document.Scalar, Example: "false", Default: strconv.FormatBool(DefaultEarlyDrop), Read: func(n *yaml.Node) {
			w.flag(n, "early_drop", &p.EarlyDrop)
		}},
		{Key: "allow", Shape: document.List, Example: "[{service: tcp/443}]", Default: "nothing", Read: w.readAllow},
		{Key: "keys", Shape: document.Mapping, Example: "{port: udp/40123}", Default: "no keys", Read: w.readKeys},
		{Key: "users", Shape: document.Mapping, Example: "{alice: {devices: [laptop]}}", Default: "nobody", Read: w.readUsers},
		{Key: "doors", Shape: document.Mapping, Example: "{ssh: {service: tcp/22, knock: {sequence: [PORT, PORT, PORT]}}}", Read: w.readDoors},
		{Key: "admitted", Shape: document.Mapping, Example: "{mark: 0x1000}", Default: "no mark", Read: w.readAdmitted},
		{Key: "source", Shape: document.Mapping, Example: "{ipv4: 32, ipv6: 64}", Default: fmt.Sprintf("{ipv4: %d, ipv6: %d}", DefaultSourceIPv4, DefaultSourceIPv6), Read: w.readSource},
		{Key: "log", Shape: document.Mapping, Example: "{target: none}", Default: fmt.Sprintf("{target: %s}", DefaultLogTarget), Read: w.readLog},
		{Key: "backend", Shape: document.Scalar, Example: string(BackendNftables), Default: "the backend that has rules loaded, or nftables", Read: func(n *yaml.Node) {
			choose(w, n, "backend", &p.Backend, BackendNftables, BackendIptables)
		}},
	})
	w.keys = entries["keys"].Key
	if p.Cover == "" {
		p.Cover = p.Posture.DefaultCover()
	}
}

func (w *walker) readVersion(n *yaml.Node) {
	if n.Value != "1" || n.Style != 0 {
		w.Fail(n, "version must be the number 1", "write \"version: 1\"")
	}
}

func (w *walker) readInterfaces(n *yaml.Node) {
	seen := map[string]bool{}
	for _, c := range w.Scalars(n, "an interface", "[eth0, wlan0]") {
		name, f := interfaceName(c.Value)
		if w.Check(c, f) && once(w, c, seen, name, "interface "+document.Quoted(name)) {
			w.policy.Interfaces = append(w.policy.Interfaces, name)
		}
	}
}

func (w *walker) readAdmitted(n *yaml.Node) {
	w.Fields("admitted", n, n, []document.Field{
		{Key: "mark", Shape: document.Scalar, Example: "0x1000", Read: func(n *yaml.Node) {
			mark, f := mark(n.Value)
			if f == nil && n.Style != 0 {
				f = document.NewFault("mark cannot be "+document.Quoted(n.Value), "write "+n.Value+", without quotes")
			}
			w.Check(n, f)
			w.policy.Admitted.Mark = mark
		}},
	})
}

func (w *walker) readSource(n *yaml.Node) {
	w.Fields("source", n, n, []document.Field{
		{Key: "ipv4", Shape: document.Scalar, Example: "32", Default: strconv.Itoa(DefaultSourceIPv4), Read: func(n *yaml.Node) {
			w.number(n, "ipv4", &w.policy.Source.IPv4, 1, 32, "a prefix length")
		}},
		{Key: "ipv6", Shape: document.Scalar, Example: "64", Default: strconv.Itoa(DefaultSourceIPv6), Read: func(n *yaml.Node) {
			w.number(n, "ipv6", &w.policy.Source.IPv6, 1, 128, "a prefix length")
		}},
	})
}

func (w *walker) readLog(n *yaml.Node) {
	group := 0
	entries := w.Fields("log", n, n, []document.Field{
		{Key: "target", Shape: document.Scalar, Example: string(DefaultLogTarget), Default: string(DefaultLogTarget), Read: func(n *yaml.Node) {
			choose(w, n, "target", &w.policy.Log.Target, LogKernel, LogNFLOG, LogNone)
		}},
		{Key: "group", Shape: document.Scalar, Example: "0", Default: "0", Read: func(n *yaml.Node) {
			w.number(n, "group", &group, 0, 65535, "an NFLOG group")
		}},
		{Key: "progress", Shape: document.Scalar, Example: "true", Default: "false", Read: func(n *yaml.Node) {
			w.flag(n, "progress", &w.policy.Log.Progress)
		}},
	})
	w.policy.Log.Group = uint16(group)
	if e, there := entries["group"]; there && w.policy.Log.Target != LogNFLOG {
		w.Fail(e.Key, "group has no meaning without \"target: nflog\"", "remove it, or write \"target: nflog\"")
	}
	if w.policy.Log.Progress {
		w.policy.Log.ProgressPos = document.PositionOf(entries["progress"].Key)
		if w.policy.Log.Target == LogNone {
			w.Fail(entries["progress"].Key, "progress has no meaning with \"target: none\"", "remove one of them")
		}
	}
}
