package policy

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// edits change a policy; each is tried on every layout.
var edits = map[string]func(*Policy){
	"nothing": func(*Policy) {},
	"a user more": func(p *Policy) {
		p.Users = append(p.Users, User{Name: "null", Devices: []string{"laptop", "no"}, Networks: []netip.Prefix{netip.MustParsePrefix("2001:db8::/64")},
			Until: time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC)})
		p.Doors[0].Knock.Users = append(p.Doors[0].Knock.Users, "null")
		if !p.HasKeys() {
			p.Keys = Keys{Port: Port{UDP, 20001}, Bound: BoundRequired}
		}
	},
	"a device more":  func(p *Policy) { eachUser(p, func(u *User) { u.Devices = append(u.Devices, "tablet") }) },
	"another device": func(p *Policy) { eachUser(p, func(u *User) { u.Devices = []string{"tablet"} }) },
	"a device less":  func(p *Policy) { eachUser(p, func(u *User) { u.Devices = u.Devices[:1] }) },
	"another end":    func(p *Policy) { eachUser(p, func(u *User) { u.Until = time.Unix(1.9e9, 0).UTC() }) },
	"no end":         func(p *Policy) { eachUser(p, func(u *User) { u.Until = time.Time{} }) },
	"other networks": func(p *Policy) {
		eachUser(p, func(u *User) { u.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	},
	"no networks":       func(p *Policy) { eachUser(p, func(u *User) { u.Networks = nil }) },
	"a door more":       func(p *Policy) { addAll(p) },
	"without the last":  func(p *Policy) { drop(p, len(p.Users)-1) },
	"without the first": func(p *Policy) { drop(p, 0) },
	"nobody": func(p *Policy) {
		for len(p.Users) > 0 {
			drop(p, 0)
		}
	},
}

func eachUser(p *Policy, change func(*User)) {
	for i := range p.Users {
		change(&p.Users[i])
	}
}

// addAll adds every user to every door.
func addAll(p *Policy) {
	for i := range p.Doors {
		k := &p.Doors[i].Knock
		for j := range p.Users {
			if name := p.Users[j].Name; !slices.Contains(k.Users, name) {
				k.Users = append(k.Users, name)
			}
		}
	}
}

// drop removes a user. What then has no meaning goes, too.
func drop(p *Policy, at int) {
	if at < 0 || at >= len(p.Users) {
		return
	}
	name := p.Users[at].Name
	p.Users = slices.Delete(p.Users, at, at+1)
	for i := range p.Doors {
		k := &p.Doors[i].Knock
		k.Users = slices.DeleteFunc(k.Users, func(u string) bool { return u == name })
	}
	if len(p.Users) == 0 {
		p.Keys = Keys{}
	}
}

// edited edits a text, which must succeed, and returns the new text. It reports false
// if the edit makes no valid policy.
func edited(t rapid.TB, text string, edit func(*Policy)) (string, bool) {
	t.Helper()
	p, err := Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	want := p.Clone()
	edit(want)
	got, _, err := Edit("policy.yaml", []byte(text), p, want)
	var invalid *InvalidError
	switch {
	case errors.As(err, &invalid):
		if _, err := Parse("", []byte(Format(want))); err == nil {
			t.Fatalf("a valid policy is refused: %v", invalid)
		}
		return "", false
	case err != nil:
		t.Fatalf("%v (%q) of\n%s", err, err.(*UneditableError).Lines, text)
	}
	return string(got), true
}

// layouts are texts as people write them, each with a comment in every place.
var layouts = []string{
	`# mine
version: 1   # the first
posture: guard

# who
keys: {port: udp/99}   # the port

users: # people
  # the boss
  alice: {devices: [laptop, phone], until: 2027-06-30}   # her

  bob:
    devices: # his
      - laptop   # old
      - 'phone'
    networks: [203.0.113.0/24, "2001:db8::/32"] # at home
  # the last
  carol:
    until: 2028-01-01 # soon
    devices:
    - "laptop"

# what
doors:
  ssh:
    service: tcp/22
    knock:
      # both
      key: [alice, bob]   # two
      sequence: [7, 9, 8]
    open_for: 20s

  web:
    service: tcp/443
    knock:
      key:
        - carol # alone
        - alice
      sequence: [17, 19, 18]
  mail: {service: tcp/25, knock: {sequence: [27, 29, 28]}} # none
# the end
`,
	"{version: 1, posture: closed, keys: {\"port\": \"udp/99\"}, users: {'alice': {devices: [laptop, ], networks: ['::/0']}, bob: {devices: [a,b]}}, " +
		"doors: {ssh: {service: 22, knock: {sequence: [7], key: [alice, bob]}}, b: {knock: {sequence: [8, 9]}, service: 23}}}\n",
	"\ufeffversion: 1\r\nposture: closed\r\n\r\n# doors\r\n# of mine\r\ndoors:\r\n  a:\r\n    service: 22\r\n    knock:\r\n      sequence:\r\n      - 7\r\n      - 9\r\n",
	"version: 1\nposture: closed\ndoors: {a: {service: 22, knock: {sequence: [7, 9]}}}",
	"doors:\n a:\n  knock: {sequence: [1]}\n  service: 22\n  \nversion: 1\nposture: closed\nusers:\n   alice:\n      devices: [\n        laptop, # mine\n        phone\n      ]\nkeys:\n  port: udp/99\nbackend: nftables",
}

// TestEdit: each edit of each layout means what was asked for, and keeps every line
// that has nothing to do with it.
func TestEdit(t *testing.T) {
	layouts[4] = strings.Replace(layouts[4], "{sequence: [1]}", "{sequence: [1], key: [alice]}", 1)
	for name, edit := range edits {
		for i, text := range layouts {
			got, ok := edited(t, text, edit)
			if !ok {
				continue
			}
			if name == "nothing" && got != text {
				t.Errorf("nothing is changed:\n%s", cmp.Diff(text, got))
			}
			if i == 0 && (strings.Count(got, "# mine") != 1 || strings.Count(got, "# the end") != 1 || strings.Count(got, "# the first") != 1) {
				t.Errorf("%s: comments are lost:\n%s", name, cmp.Diff(text, got))
			}
			if strings.Count(got, "\r\n") != strings.Count(got, "\n") && strings.Contains(text, "\r") {
				t.Errorf("%s: %q", name, got)
			}
		}
	}
}

// TestEditLayout shows where things go.
func TestEditLayout(t *testing.T) {
	for _, test := range []struct{ edit, text, want string }{
		{"a user more", "version: 1\nposture: closed\n\n# the doors\ndoors:\n  a:\n    service: 22\n    knock: {sequence: [7, 9]}\n",
			"version: 1\nposture: closed\n\nkeys: {port: udp/20001, address: required}\n\nusers:\n" +
				"  \"null\": {devices: [laptop, \"no\"], networks: [\"2001:db8::/64\"], until: 2027-06-30}\n\n" +
				"# the doors\ndoors:\n  a:\n    service: 22\n    knock: {sequence: [7, 9], key: [\"null\"]}\n"},
		{"nobody", "version: 1\nposture: closed\nkeys: {port: udp/99}\nusers:\n  a: {devices: [b]}\ndoors:\n  a:\n    service: 22\n    knock: {key: [a], sequence: [7, 9]}\n",
			"version: 1\nposture: closed\ndoors:\n  a:\n    service: 22\n    knock: {sequence: [7, 9]}\n"},
	} {
		if got, _ := edited(t, test.text, edits[test.edit]); got != test.want {
			t.Errorf("%s (-want +got):\n%s", test.edit, cmp.Diff(test.want, got))
		}
	}
}

// TestEditRandom: policies as Format writes them are edited, in any order.
func TestEditRandom(t *testing.T) {
	var names []string
	for name := range edits {
		names = append(names, name)
	}
	slices.Sort(names)
	rapid.Check(t, func(t *rapid.T) {
		text := Format(randomPolicy(t))
		for range rapid.IntRange(1, 5).Draw(t, "edits") {
			name := rapid.SampledFrom(names).Draw(t, "edit")
			if got, ok := edited(t, text, edits[name]); ok {
				text = got
			}
		}
	})
}

// TestUneditable: what cannot be edited says what to write by hand, and so does what
// would be no policy.
func TestUneditable(t *testing.T) {
	const text = "version: 1\nposture: closed\nkeys: {port: udp/99}\nusers: {alice: {devices: [laptop]} # her\n  }\ndoors: {a: {service: 22, knock: {key: [alice]}}}\n"
	p, err := Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := p.Clone()
	edits["a user more"](want)
	_, _, err = Edit("policy.yaml", []byte(text), p, want)
	var uneditable *UneditableError
	if !errors.As(err, &uneditable) || len(uneditable.Lines) != 2 ||
		uneditable.Lines[1] != `write "key: [alice, "null"]" under the knock of door a` {
		t.Errorf("%v, %+v", err, uneditable)
	}
	want.Doors[0].Knock.Users = []string{"nobody"}
	var invalid *InvalidError
	if _, _, err := Edit("policy.yaml", []byte(text), p, want); !errors.As(err, &invalid) {
		t.Errorf("an invalid policy is %v", err)
	}
}

// FuzzEdit: whatever layout a valid policy has, an edit means what was asked for, or
// says that it cannot be made.
func FuzzEdit(f *testing.F) {
	for _, text := range samples(f) {
		f.Add(text)
	}
	for _, text := range layouts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("policy.yaml", data)
		if err != nil || len(data) > 1<<14 {
			return
		}
		for name, edit := range edits {
			want := p.Clone()
			edit(want)
			text, got, err := Edit("policy.yaml", data, p, want)
			var invalid *InvalidError
			var uneditable *UneditableError
			switch {
			case errors.As(err, &invalid):
			case errors.As(err, &uneditable):
				if len(uneditable.Lines) == 0 {
					t.Errorf("%s: nothing is to be done by hand", name)
				}
			case err != nil:
				t.Errorf("%s: the error is %v", name, err)
			default:
				if again, err := Parse("", text); err != nil || Format(again) != Format(want) || Format(got) != Format(want) {
					t.Errorf("%s: the text means something else:\n%s", name, text)
				}
			}
		}
	})
}
