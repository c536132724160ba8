package policy

import (
	"go.yaml.in/yaml/v4"

	"postern/internal/document"
)

func (w *walker) readAllow(n *yaml.Node) {
	const example = "{service: tcp/443}"
	for _, c := range w.Items(n) {
		switch {
		case c.Kind != yaml.MappingNode:
			hint := "write " + example
			if _, f := service(c.Value, forAllow); c.Kind == yaml.ScalarNode && f == nil {
				hint = "write {service: " + c.Value + "}"
			} else if _, f := network(c.Value); c.Kind == yaml.ScalarNode && f == nil {
				hint = "write {from: " + c.Value + "}"
			}
			w.Fail(c, "an allow entry must be a mapping, not "+document.Kind(c), hint)
		case len(c.Content) == 0:
			w.Fail(c, "this allow entry allows nothing", "write at least one of service, from and interface, as in "+example)
		default:
			w.readAllowEntry(c)
		}
	}
}

func (w *walker) readAllowEntry(n *yaml.Node) {
	a := Allow{Pos: document.PositionOf(n)}
	w.Fields("an allow entry", n, n, []document.Field{
		{Key: "service", Shape: document.Scalar, Example: "tcp/443", Default: "anything", Read: func(n *yaml.Node) {
			var f *document.Fault
			a.Service, f = service(n.Value, forAllow)
			w.Check(n, f)
		}},
		{Key: "from", Shape: document.Scalar, Example: "192.0.2.0/24", Default: "anyone", Read: func(n *yaml.Node) {
			var f *document.Fault
			a.From, f = network(n.Value)
			w.Check(n, f)
		}},
		{Key: "interface", Shape: document.Scalar, Example: "eth0", Default: "any", Read: func(n *yaml.Node) {
			var f *document.Fault
			a.Interface, f = interfaceName(n.Value)
			w.Check(n, f)
		}},
	})
	w.policy.Allow = append(w.policy.Allow, a)
	w.allowed = append(w.allowed, n)
}
