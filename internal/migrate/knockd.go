package migrate

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/internal/document"
	"postern/internal/policy"
)

// What knockd does where its file says nothing.
const (
	knockdSequenceTime = 25 * time.Second
	knockdCommandTime  = 10 * time.Second
)

// A section is one of a knockd.conf, which knockd calls a door.
type section struct {
	name string
	line int
	keys map[string]setting // by their names in lower case, aliases resolved
}

type setting struct {
	value string
	line  int
}

// aliases are the other names of keys.
var aliases = map[string]string{
	"timeout": "seq_timeout", "command": "start_command", "command_6": "start_command_6",
}

var knockdKeys = map[string]bool{
	"sequence": true, "one_time_sequences": true, "seq_timeout": true, "tcpflags": true, "target": true, "start_command": true,
	"start_command_6": true, "cmd_timeout": true, "stop_command": true, "stop_command_6": true,
}

// readKnockd makes a draft of a knockd.conf.
func readKnockd(lines []string, left *leftovers) *draft {
	d := newDraft()
	d.posture = policy.Guard
	d.head = []string{
		"Imported from a knockd.conf. knockd works beside another firewall, so this",
		"hides the doors and leaves all else to that one, which must let the doors'",
		"services in now: \"postern up\" says where it does not.",
		"knockd looked at its own ports only. Here a new connection to any port that",
		"is not listed under allow starts a knock over: list what visitors use.",
		"All of it holds for IPv4 and IPv6.",
	}
	sections := readSections(lines, d, left)
	openers := map[string]*section{} // by what they open
	for _, s := range sections {
		if o, _ := s.opened(); o != nil {
			openers[o.key()] = s
		}
	}
	for _, s := range sections {
		if dr := s.door(openers, left); dr != nil {
			d.doors = append(d.doors, dr)
		}
	}
	return d
}

func readSections(lines []string, d *draft, left *leftovers) []*section {
	var all []*section
	var at *section
	options := false
	for i, text := range lines {
		n, text := i+1, strings.TrimSpace(text)
		if text == "" || text[0] == '#' {
			continue
		}
		if text[0] == '[' && strings.HasSuffix(text, "]") {
			name := strings.TrimSpace(text[1 : len(text)-1])
			if options = name == "options"; !options {
				at = &section{name: name, line: n, keys: map[string]setting{}}
				all = append(all, at)
			}
			continue
		}
		key, value, found := strings.Cut(text, "=")
		key, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)
		if name, is := aliases[key]; is {
			key = name
		}
		switch {
		case options:
			readOption(n, key, value, d, left)
		case !found:
			left.add(n, "this line is not understood, and knockd itself would refuse it")
		case at == nil:
			left.add(n, "it stands before any [section]")
		case !knockdKeys[key]:
			left.add(n, "knockd has no such key")
		default:
			if _, twice := at.keys[key]; twice {
				left.add(at.keys[key].line, "%s is here again on line %d, which holds", key, n)
			}
			at.keys[key] = setting{value, n}
		}
	}
	return all
}

func readOption(n int, key, value string, d *draft, left *leftovers) {
	switch key {
	case "usesyslog": // where the kernel's log goes as well
	case "logfile":
		left.add(n, "postern writes no log file: lines about knocks go to the kernel log")
	case "pidfile":
		left.add(n, "postern leaves no process behind")
	case "interface":
		d.interfaces, d.ifaceLine = []string{value}, n
	default:
		left.add(n, "knockd has no such option")
	}
}

// door makes a door of a section, or lists why it is none.
func (s *section) door(openers map[string]*section, left *leftovers) *door {
	skip := func(line int, format string, args ...any) *door {
		left.add(line, "section [%s] is left out: %s", s.name, fmt.Sprintf(format, args...))
		return nil
	}
	if once, is := s.keys["one_time_sequences"]; is {
		return skip(once.line, "a policy has no sequences that are used up; choose a fixed one and write the door by hand")
	}
	sequence, is := s.keys["sequence"]
	if !is {
		return skip(s.line, "it has no sequence")
	}
	start := s.start()
	if start.value == "" {
		return skip(s.line, "it has no command, and so opens nothing")
	}
	o, why := s.opened()
	if o == nil {
		if key := closes(start.value); key != "" {
			if opener := openers[key]; opener != nil {
				return skip(s.line, "it closes what [%s] opens, and a grant of postern ends by itself", opener.name)
			}
			return skip(s.line, "it takes a rule away, and a grant of postern ends by itself")
		}
		return skip(start.line, "%s", why)
	}
	dr := newDoor(sequence.line, left)
	dr.Name, dr.section = fitName(s.name), s.name
	if dr.Name != s.name {
		dr.comments = append(dr.comments, "["+short(s.name)+"] in the knockd.conf")
	}
	var bad string
	if dr.Knock.Sequence, bad = readSequence(sequence.value); bad != "" {
		return skip(sequence.line, "%s", bad)
	}
	dr.Services, dr.Forward = o.services, o.forward
	dr.Admit = policy.AdmitAny
	for _, note := range o.notes {
		dr.left.add(start.line, "%s", note)
	}
	s.time(dr)
	s.closing(dr, o)
	s.six(dr, o)
	s.flags(dr)
	if t, is := s.keys["target"]; is {
		if a, err := netip.ParseAddr(t.value); err != nil {
			dr.left.add(t.line, "the target is no address: the policy takes knocks at every address of this host")
			dr.Address = o.to
		} else {
			if o.to.IsValid() && o.to != a {
				return skip(t.line, "it watches one address and opens another, %s: write the door by hand", o.to)
			}
			dr.Address = a
			dr.comments = append(dr.comments, "If knockd's target is not an address of this host, this door cannot work.")
		}
	} else if o.to.IsValid() {
		dr.Address = o.to
	}
	return dr
}

// start is the command that the section is about.
func (s *section) start() setting {
	if four := s.keys["start_command"]; four.value != "" {
		return four
	}
	return s.keys["start_command_6"]
}

// readSequence reads "7000,8000:udp,9000:tcp".
func readSequence(text string) (all []policy.Port, bad string) {
	for part := range strings.SplitSeq(text, ",") {
		number, protocol, _ := strings.Cut(strings.TrimSpace(part), ":")
		p := policy.Port{Protocol: policy.TCP}
		switch strings.ToLower(strings.TrimSpace(protocol)) {
		case "", "tcp":
		case "udp":
			p.Protocol = policy.UDP
		default:
			return nil, fmt.Sprintf("%q in its sequence is neither tcp nor udp", short(protocol))
		}
		n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Sprintf("%q in its sequence is no port", short(strings.TrimSpace(part)))
		}
		p.Number = uint16(n)
		all = append(all, p)
	}
	return all, ""
}

// seconds reads a number of seconds as knockd does, but for numbers that a
// policy cannot have.
func seconds(text string, most time.Duration) (time.Duration, bool) {
	n, err := strconv.ParseUint(text, 10, 31)
	d := time.Duration(n) * time.Second
	return d, err == nil && n > 0 && d <= most
}

// time makes the time of a whole sequence the time between two knocks, so that
// whoever was quick enough for knockd is quick enough.
func (s *section) time(dr *door) {
	if len(dr.Knock.Sequence) < 2 {
		return
	}
	d := knockdSequenceTime
	line := s.keys["sequence"].line
	set, is := s.keys["seq_timeout"]
	if is {
		line = set.line
		var ok bool
		if d, ok = seconds(set.value, time.Hour); !ok {
			d = knockdSequenceTime
			dr.left.add(line, "a time from 1 to 3600 seconds is expected: the policy has knockd's default, %s", document.FormatDuration(d))
		}
	}
	dr.Knock.StepTimeout = d
	if len(dr.Knock.Sequence) > 2 {
		what := fmt.Sprintf("seq_timeout is for the whole sequence; the policy allows as long between two knocks, %s", document.FormatDuration(d))
		if !is {
			what = fmt.Sprintf("the whole sequence may take knockd's default, %s; the policy allows as long between two knocks", document.FormatDuration(d))
		}
		dr.left.add(line, "%s", what)
	}
}

// closing says how long the door stays open.
func (s *section) closing(dr *door, o *opened) {
	stop, stops := s.keys["stop_command"]
	t, timed := s.keys["cmd_timeout"]
	switch {
	case stops && stop.value != "":
		dr.OpenFor = knockdCommandTime
		if timed {
			var ok bool
			if dr.OpenFor, ok = seconds(t.value, 24*time.Hour); !ok {
				dr.OpenFor = knockdCommandTime
				dr.left.add(t.line, "a time from 1 second to a day is expected: the policy has knockd's default, %s", document.FormatDuration(dr.OpenFor))
			}
		}
		if !o.undoes(stop.value) {
			dr.left.add(stop.line, "it does something else than to close what start_command opens, and postern runs no commands")
		}
	case o.timeout > 0:
		dr.OpenFor = o.timeout
	default:
		dr.OpenFor = 30 * time.Second
		dr.left.add(s.start().line, "knockd leaves this open until something closes it; the policy opens for %s to each knock: "+
			"what is connected by then stays connected", document.FormatDuration(dr.OpenFor))
		if timed {
			dr.left.add(t.line, "without a stop_command knockd does not look at it, nor does the policy")
		}
	}
}

// six looks at the commands for IPv6, and says whom the door is for.
func (s *section) six(dr *door, o *opened) {
	start, is := s.keys["start_command_6"]
	dr.From = o.from
	if !is {
		return
	}
	or := func(from []netip.Prefix, everyone string) []netip.Prefix {
		if len(from) == 0 {
			return []netip.Prefix{netip.MustParsePrefix(everyone)}
		}
		return from
	}
	const everyone4, everyone6 = "0.0.0.0/0", "::/0"
	switch four := s.keys["start_command"]; {
	case four.value == "":
		dr.From = or(o.from, everyone6)
		return
	case start.value == "": // knockd does nothing over IPv6 then
		dr.From = or(o.from, everyone4)
		return
	}
	other, _ := opens(start.value)
	switch {
	case other == nil || other.what() != o.what():
		dr.left.add(start.line, "it does something else than start_command; the policy does the same over IPv4 and IPv6")
		other = o
	case len(o.from)+len(other.from) > 0:
		dr.From = slices.Concat(or(o.from, everyone4), or(other.from, everyone6))
	}
	for _, note := range other.notes {
		if !slices.Contains(o.notes, note) {
			dr.left.add(start.line, "%s", note)
		}
	}
	if stop, is := s.keys["stop_command_6"]; is && stop.value != "" && !o.undoes(stop.value) && !other.undoes(stop.value) {
		dr.left.add(stop.line, "it does something else than to close what start_command opens, and postern runs no commands")
	}
}

// flags lists flags that a knock of Postern does not have.
func (s *section) flags(dr *door) {
	f, is := s.keys["tcpflags"]
	if !is {
		return
	}
	for flag := range strings.SplitSeq(strings.ToLower(f.value), ",") {
		switch strings.TrimSpace(flag) {
		case "syn", "!ack", "!rst", "!fin", "!psh", "!urg":
		default:
			dr.left.add(f.line, "a TCP knock of postern is the packet that opens a connection: SYN and no other flag")
			return
		}
	}
}
