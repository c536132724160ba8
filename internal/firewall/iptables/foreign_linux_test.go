package iptables

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

// foreign are rules of others, by what has them.
var foreign = map[string]map[Family]string{
	"nothing": {},
	"a table with nothing in it": {
		IPv4: "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n",
	},
	"only a policy": {
		IPv4: "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n",
	},
	"a firewall in the manner of ufw": {
		IPv4: `*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-input - [0:0]
:ufw-logging-deny - [0:0]
:ufw-user-input - [0:0]
-A INPUT -j ufw-before-input
-A INPUT -m comment --comment "say \"-j POSTERN-INPUT\"" -j ufw-user-input
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-logging-deny -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix "[UFW BLOCK] "
-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT
-A ufw-user-input -j ufw-logging-deny
COMMIT
`,
		IPv6: `*filter
:INPUT DROP [0:0]
:ufw6-user-input - [0:0]
-A INPUT -m rt --rt-type 0 -j DROP
-A INPUT -j ufw6-user-input
-A ufw6-user-input -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
`,
	},
	"containers": {
		IPv4: `*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -d 172.17.0.2/32 ! -i docker0 -j DROP
COMMIT
*mangle
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -j DOCKER
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
`,
		IPv6: `*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
COMMIT
`,
	},
}

// incidental is what listings of the same rules differ in.
var incidental = regexp.MustCompile(`(?m)^#.*\n| ?\[\d+:\d+\]`)

// everything lists all tables of both families, as they are, and for the nft
// variant what nft says of the kernel's tables, too.
func everything(t *testing.T, h *lab.Host, variant string) string {
	t.Helper()
	text := ""
	ask := func(name string, args ...string) {
		out, err := h.Command(t.Context(), name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		text += fmt.Sprintf("---- %s\n%s", name, incidental.ReplaceAllString(string(out), ""))
	}
	for _, f := range families {
		ask(program(variant, f, "save"))
	}
	if variant == "nft" {
		ask("nft", "--stateless", "list", "ruleset")
	}
	return text
}

// emptyTable matches the listing of a legacy table without rules.
var emptyTable = regexp.MustCompile(`\*\w+\n(:[A-Z]+ ACCEPT\n)+COMMIT\n`)

func eachVariant(t *testing.T, test func(t *testing.T, b Backend)) {
	for _, variant := range variants {
		t.Run(variant, func(t *testing.T) { test(t, Backend{Variant: variant}) })
	}
}

func apply(t *testing.T, h *lab.Host, b Backend, file string) {
	t.Helper()
	m := machine(t, file)
	if err := h.Do(func() error { return b.Apply(m) }); err != nil {
		t.Fatalf("up with %s: %v", file, err)
	}
}

func remove(t *testing.T, h *lab.Host, b Backend) {
	t.Helper()
	if err := h.Do(b.Remove); err != nil {
		t.Fatalf("down: %v", err)
	}
}

// TestForeign: the rules of others stay as they are, and ours go without a trace.
func TestForeign(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, b Backend) {
		for name, rules := range foreign {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				h := lab.NewT(t).Host("host")
				for f, text := range rules {
					restore(t, h, program(b.Variant, f, "restore"), text)
				}
				all := func() string {
					text := everything(t, h, b.Variant)
					if b.Variant == "legacy" { // where tables stay
						text = emptyTable.ReplaceAllString(text, "")
					}
					return text
				}
				before := all()
				for name, file := range policies {
					apply(t, h, b, file)
					first := all()
					if !strings.Contains(first, "-A INPUT -j POSTERN-INPUT") {
						t.Fatalf("%s: nothing is loaded:\n%s", name, first)
					}
					for line := range strings.Lines(before) {
						if strings.HasPrefix(line, "-A ") && !strings.Contains(first, line) {
							t.Errorf("%s: a rule of others has gone: %s", name, line)
						}
					}
					apply(t, h, b, file)
					if d := cmp.Diff(first, all()); d != "" {
						t.Errorf("%s: a second up changes something (-first +second):\n%s", name, d)
					}
					if s := labtest.Inspect(t, h, b); !s.Loaded || s.Altered || s.Digest != b.Digest(machine(t, file)) {
						t.Errorf("%s: it is inspected as %+v", name, s)
					}
				}
				remove(t, h, b)
				if d := cmp.Diff(before, all()); d != "" {
					t.Errorf("up and down leave a trace (-before +after):\n%s", d)
				}
				remove(t, h, b)
				if s := labtest.Inspect(t, h, b); s.Loaded || s.Altered {
					t.Errorf("after down: %+v", s)
				}
			})
		}
	})
}
