//go:build !(386 || arm || mips || mipsle)

package doctor

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/internal/preflight"
)

func TestCrowded(t *testing.T) {
	for _, test := range []struct {
		count, most int
		want        string
	}{
		{0, 262144, ""},
		{209715, 262144, ""},
		{209716, 262144, "warning"},
		{256901, 262144, "warning"},
		{256902, 262144, "error"},
		{262144, 262144, "error"},
	} {
		got := ""
		for _, f := range crowded(test.count, test.most) {
			got += f.Severity.String()
		}
		if got != test.want {
			t.Errorf("%d of %d: got %q, want %q", test.count, test.most, got, test.want)
		}
	}
}

// TestKindsAreDocumented: docs/doctor.md has each kind once, sorted, with a remedy.
func TestKindsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile(`(?m)^### (.*)\n\n(?:- (?:note|warning|error)[^:]*: (?:.*\n)(?:  .*\n)*)+- what to do: `).FindAllStringSubmatch(string(page), -1) {
		documented = append(documented, m[1])
	}
	var kinds []string
	for _, k := range []preflight.Kind{ClockUnsynchronized, ConntrackFull, DoorStaysShut, HiddenPortAnswers, HooksUnread, NotAtBoot, OtherRulesLoaded, ScanIncomplete} {
		kinds = append(kinds, string(k))
	}
	if !slices.IsSorted(documented) {
		t.Errorf("not sorted: %v", documented)
	}
	slices.Sort(kinds)
	if diff := cmp.Diff(kinds, documented); diff != "" {
		t.Errorf("docs/doctor.md: -kinds +documented:\n%s", diff)
	}
}
