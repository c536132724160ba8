package hosts

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// archived returns the files of all golden archives, as seeds for a fuzzer.
func archived(f *testing.F) [][]byte {
	f.Helper()
	names, err := filepath.Glob("testdata/*/*.txt")
	if err != nil || len(names) == 0 {
		f.Fatalf("no goldens to start from: %v", err)
	}
	var all [][]byte
	for _, name := range names {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, archive.Files[0].Data)
	}
	return all
}
