//go:build !(386 || arm || mips || mipsle)

package doctor

import (
	"errors"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/internal/change"
	"postern/internal/preflight"
)

func TestLoadsAtBoot(t *testing.T) {
	for _, test := range []struct {
		saved *change.Saved
		err   error
		want  string
	}{
		{nil, nil, "loads policy.yaml"},
		{&change.Saved{}, nil, `loads nothing: "postern down" was the last word`},
		{&change.Saved{Loaded: true, File: "a.yaml", Backend: "nftables"}, nil, "loads what ran last, of a.yaml, by nftables"},
		{nil, fs.ErrPermission, "only root can read what is loaded then"},
		{nil, errors.New("it is damaged"), "loads policy.yaml, as what ran last cannot be read: it is damaged"},
	} {
		if got := loadsAtBoot(test.saved, test.err, "policy.yaml"); got != test.want {
			t.Errorf("%+v, %v: %q, want %q", test.saved, test.err, got, test.want)
		}
	}
}

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
