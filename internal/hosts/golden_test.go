package hosts

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"postern/internal/document"
	"postern/internal/document/documenttest"
	"postern/internal/policy"
)

// TestGood parses valid files. Each golden has the file and, in "parsed",
// everything that it means.
func TestGood(t *testing.T) {
	documenttest.Golden(t, "good", "hosts.yaml", "parsed", func(t *testing.T, data []byte) string {
		f, err := Parse("hosts.yaml", data)
		if err != nil {
			t.Fatalf("this file is right, and was refused:\n%v", err)
		}
		sound(t, f)
		return dump(f)
	})
}

// TestBad parses invalid files. Each golden has the file and, in "diagnostics",
// everything that is printed.
func TestBad(t *testing.T) {
	const least = 30 // goldens: an empty folder would prove nothing
	n := documenttest.Golden(t, "bad", "hosts.yaml", "diagnostics", func(t *testing.T, data []byte) string {
		f, err := Parse("hosts.yaml", data)
		if err == nil {
			t.Fatalf("this file is wrong, and was taken as\n%s", dump(f))
		}
		var invalid *document.InvalidError
		if !errors.As(err, &invalid) {
			t.Fatalf("error is a %T, not an *InvalidError: %v", err, err)
		}
		if invalid.Kind != "hosts file" {
			t.Errorf("it is called a %s", invalid.Kind)
		}
		documenttest.Pointed(t, data, invalid)
		return err.Error() + "\n"
	})
	if n < least {
		t.Errorf("%d bad files, want at least %d", n, least)
	}
}

// FuzzParse: the parser does not panic; it points at what is wrong, or returns
// a sound file.
func FuzzParse(f *testing.F) {
	for _, data := range archived(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("hosts.yaml", data)
		if err == nil {
			sound(t, file)
			return
		}
		var invalid *document.InvalidError
		if !errors.As(err, &invalid) {
			t.Fatalf("error is a %T: %v", err, err)
		}
		documenttest.Pointed(t, data, invalid)
	})
}

// sound checks what every file that Parse returns must satisfy.
func sound(t *testing.T, f *File) {
	t.Helper()
	names := map[string]bool{}
	for _, h := range f.Hosts {
		if names[h.Name] {
			t.Errorf("two hosts %s", h.Name)
		}
		names[h.Name] = true
		soundHost(t, h)
	}
}

func soundHost(t *testing.T, h Host) {
	t.Helper()
	if fault := CheckName(h.Name); fault != nil {
		t.Errorf("name: %v", fault)
	}
	if key, fault := h.Check(); fault != nil {
		t.Errorf("%s: %v", key, fault)
	}
	if _, fault := address(h.Address); fault != nil {
		t.Errorf("address: %v", fault)
	}
	if (len(h.Knock) == 0) != (h.Key != nil) || (h.Token == 0) != (h.Key == nil) {
		t.Errorf("%d knocks, key %v, token %d", len(h.Knock), h.Key, h.Token)
	}
	if len(h.Close) > policy.MaxKnocks || len(h.Close) > 0 && h.Key != nil {
		t.Errorf("close %v, key %v", h.Close, h.Key)
	}
	if len(h.Knock) > policy.MaxKnocks || h.Service.Number == 0 || h.StepTimeout <= 0 || h.Timeout <= 0 || h.Gap < 0 {
		t.Errorf("%+v", h)
	}
}

// dump returns all fields of a file.
func dump(f *File) string {
	var b strings.Builder
	for _, h := range f.Hosts {
		fmt.Fprintf(&b, "%s (%d:%d): %s of %s, ", h.Name, h.Pos.Line, h.Pos.Column, h.Service, h.Address)
		if k := h.Key; k != nil {
			fmt.Fprintf(&b, "site %x, %v, secret %x, token %d\n", k.Site[:], k, k.Secret[:], h.Token)
		} else {
			fmt.Fprintf(&b, "knocks %v\n", h.Knock)
			if len(h.Close) > 0 {
				fmt.Fprintf(&b, "  closed by %v\n", h.Close)
			}
		}
		fmt.Fprintf(&b, "  step_timeout %v, gap %v, timeout %v, family %d, user %q\n", h.StepTimeout, h.Gap, h.Timeout, h.Family, h.User)
	}
	return b.String()
}
