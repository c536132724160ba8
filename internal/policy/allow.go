package policy

import (
	"go.yaml.in/yaml/v4"
)

func (w *walker) readAllow(n *yaml.Node) {
	const example = "{service: tcp/443}"
	for _, c := range w.items(n) {
		switch {
		case c.Kind != yaml.MappingNode:
			hint := "write " + example
			if _, f := service(c.Value, forAllow); c.Kind == yaml.ScalarNode && f == nil {
				hint = "write {service: " + c.Value + "}"
			} else if _, f := network(c.Value); c.Kind == yaml.ScalarNode && f == nil {
				hint = "write {from: " + c.Value + "}"
			}
			w.fail(c, "an allow entry must be a mapping, not "+kind(c), hint)
		case len(c.Content) == 0:
			w.fail(c, "this allow entry allows nothing", "write at least one of service, from and interface, as in "+example)
		default:
			w.readAllowEntry(c)
		}
	}
}

func (w *walker) readAllowEntry(n *yaml.Node) {
	a := Allow{Pos: place(n)}
	w.fields("an allow entry", n, n, []field{
		{key: "service", shape: word, example: "tcp/443", absent: "anything", read: func(n *yaml.Node) {
			var f *fault
			a.Service, f = service(n.Value, forAllow)
			w.check(n, f)
		}},
		{key: "from", shape: word, example: "192.0.2.0/24", absent: "anyone", read: func(n *yaml.Node) {
			var f *fault
			a.From, f = network(n.Value)
			w.check(n, f)
		}},
		{key: "interface", shape: word, example: "eth0", absent: "any", read: func(n *yaml.Node) {
			var f *fault
			a.Interface, f = interfaceName(n.Value)
			w.check(n, f)
		}},
	})
	w.policy.Allow = append(w.policy.Allow, a)
}
