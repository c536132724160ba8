package preflight

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	writtenSequence = regexp.MustCompile(`sequence: *\[([^\]$%]*)\]`)
	typedSequence   = regexp.MustCompile(`postern knock \S+((?: \d+(?::udp)?)+)`)
)

// TestOwnSequences: whatever sequence stands in the pages and the examples is known
// to the finding, so that a copied one is warned of.
func TestOwnSequences(t *testing.T) {
	known := map[string]bool{}
	for _, s := range ownSequences {
		known[s] = true
	}
	files := []string{"../cli/knock_text.go", "../cli/share_text.go"}
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../examples/*.yaml"} {
		more, err := filepath.Glob(pattern)
		if err != nil || len(more) == 0 {
			t.Fatalf("no files at %s: %v", pattern, err)
		}
		files = append(files, more...)
	}
	seen := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "- refused: ") {
				continue
			}
			var words []string
			if m := writtenSequence.FindStringSubmatch(line); m != nil {
				words = strings.Split(m[1], ",")
			} else if m := typedSequence.FindStringSubmatch(line); m != nil {
				words = strings.Fields(m[1])
			}
			for i, w := range words {
				w = strings.TrimPrefix(strings.TrimSpace(w), "tcp/")
				if port, udp := strings.CutSuffix(w, ":udp"); udp {
					w = "udp/" + port
				}
				words[i] = w
			}
			sequence := strings.Join(words, " ")
			if len(words) > 1 && !known[sequence] {
				t.Errorf("%s shows the sequence %q, which ownSequences lacks", file, sequence)
			}
			seen[sequence] = true
		}
	}
	for _, s := range ownSequences {
		if !seen[s] {
			t.Errorf("no page or example shows %q any more", s)
		}
	}
}
