package preflight

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/keyfile"
	"postern/internal/policy"
)

func TestPeople(t *testing.T) {
	p, err := policy.Parse("policy.yaml", []byte(`
version: 1
posture: closed
keys: {port: udp/40123}
users:
  alice: {devices: [laptop, phone]}
  bob: {devices: [laptop], until: 2027-06-30}
doors:
  ssh: {service: tcp/22, knock: {key: [alice, bob]}}
`))
	if err != nil {
		t.Fatal(err)
	}
	m, err := automaton.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	end := time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC)
	keys := func(names ...string) *keyfile.File {
		f := &keyfile.File{Path: "keys.yaml"}
		for _, name := range names {
			f.Enroll(name)
		}
		return f
	}
	all := keys("alice/laptop", "alice/phone", "bob/laptop")
	exposed := *all
	exposed.Exposed = true
	known := func(f *keyfile.File, names ...string) (all []firewall.KeyUse) {
		for _, name := range names {
			use := firewall.KeyUse{Device: f.Find(name).ID, Name: name}
			all = append(all, use, use) // at two doors
		}
		return all
	}
	for name, test := range map[string]struct {
		facts facts
		kinds []Kind
		says  string // one of the messages
	}{
		"well":                   {facts{keys: all, now: end.Add(-1)}, nil, ""},
		"keys that were unread":  {facts{now: end.Add(-1)}, nil, ""},
		"a user's time is over":  {facts{keys: all, now: end}, []Kind{UserExpired}, "user bob is over since 2027-07-01 00:00:00 UTC"},
		"a device without a key": {facts{keys: keys("alice/phone", "bob/laptop")}, []Kind{DeviceWithoutKey}, "no key of alice/laptop is in keys.yaml"},
		"a key of nobody's":      {facts{keys: keys("alice/laptop", "alice/phone", "bob/laptop", "carol/x")}, []Kind{KeyWithoutDevice}, "a key of carol/x,"},
		"no keys":                {facts{keys: keys()}, []Kind{DeviceWithoutKey}, "no keys of alice/laptop, alice/phone and bob/laptop are in keys.yaml, so nothing opens for these devices"},
		"keys of nobody's": {facts{keys: keys("alice/laptop", "alice/phone", "bob/laptop", "carol/x", "dan/x")}, []Kind{KeyWithoutDevice},
			"has keys of carol/x and dan/x, which the policy does not list, so they open nothing"},
		"no file": {facts{keys: &keyfile.File{Path: "/w/keys.yaml", Missing: true}}, []Kind{KeysMissing}, "/w/keys.yaml does not exist, so no key opens a door"},
		"no file, and what is loaded has keys": {facts{keys: &keyfile.File{Path: "/w/keys.yaml", Missing: true}, known: known(all, "alice/laptop", "bob/laptop")}, []Kind{KeysLost},
			"/w/keys.yaml does not exist: this policy would take away the keys of 2 devices, which open doors now: alice/laptop and bob/laptop"},
		"a key is lost": {facts{keys: keys("alice/phone", "bob/laptop"), known: known(all, "alice/laptop")}, []Kind{KeysLost},
			"keys.yaml lacks a key: this policy would take away the key of alice/laptop, which opens doors now"},
		"another's keys file":     {facts{keys: keys("alice/laptop", "alice/phone", "bob/laptop"), known: known(all, "alice/laptop")}, []Kind{KeysLost}, "the key of alice/laptop"},
		"what is loaded is known": {facts{keys: all, known: known(all, "alice/laptop", "bob/laptop")}, nil, ""},
		"the policy has no such":  {facts{keys: all, known: []firewall.KeyUse{{Device: 1, Name: "carol/x"}, {Device: 2, Name: "alice/watch"}, {Device: 3}}}, nil, ""},
		"others read them":        {facts{keys: &exposed}, []Kind{KeysReadable}, "others on this host can read keys.yaml"},
		"a damaged file":          {facts{keysBroken: errors.New("broken")}, []Kind{KeysUnreadable}, "broken"},
		"tags in its place": {facts{keys: all, tagsLast: 5*time.Hour + time.Minute, noVerifier: &firewall.UnsupportedError{What: "BPF", Hint: "use sequences"}},
			[]Kind{KeysByTags}, "this host has no BPF, so it knows keys by tags that are loaded 5h ahead"},
		"no verifier": {facts{keys: all, noVerifier: &firewall.UnsupportedError{What: "BPF", Hint: "use sequences"}},
			[]Kind{KeysUnsupported}, "this host has no BPF, so it cannot verify keys"},
		"a program on the port":      {facts{keys: all, listening: []policy.Port{{Protocol: policy.UDP, Number: 40123}}}, []Kind{KeyPortOpen}, "the port of keys"},
		"a program on the TCP port":  {facts{keys: all, listening: []policy.Port{{Protocol: policy.TCP, Number: 40123}}}, []Kind{KeyPortOpen}, "the port of keys"},
		"a program on another port":  {facts{keys: all, listening: []policy.Port{{Protocol: policy.TCP, Number: 40124}}}, nil, ""},
		"several, the worst of them": {facts{keys: &exposed, now: end, noVerifier: errors.New("no")}, []Kind{KeysUnsupported, KeysReadable, UserExpired}, "no, so"},
	} {
		t.Run(name, func(t *testing.T) {
			f := test.facts
			f.machine = m
			var kinds []Kind
			said := ""
			for _, found := range f.people() {
				kinds, said = append(kinds, found.Kind), said+found.Message+"\n"
				if len(found.Hints) == 0 && found.Kind != KeysUnsupported {
					t.Errorf("no remedy: %s", found.Message)
				}
			}
			if !slices.Equal(kinds, test.kinds) || !strings.Contains(said, test.says) {
				t.Errorf("found %q, want %q\n%s", kinds, test.kinds, said)
			}
		})
	}
}

func TestSomeOf(t *testing.T) {
	var names []string
	for i := range 8 {
		names = append(names, fmt.Sprint("d", i))
	}
	if got := someOf(names); got != "d0, d1, d2, d3, d4 and 3 more" || len(names) != 8 || names[5] != "d5" {
		t.Errorf("%q of %q", got, names)
	}
}
