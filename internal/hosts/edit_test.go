package hosts

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"postern/internal/policy"
)

func newcomer(name string) Host {
	h := New(name)
	h.Address, h.Knock = "new.example", []policy.Port{{Protocol: policy.TCP, Number: 1234}, {Protocol: policy.UDP, Number: 2345}}
	return h
}

// TestWith adds a host to files of many kinds: whatever a person wrote stays.
func TestWith(t *testing.T) {
	const entry = "  new:\n    address: new.example\n    port: 22\n    knock: [1234, udp/2345]\n"
	for name, c := range map[string]struct {
		text, want string
		name       string
		on         IfExists
	}{
		"no file":  {want: preface + entry},
		"no hosts": {text: "# mine\nversion: 1\n", want: "# mine\nversion: 1\nhosts:\n" + entry},
		"no newline at the end": {
			text: "version: 1\nhosts:\n  a: {address: a, knock: [1]}",
			want: "version: 1\nhosts:\n  a: {address: a, knock: [1]}\n" + entry,
		},
		"comments and other keys below": {
			text: "hosts: # all of them\n  # first\n  a:\n    address: a\n\n    knock: # secret\n      - 1\n    # of a\n\n  # of nobody\n# end\nversion: 1\n",
			want: "hosts: # all of them\n  # first\n  a:\n    address: a\n\n    knock: # secret\n      - 1\n    # of a\n" + entry + "\n  # of nobody\n# end\nversion: 1\n",
		},
		"a comment to the left, inside an entry": {
			text: "version: 1\nhosts:\n  a:\n    address: a\n# odd\n    knock: [1]\n",
			want: "version: 1\nhosts:\n  a:\n    address: a\n# odd\n    knock: [1]\n" + entry,
		},
		"wider": {
			text: "version: 1\nhosts:\n      a:\n          address: a\n          knock: [1]\n",
			want: "version: 1\nhosts:\n      a:\n          address: a\n          knock: [1]\n      new:\n        address: new.example\n        port: 22\n        knock: [1234, udp/2345]\n",
		},
		"not indented list": {
			text: "version: 1\nhosts:\n a:\n  address: a\n  knock:\n  - 1\n  - 2\n",
			want: "version: 1\nhosts:\n a:\n  address: a\n  knock:\n  - 1\n  - 2\n new:\n   address: new.example\n   port: 22\n   knock: [1234, udp/2345]\n",
		},
		"lines as on Windows": {
			text: "\ufeffversion: 1\r\nhosts:\r\n  a: {address: a, knock: [1]}\r\n",
			want: "\ufeffversion: 1\r\nhosts:\r\n  a: {address: a, knock: [1]}\r\n" + strings.ReplaceAll(entry, "\n", "\r\n"),
		},
		"in braces over lines": {
			text: "version: 1\nhosts:\n  a: {address: a,\n    knock: [1,\n      2]\n    }\n",
			want: "version: 1\nhosts:\n  a: {address: a,\n    knock: [1,\n      2]\n    }\n" + entry,
		},
		"replaced in the middle": {
			text: "version: 1\nhosts:\n  a: {address: a, knock: [1]}\n  # the new one\n  new: # here\n    user: ann\n    address: b\n    knock: [1]\n\n  # c\n  c: {address: c, knock: [3]}\n",
			want: "version: 1\nhosts:\n  a: {address: a, knock: [1]}\n  # the new one\n  new: # here\n    address: new.example\n    port: 22\n    knock: [1234, udp/2345]\n\n  # c\n  c: {address: c, knock: [3]}\n",
			on:   ReplaceIfExists,
		},
		"replaced in braces": {
			text: "version: 1\nhosts:\n  new: {address: b, knock: [1]}\n  c: {address: c, knock: [3]}",
			want: "version: 1\nhosts:\n" + entry + "  c: {address: c, knock: [3]}",
			on:   ReplaceIfExists,
		},
		"replaced at the end, without a newline": {
			text: "version: 1\nhosts:\n  new: {address: b, knock: [1]}",
			want: "version: 1\nhosts:\n" + entry,
			on:   ReplaceIfExists,
		},
		"replaced where there is none": {
			text: "version: 1\nhosts:\n  a: {address: a, knock: [1]}\n",
			want: "version: 1\nhosts:\n  a: {address: a, knock: [1]}\n" + entry,
			on:   ReplaceIfExists,
		},
		"a name that YAML reads as something else": {
			text: "version: 1\nhosts:\n  a: {address: a, knock: [1]}\n",
			want: "version: 1\nhosts:\n  a: {address: a, knock: [1]}\n" + strings.Replace(entry, "new:", `"null":`, 1),
			name: "null",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := &File{}
			if c.text != "" {
				var err error
				if f, err = Parse("hosts.yaml", []byte(c.text)); err != nil {
					t.Fatal(err)
				}
			}
			if c.name == "" {
				c.name = "new"
			}
			got, err := f.With(newcomer(c.name), c.on)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestWithRefused(t *testing.T) {
	f, err := Parse("hosts.yaml", []byte("version: 1\nhosts:\n  a: {address: a, knock: [1]}\n  new: {address: a, knock: [1]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.With(newcomer("new"), FailIfExists)
	if exists, ok := errors.AsType[*ExistsError](err); !ok || exists.Line != 4 {
		t.Errorf("got %v", err)
	}

	// Valid, but too hard for an editor of lines: the error must contain the
	// line to write.
	for _, text := range []string{
		`{version: 1, hosts: {a: {address: a, knock: [1]}}}`,
		"version: 1\nhosts: {a: {address: a, knock: [1]}}\n",
		"version: 1\nhosts: {\n  a: {address: a, knock: [1]},\n  b: {address: a, knock: [1]}\n  }\n",
		"{version: 1}\n",
		"---\nversion: 1\n...\n",
		"? version\n: 1\n? hosts\n: ? a\n  : {address: a, knock: [1]}\n",
	} {
		f, err := Parse("hosts.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.With(newcomer("new"), FailIfExists)
		if e, ok := errors.AsType[*UneditableError](err); !ok || e.Entry != "new: {address: new.example, port: 22, knock: [1234, udp/2345]}" {
			t.Errorf("%q: %v, and the text\n%s", text, err, got)
		}
	}
}

// TestWithout removes a host: whatever else a person wrote stays, and the host can be
// added again.
func TestWithout(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"in the middle": {
			"version: 1\nhosts:\n  # of a\n  a: {address: a, knock: [1]}\n  # of new\n  new: # here\n    address: b\n    knock:\n      - 1\n\n  # of c\n  c: {address: c, knock: [3]}\n",
			"version: 1\nhosts:\n  # of a\n  a: {address: a, knock: [1]}\n  # of new\n\n  # of c\n  c: {address: c, knock: [3]}\n",
		},
		"at the end, without a newline": {
			"version: 1\nhosts:\n  a: {address: a, knock: [1]}\n  new: {address: b, knock: [1]}",
			"version: 1\nhosts:\n  a: {address: a, knock: [1]}\n",
		},
		"lines as on Windows": {
			"\ufeffversion: 1\r\nhosts:\r\n  new: {address: b, knock: [1]}\r\n  a: {address: a, knock: [1]}\r\n",
			"\ufeffversion: 1\r\nhosts:\r\n  a: {address: a, knock: [1]}\r\n",
		},
		"the only one":                     {"version: 1\nhosts:\n  new:\n    address: b\n    knock: [1]\n", "version: 1\n"},
		"the only one, before the version": {"hosts:\n  new: {address: b, knock: [1]}\nversion: 1\n", "version: 1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := Parse("hosts.yaml", []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			got, err := f.Without(f.Find("new"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if f, err = Parse("hosts.yaml", got); err != nil {
				t.Fatal(err)
			}
			if _, err := f.With(newcomer("new"), FailIfExists); err != nil {
				t.Error(err)
			}
		})
	}
	for _, text := range []string{
		"{version: 1, hosts: {new: {address: a, knock: [1]}}}",
		"version: 1\nhosts: {new: {address: a, knock: [1]}, a: {address: a, knock: [1]}}\n",
		"? version\n: 1\n? hosts\n: ? new\n  : {address: a, knock: [1]}\n",
	} {
		f, err := Parse("hosts.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := f.Without(f.Find("new")); err == nil {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}

// TestWithAny: hosts added one after the other are all in the file, and so are
// the lines that a person wrote between them.
func TestWithAny(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfNDistinct(someHost(), 1, 6, func(h Host) string { return h.Name }).Draw(t, "hosts")
		f := &File{}
		remarks := []string{}
		add := func(h Host, on IfExists) {
			text, err := f.With(h, on)
			if err != nil {
				t.Fatalf("%v\nadding %+v to\n%s", err, h, f.text)
			}
			if rapid.Bool().Draw(t, "remark") {
				remark := rapid.StringMatching(`\n( |  |    |      )?# [a-z]{8}\n`).Draw(t, "text")
				remarks = append(remarks, strings.TrimSpace(remark))
				text = append(text, remark...)
			}
			if f, err = Parse("hosts.yaml", text); err != nil {
				t.Fatalf("%v\nin\n%s", err, text)
			}
		}
		for _, h := range all {
			add(h, FailIfExists)
		}
		for _, remark := range remarks {
			if !strings.Contains(f.text, remark) {
				t.Errorf("%q is gone from\n%s", remark, f.text)
			}
		}
		i := rapid.IntRange(0, len(all)-1).Draw(t, "replaced")
		name := all[i].Name
		all[i] = someHost().Draw(t, "other")
		all[i].Name = name
		add(all[i], ReplaceIfExists)
		if !slices.EqualFunc(all, f.Hosts, Host.same) {
			t.Errorf("want %+v\ngot\n%s", all, f.text)
		}
	})
}

// FuzzWith: a valid file has one host more afterwards, or is rejected.
func FuzzWith(f *testing.F) {
	for _, data := range archived(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("hosts.yaml", data)
		if err != nil {
			return
		}
		text, err := file.With(newcomer("newcomer"), FailIfExists)
		if err != nil {
			return
		}
		got, err := Parse("hosts.yaml", text)
		if err != nil || len(got.Hosts) != len(file.Hosts)+1 || !got.Find("newcomer").same(newcomer("newcomer")) {
			t.Fatalf("%v\n%s", err, text)
		}
		// Every old line is still there.
		rest := string(text)
		for line := range strings.Lines(string(data)) {
			line = strings.TrimRight(line, "\r\n")
			i := strings.Index(rest, line)
			if i < 0 {
				t.Fatalf("line %q is gone from\n%s", line, text)
			}
			rest = rest[i+len(line):]
		}
	})
}
