package policy

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"postern/internal/document/documenttest"
)

// FuzzParse: the parser does not panic; it points at what is wrong, or returns
// a sound policy.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("no goldens to start from: %v", err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(archive.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("policy.yaml", data)
		if err == nil {
			sound(t, p)
			return
		}
		var invalid *InvalidError
		if !errors.As(err, &invalid) {
			t.Fatalf("error is a %T: %v", err, err)
		}
		documenttest.Pointed(t, data, invalid)
		for _, d := range invalid.Diagnostics {
			if strings.HasPrefix(d.Message, "the YAML reader failed") {
				t.Errorf("the YAML reader panics on this: %s", d.Message)
			}
		}
	})
}

// FuzzParsePort: parsing the text form of a parsed port returns the same port.
func FuzzParsePort(f *testing.F) {
	for _, text := range []string{"22", "tcp/22", "22/tcp", "22:tcp", "udp/53", "icmp/echo", "tcp/1-2", "TCP/22", "esp", "-1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePort(text)
		if err != nil {
			return
		}
		if again, err := ParsePort(p.String()); err != nil || again != p {
			t.Errorf("%q is %v, and its form %q is %v, %v", text, p, p.String(), again, err)
		}
	})
}
