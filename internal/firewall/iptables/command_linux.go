package iptables

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// A Version is which iptables a machine has.
type Version struct {
	Number  string // "1.8.9"
	Variant string // "nft" or "legacy": whose tables it writes to
}

func (v Version) String() string { return fmt.Sprintf("iptables %s (%s)", v.Number, v.Variant) }

// Version asks the programs which they are.
func (b Backend) Version() (Version, error) { return b.command(IPv4).version() }

// A command is a family's iptables, in one of its variants.
type command struct {
	family  Family
	variant string // "" for the machine's own
}

func (b Backend) command(f Family) command { return command{f, b.Variant} }

// name gives the program that does something: "iptables-nft-restore".
func (p command) name(verb string) string {
	if p.variant == "" {
		return p.family.Program() + "-" + verb
	}
	return p.family.Program() + "-" + p.variant + "-" + verb
}

// version reads "iptables-restore v1.8.9 (nf_tables)". Before 1.8 there was one
// variant, which does not say so.
func (p command) version() (Version, error) {
	out, err := p.run("restore", "", "--version")
	if err != nil {
		return Version{}, err
	}
	fields := strings.Fields(out)
	if len(fields) < 2 {
		return Version{}, fmt.Errorf("%s --version says %q, which is no version", p.name("restore"), strings.TrimSpace(out))
	}
	v := Version{Number: strings.TrimPrefix(fields[1], "v"), Variant: "legacy"}
	if len(fields) > 2 && fields[2] == "(nf_tables)" {
		v.Variant = "nft"
	}
	return v, nil
}

// patience is how many seconds the legacy variant waits for others to let go of its
// lock; the other variant has no lock, and takes no notice.
const patience = "5"

// save reads the family's tables, those that there are. (Asked for one, the legacy
// variant would make it.)
func (p command) save() (map[string]*loadedTable, error) {
	out, err := p.run("save", "", "--counters")
	if err != nil {
		return nil, err
	}
	return parseLoaded(out)
}

// test finds out whether the program understands what it is to load.
func (p command) test(text string) error {
	_, err := p.run("restore", text, "--noflush", "--counters", "--wait", patience, "--test")
	return err
}

// restore loads a text, all or nothing for each table.
func (p command) restore(text string) error {
	_, err := p.run("restore", text, "--noflush", "--counters", "--wait", patience)
	return err
}

// A failure is a program that did not do what it was asked for.
type failure struct {
	program string
	input   string // its standard input
	stderr  string
	err     error
}

func (f *failure) Error() string {
	if said := f.said(); said != "" {
		return said
	}
	return fmt.Sprintf("%s: %v", f.program, f.err)
}

func (f *failure) Unwrap() error { return f.err }

// said is the first line that tells what is wrong.
func (f *failure) said() string {
	for line := range strings.Lines(f.stderr) {
		line = strings.TrimSpace(introduction.ReplaceAllString(line, ""))
		if line != "" && !strings.HasPrefix(line, "#") {
			return line
		}
	}
	return ""
}

// introduction is what programs put before what they say.
var introduction = regexp.MustCompile(`^ip6?tables[a-z-]* v[0-9.]+ \([a-z_]+\): `)

// run starts a program and waits for it. A child inherits the network namespace of
// the thread that starts it.
func (p command) run(verb, input string, args ...string) (string, error) {
	name := p.name(verb)
	path, err := find(name)
	if err != nil {
		return "", explain(&failure{program: name, err: err})
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", explain(&failure{name, input, stderr.String(), err})
	}
	return stdout.String(), nil
}

// find looks for a program in the usual places for administrators', too, which are
// not in everybody's PATH.
func find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) {
		for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path, nil
			}
		}
	}
	return path, err
}
