package cli

import (
	"strings"
	"testing"
	"time"

	"postern/internal/cli/ui"
	"postern/internal/client"
	"postern/internal/hosts"
)

// TestForwardBurst: a client of "localhost" tries two addresses, and a person is told once.
func TestForwardBurst(t *testing.T) {
	var said strings.Builder
	h := hosts.New("web")
	f := &forwardTalk{session: &session{Voice: ui.Voice{Err: &said}}, host: &h}
	begun := time.Now()
	first := client.Event{From: "first", Since: begun}
	second := client.Event{From: "second", Since: begun}
	much := client.Event{From: "third", Since: begun.Add(time.Hour)}
	shut := func(times string) *ui.Failure {
		return &ui.Failure{Message: "shut, after " + times, Gist: "shut", Hints: []string{"knock"}}
	}
	slow := func(e client.Event, seen client.Seen) {
		e.Kind, e.Seen = client.Slow, seen
		f.tell(e)
	}
	slow(first, client.Seen{Tries: 1, Silent: 1})
	f.tellShut(first, shut("8 rounds"))
	slow(second, client.Seen{Tries: 1, Silent: 1})
	f.tellShut(second, shut("9 rounds"))
	f.tellShut(second, &ui.Failure{Message: "another"})
	slow(much, client.Seen{Tries: 1, Refused: 1})
	f.tellShut(much, shut("7 rounds"))
	const want = `postern: first: web does not answer yet; still knocking, for up to 15s
postern: error: first: shut, after 8 rounds
postern: hint: knock
postern: error: second: another
postern: third: web refuses so far; still knocking, for up to 15s
postern: error: third: shut, after 7 rounds
postern: hint: knock
`
	if said.String() != want {
		t.Errorf("it says\n%swant\n%s", &said, want)
	}
}
