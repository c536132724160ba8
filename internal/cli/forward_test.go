package cli

import (
	"strings"
	"testing"
	"time"

	"postern/internal/cli/ui"
	"postern/internal/hosts"
)

// TestForwardBurst: a client of "localhost" tries two addresses, and a person is told once.
func TestForwardBurst(t *testing.T) {
	var said strings.Builder
	h := hosts.New("web")
	f := &forwarder{session: &session{Voice: ui.Voice{Err: &said}}, host: &h}
	begun := time.Now()
	first := caller{from: "first", came: begun}
	second := caller{from: "second", came: begun}
	much := caller{from: "third", came: begun.Add(time.Hour)}
	shut := func(times string) *ui.Failure {
		return &ui.Failure{Message: "shut, after " + times, Gist: "shut", Hints: []string{"knock"}}
	}
	f.tellStillShut(first, sight{silent: 1})
	f.tellShut(first, shut("8 rounds"))
	f.tellStillShut(second, sight{silent: 1})
	f.tellShut(second, shut("9 rounds"))
	f.tellShut(second, &ui.Failure{Message: "another"})
	f.tellStillShut(much, sight{refused: 1})
	f.tellShut(much, shut("7 rounds"))
	const want = `postern: first: web does not answer yet: knocking on, for up to 15s
postern: error: first: shut, after 8 rounds
postern: hint: knock
postern: error: second: another
postern: third: web refuses so far: knocking on, for up to 15s
postern: error: third: shut, after 7 rounds
postern: hint: knock
`
	if said.String() != want {
		t.Errorf("it says\n%swant\n%s", &said, want)
	}
}
