// Package migrate reads the configuration of another port knocker and writes a
// policy that means the same, with remarks on what it could not carry over.
//
// kind.go finds out what a file is. There are two ways from there.
//
// # iptables rules that knock with "-m recent"
//
// They come as iptables-save lists them, or as a script of commands (shell.go),
// which are carried out on paper (ruleset.go, rule.go). Nobody looks for familiar
// names in them. Packets are sent through them, on paper too (packet.go), from
// every place and to every port that they tell apart (place.go). That finds the
// states that a source can get into and the sequences that open something
// (states.go). Each is a door (door.go); what gets in without a knock is under
// allow (allow.go). In the end packets tell where the policy that came out does
// otherwise than the rules (compare.go), and rules.go puts all of it together.
//
// # A knockd.conf
//
// It says its sequences (knockd.go). The services are read off the commands that
// it runs (command.go), those of nft, ufw and firewalld included (translate.go).
//
// A line of the input is either in the policy, or something that Postern does by
// itself, or in a remark. The policy that comes out is always valid (draft.go).
//
// The package is pure: it runs no command and asks the host nothing.
package migrate

import (
	"errors"
	"fmt"
	"strings"
)

// A Result is what became of a configuration.
type Result struct {
	Kind    Kind
	Policy  string   // the YAML text of a valid policy
	Remarks []Remark // on what is not in it as it was, in the order of the file
}

// A Kind is what a configuration was written for.
type Kind string

const (
	Rules  Kind = "iptables-save" // rules as iptables-save lists them
	Script Kind = "iptables"      // a script of iptables commands
	Knockd Kind = "knockd"        // a knockd.conf
)

// An UnknownError says that a file is not one that can be imported.
type UnknownError struct {
	Name, Reason string
	Remedy       string // what to do instead; may be empty
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("nothing can be imported from %q: %s", e.Name, e.Reason)
}

// An EmptyError says that a configuration has no door that a policy could have.
type EmptyError struct {
	Name    string
	Kind    Kind
	Remarks []Remark // why
}

func (e *EmptyError) Error() string {
	what := "these rules have no knocks that open anything"
	if e.Kind == Knockd {
		what = "no section of this knockd.conf can be a door"
	}
	return fmt.Sprintf("nothing can be imported from %q: %s", e.Name, what)
}

// Understood says what Read reads, for a hint.
const Understood = "import reads iptables rules that knock with \"-m recent\" (iptables-save, or a script of commands), and knockd.conf"

// Read writes a policy from a configuration. The name is that of the file, for
// errors, which are an *UnknownError or an *EmptyError.
func Read(name string, text []byte) (*Result, error) {
	kind, err := kindOf(name, text)
	if err != nil {
		return nil, err
	}
	// What is not UTF-8 is in comments and names; it is shown as U+FFFD.
	whole := strings.ToValidUTF8(strings.TrimPrefix(string(text), "\ufeff"), "\ufffd")
	whole = strings.ReplaceAll(whole, "\r\n", "\n")
	list := &remarks{lines: strings.Split(whole, "\n")}
	var d *draft
	if kind == Knockd {
		d = readKnockd(list)
	} else {
		d, err = readRules(kind, whole, list)
	}
	if problem := (*problem)(nil); errors.As(err, &problem) {
		return nil, &UnknownError{name, problem.reason, problem.remedy}
	}
	p := d.settle(list)
	if p == "" {
		return nil, &EmptyError{name, kind, list.sorted()}
	}
	return &Result{Kind: kind, Policy: p, Remarks: list.sorted()}, nil
}

// A problem ends the reading of a file.
type problem struct{ reason, remedy string }

func (p *problem) Error() string { return p.reason }

const remedyTooLarge = "cut out what has nothing to do with knocks, lists of addresses first, and import the rest"

var errTooLarge = &problem{"these rules are too many, or too tangled, to follow a packet through all of them", remedyTooLarge}
