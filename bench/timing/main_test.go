//go:build linux

package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"postern/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m.Run) }

// Every variant is measured for a moment, and its server answers what is timed.
func TestMeasure(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), options{samples: 20, secrets: 2, source: net48, pause: time.Millisecond}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, v := range variants("") {
		if !strings.Contains(out.String(), "\n"+v.String()+"\n") {
			t.Errorf("no table of %s in:\n%s", v, out.String())
		}
	}
}

// The door opens for an attacker who knows two knocks, and tries some ports as
// the third.
func TestKnockAtDoor(t *testing.T) {
	secret := randomSecret(false)
	knocks := secret.knocks
	candidates := append(syn(1, 2, 3, 4, 5), knocks...)
	for _, v := range variants("") {
		s, err := newStand(t.Context(), v, secret)
		if err != nil {
			t.Fatal(err)
		}
		a := &attack{stand: s, source: net48, candidates: candidates, log: io.Discard, began: time.Now()}
		last, err := a.knockAtDoor(t.Context(), knocks[:2])
		if err != nil || last != knocks[2] {
			t.Errorf("%s: after two knocks the door opens to %v, %v, want %v", v, last, err, knocks[2])
		}
		if last, err = a.knockAtDoor(t.Context(), knocks[:1]); err != nil || last != (probe{}) {
			t.Errorf("%s: after one knock the door opens to %v, %v", v, last, err)
		}
		s.close()
	}
}
