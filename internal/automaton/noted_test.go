package automaton_test

import (
	"testing"
	"time"
)

// TestNoted: where first knocks may be noted, for how long, and whether the same one again is but
// that.
func TestNoted(t *testing.T) {
	const head, quiet = "version: 1\n", "posture: closed\ncover: drop\n"
	for name, test := range map[string]struct {
		text   string
		silent bool
		lasts  time.Duration
		renews bool
	}{
		"one door":         {quiet + "doors: {a: {service: 22, knock: {sequence: [1, 2]}}}", true, 3 * time.Second, true},
		"its own time":     {quiet + "doors: {a: {service: 22, knock: {sequence: [1, 2], step_timeout: 5s}}}", true, 5 * time.Second, true},
		"the same again":   {quiet + "doors: {a: {service: 22, knock: {sequence: [1, 1, 2], retransmits: reset}}}", true, 3 * time.Second, false},
		"the first later":  {quiet + "doors: {a: {service: 22, knock: {sequence: [1, 2, 1]}}}", true, 3 * time.Second, true},
		"two times":        {quiet + "doors: {a: {service: 22, knock: {sequence: [1, 2]}}, b: {service: 23, knock: {sequence: [3, 4], step_timeout: 5s}}}", true, 0, true},
		"another's is UDP": {quiet + "doors: {a: {service: 22, knock: {sequence: [1, 2]}}, b: {service: 23, knock: {sequence: [udp/3, 4], step_timeout: 5s}}}", true, 3 * time.Second, true},
		"one knock":        {quiet + "doors: {a: {service: 22, knock: {sequence: [1]}}}", true, 0, true},
		"one closes":       {quiet + "doors: {a: {service: 22, knock: {sequence: [1, 2], close: [3]}}}", true, 0, true},
		"a ping first":     {quiet + "doors: {a: {service: 22, knock: {sequence: [icmp/echo, 2]}}}", true, 0, true},
		"forfeit":          {quiet + "doors: {a: {service: 22, forfeit: true, knock: {sequence: [1, 2]}}}", false, 3 * time.Second, true},
		"reset":            {"posture: closed\ncover: reset\ndoors: {a: {service: 22, knock: {sequence: [1, 2]}}}", false, 3 * time.Second, true},
		"guard":            {"posture: guard\ncover: drop\ndoors: {a: {service: 22, knock: {sequence: [1, 2]}}}", false, 3 * time.Second, true},
		"allow":            {quiet + "allow: [{service: 80}]\ndoors: {a: {service: 22, knock: {sequence: [1, 2]}}}", false, 3 * time.Second, true},
	} {
		m := compile(t, head+test.text)
		if m.Silent() != test.silent || m.NotedFor() != test.lasts || m.Renews() != test.renews {
			t.Errorf("%s: %v, %v, %v", name, m.Silent(), m.NotedFor(), m.Renews())
		}
	}
}
