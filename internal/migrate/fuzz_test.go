package migrate

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzRead holds the reader to this: whatever it is given it does not panic, the
// policy is valid, and the list is about lines of the file.
func FuzzRead(f *testing.F) {
	for _, kind := range []string{"testdata/*.conf", "testdata/*.rules", "testdata/*.sh"} {
		files, err := filepath.Glob(kind)
		if err != nil || len(files) == 0 {
			f.Fatalf("no samples to start from: %v", err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	before := maxWork
	maxWork = 200_000
	f.Cleanup(func() { maxWork = before })
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1<<14 {
			return
		}
		result, err := Read("fuzz", text)
		var unknown *UnknownError
		var empty *EmptyError
		switch {
		case err == nil:
			good(t, result.Policy)
			placed(t, text, result.Remarks)
		case errors.As(err, &empty):
			placed(t, text, empty.Remarks)
		case !errors.As(err, &unknown):
			t.Fatalf("error is a %T: %v", err, err)
		}
	})
}
