package hosts

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"postern/internal/document"
	"postern/internal/policy"
)

// language holds the texts that are specific to hosts files.
var language = document.FileKind{
	Name:       "hosts file",
	Secrets:    true,
	EmptyHint:  "a hosts file begins with \"version: 1\" and has hosts under \"hosts:\"; \"postern add\" writes one",
	MaxNesting: "four levels",
	Mapping:    "{address: server.example, knock: [PORT, PORT, PORT]}",
	KeyOwners: map[string]string{
		"version": "the top of the file", "hosts": "the top of the file",
		KeyAddress: "a host", KeyPort: "a host", KeyKnock: "a host", KeyClose: "a host", KeyStepTimeout: "a host",
		KeyKey: "a host", KeyToken: "a host", KeyGap: "a host", KeyTimeout: "a host", KeyFamily: "a host", KeyUser: "a host",
	},
	UnknownKey: unknownKey,
}

// unknownKey knows other names of keys.
func unknownKey(key string) (meant, hint string) {
	other := map[string]string{
		"host": KeyAddress, "hostname": KeyAddress, "ip": KeyAddress, "server": KeyAddress,
		"service": KeyPort, "sequence": KeyKnock, "knocks": KeyKnock, "ports": KeyKnock,
		"token_port": KeyToken, "delay": KeyGap, "pause": KeyGap, "login": KeyUser,
	}
	if meant = other[strings.ToLower(key)]; meant == "" {
		return "", ""
	}
	return meant, "write it as \"" + meant + ":\""
}

// Parse parses a hosts file. The name is used in diagnostics. The error is a
// *document.InvalidError.
func Parse(name string, data []byte) (*File, error) {
	f := &File{}
	f.text, f.marked = strings.CutPrefix(string(data), "\ufeff")
	_, err := document.Parse(name, data, &language, func(d *document.Walker, root *yaml.Node) {
		w := &walker{Walker: d, file: f}
		w.readFile(root)
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// A walker reads the YAML tree into a File.
type walker struct {
	*document.Walker
	file *File
}

func (w *walker) readFile(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		w.Fail(n, "a hosts file must be a mapping, not "+document.Kind(n), "write \"key: value\" lines, the first of them \"version: 1\"")
		return
	}
	if w.RejectNewer(n) {
		return
	}
	entries := w.Fields("the hosts file", n, n, []document.Field{
		{Key: "version", Shape: document.Scalar, Example: "1", Read: w.readVersion},
		{Key: "hosts", Shape: document.Mapping, Example: "{home: {address: server.example, knock: [PORT, PORT, PORT]}}",
			Default: "no hosts", Read: w.readHosts},
	})
	if e, there := entries["hosts"]; there {
		w.file.list = &e
	}
}

func (w *walker) readVersion(n *yaml.Node) {
	if n.Value != "1" || n.Style != 0 {
		w.Fail(n, "version must be the number 1", "write \"version: 1\"")
	}
}

func (w *walker) readHosts(n *yaml.Node) {
	for _, e := range w.Entries(n, "give one of the two hosts another name") {
		w.Check(e.Key, CheckName(e.Key.Value))
		f := document.Field{Key: "host " + document.Short(e.Key.Value), Shape: document.Mapping,
			Advice: "its address and its knock under it, as in {address: server.example, knock: [PORT, PORT, PORT]}"}
		if w.CheckShape(e, f) {
			w.readHost(e)
		}
	}
}

func (w *walker) readHost(e document.Entry) {
	h := New(e.Key.Value)
	h.Pos = document.PositionOf(e.Key)
	before := w.ErrorCount()
	word := func(key, example, absent string) document.Field {
		return document.Field{Key: key, Shape: document.Scalar, Example: example, Default: absent, Read: func(n *yaml.Node) {
			w.Check(n, h.Set(key, n.Value))
		}}
	}
	knock := document.Field{Key: KeyKnock, Shape: document.List, Example: "[PORT, PORT, PORT]", Read: func(n *yaml.Node) { h.Knock = w.readKnocks(n) }}
	closing := document.Field{Key: KeyClose, Shape: document.List, Example: "[PORT, PORT, PORT]", Default: "that nothing closes the door", Read: func(n *yaml.Node) {
		h.Close = w.readKnocks(n)
	}}
	key, token := word(KeyKey, "KEY", "a knock"), word(KeyToken, "PORT", "a knock")
	if hasKey(e.Value) {
		knock.Default, key.Default, token.Default = "a key", "", ""
	}
	entries := w.Fields("host "+document.Short(h.Name), e.Key, e.Value, []document.Field{
		word(KeyAddress, "server.example", ""),
		word(KeyPort, strconv.Itoa(DefaultPort), strconv.Itoa(DefaultPort)),
		knock, closing, key, token,
		word(KeyStepTimeout, document.FormatDuration(policy.DefaultStepTimeout), document.FormatDuration(policy.DefaultStepTimeout)),
		word(KeyGap, "50ms", "as little as the connection allows"),
		word(KeyTimeout, document.FormatDuration(DefaultTimeout), document.FormatDuration(DefaultTimeout)),
		word(KeyFamily, "4", "any address of the host"),
		word(KeyUser, "ann", "the user that ssh takes"),
	})
	if w.ErrorCount() == before { // compare only what could be read
		for _, c := range h.conflicts() {
			at, there := entries[c.key]
			if !there {
				at.Value = e.Key
			}
			w.Check(at.Value, c.Fault)
		}
	}
	w.file.Hosts = append(w.file.Hosts, h)
}

// hasKey reports whether a host is written with a key in place of knocks.
func hasKey(n *yaml.Node) bool {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k := n.Content[i].Value; k == KeyKey || k == KeyToken {
			return true
		}
	}
	return false
}

func (w *walker) readKnocks(n *yaml.Node) (all []policy.Port) {
	if count := len(n.Content); count > policy.MaxKnocks {
		w.Check(n.Content[policy.MaxKnocks], tooMany(count))
		return nil
	}
	for _, c := range w.Scalars(n, "a knock", "a port, as in 1234, udp/4000 or icmp/echo") {
		if p, f := port(policy.ParsePort(c.Value)); w.Check(c, f) {
			all = append(all, p)
		}
	}
	return all
}
