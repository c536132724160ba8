package iptables

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"postern/internal/lazyregexp"
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

// name returns the program that does something: "iptables-nft-restore". Without a
// verb it is "iptables-nft".
func (p command) name(verb string) string {
	name := p.family.Program()
	for _, part := range []string{p.variant, verb} {
		if part != "" {
			name += "-" + part
		}
	}
	return name
}

// version reads "iptables-restore v1.8.9 (nf_tables)". Before 1.8 there was one
// variant, which does not say so.
func (p command) version() (v Version, err error) {
	v, err = p.restoreVersion()
	if err != nil || v.Number != "" {
		return v, err
	}
	companion, err := p.versionOf("")
	v.Number = companion.Number
	return v, err
}

// restoreVersion returns the version of the program that loads rules; "" for one that is so
// old that it cannot tell.
func (p command) restoreVersion() (Version, error) { return p.versionOf("restore") }

// versions are what programs have said. Starting one takes milliseconds, and a change
// of rules wants to know several times.
var versions sync.Map // fileID -> Version

// A fileID is a program, as long as nobody replaces its file or makes its name lead to
// another.
type fileID struct {
	path          string
	device, inode uint64
	modified      time.Time
}

func (p command) versionOf(verb string) (Version, error) {
	var id fileID
	if path, err := find(p.name(verb)); err == nil {
		if info, err := os.Stat(path); err == nil {
			st := info.Sys().(*syscall.Stat_t)
			id = fileID{path, uint64(st.Dev), st.Ino, info.ModTime()}
			if v, known := versions.Load(id); known {
				return v.(Version), nil
			}
		}
	}
	v, err := p.askVersion(verb)
	if err == nil && id.path != "" {
		versions.Store(id, v)
	}
	return v, err
}

func (p command) askVersion(verb string) (Version, error) {
	out, err := p.run(verb, "", "--version")
	if err != nil {
		return Version{}, err
	}
	fields := strings.Fields(out)
	v := Version{Variant: "legacy"}
	switch {
	case len(fields) == 0 && verb != "":
		return v, nil
	case len(fields) < 2:
		return v, fmt.Errorf("%s --version says %q, which is no version", p.name(verb), strings.TrimSpace(out))
	}
	v.Number = strings.TrimPrefix(fields[1], "v")
	if len(fields) > 2 && fields[2] == "(nf_tables)" {
		v.Variant = "nft"
	}
	return v, nil
}

// since reports whether it is a version, or a later one.
func (v Version) since(version ...int) bool {
	var all []int
	for field := range strings.SplitSeq(v.Number, ".") {
		n, err := strconv.Atoi(field)
		if err != nil {
			break
		}
		all = append(all, n)
	}
	return slices.Compare(all, version) >= 0
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
func (p command) test(text string) error { return p.load(text, "--test") }

// restore loads a text, all or nothing for each table.
func (p command) restore(text string) error { return p.load(text) }

func (p command) load(text string, options ...string) error {
	v, err := p.restoreVersion()
	if err != nil {
		return err
	}
	options = append(options, "--noflush", "--counters")
	if v.since(1, 6, 2) {
		// Before, iptables-restore took no lock, and took the number for a file.
		options = append(options, "--wait", patience)
	}
	_, err = p.run("restore", text, options...)
	return err
}

// A failure is a program that did not do what it was asked for.
type failure struct {
	program string
	input   string // its standard input
	stderr  string
	err     error
	compat  bool // nf_tables may have no way to run extensions
}

func (f *failure) Error() string {
	if message := f.message(); message != "" {
		return message
	}
	return fmt.Sprintf("%s: %v", f.program, f.err)
}

func (f *failure) Unwrap() error { return f.err }

// message is the first line that says what is wrong.
func (f *failure) message() string {
	for line := range strings.Lines(f.stderr) {
		line = strings.TrimSpace(programPrefix().ReplaceAllString(line, ""))
		if line != "" && !strings.HasPrefix(line, "#") {
			return line
		}
	}
	return ""
}

// programPrefix is what programs put before what they say.
var programPrefix = lazyregexp.New(`^ip6?tables[a-z-]* v[0-9.]+ \([a-z_]+\): `)

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
		f := &failure{program: name, input: input, stderr: stderr.String(), err: err}
		if input != "" { // its version was asked for before
			v, err := p.restoreVersion()
			_, absent := os.Stat("/sys/module/nft_compat") // or it is no module
			f.compat = err == nil && v.Variant == "nft" && absent != nil
		}
		return "", explain(f)
	}
	return stdout.String(), nil
}

// find looks for a program in the usual places for administrators', too, which are
// not in every PATH.
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
