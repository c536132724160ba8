package migrate

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/internal/document"
	"postern/internal/lazyregexp"
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

var (
	knockdKeys = []string{"sequence", "one_time_sequences", "seq_timeout", "tcpflags", "target", "start_command",
		"start_command_6", "cmd_timeout", "stop_command", "stop_command_6"}
	knockdAliases = map[string]string{"timeout": "seq_timeout", "command": "start_command", "command_6": "start_command_6"}
)

// readKnockd makes a draft of a knockd.conf.
func readKnockd(list *remarks) *draft {
	d := newDraft(policy.Guard,
		"Imported from a knockd.conf. knockd works beside another firewall, so this",
		"hides the doors and leaves all else to that one, which must let the doors'",
		"services in now: \"postern up\" says where it does not.",
		"knockd looked at its own ports only. Here a new connection to any port that",
		"is not listed under allow starts a knock over: list what visitors use.",
		"All of it holds for IPv4 and IPv6.")
	sections := readSections(list)
	openers := map[string]*section{} // by what they open
	for _, s := range sections {
		if o := effectOf(s.start().value).opens; o != nil {
			openers[o.key()] = s
		}
	}
	doors := map[*section]*door{}
	for _, s := range sections {
		switch dr, c := s.door(openers, list); {
		case dr != nil:
			d.doors, doors[s] = append(d.doors, dr), dr
		case c != nil:
			d.closings = append(d.closings, c)
		}
	}
	for _, c := range d.closings {
		c.door = doors[c.opener]
	}
	return d
}

// A closing is a section that closes what another one opens.
type closing struct {
	*section
	opener *section
	knocks []policy.Port
	notes  []string // where the policy does otherwise
	door   *door    // of the opener; nil if none can be made of that
}

func readSections(list *remarks) []*section {
	var all []*section
	var at *section
	options := false
	for i, text := range list.lines {
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
		if name, is := knockdAliases[key]; is {
			key = name
		}
		switch {
		case options:
			if why := optionRemark(key, value); why != "" {
				list.add(n, "%s", why)
			}
		case !found:
			list.add(n, "this line is not understood, and knockd itself would refuse it")
		case at == nil:
			list.add(n, "it stands before any [section]")
		case !slices.Contains(knockdKeys, key):
			list.add(n, "knockd has no such key")
		default:
			if _, twice := at.keys[key]; twice {
				list.add(at.keys[key].line, "%s is here again on line %d, which holds", key, n)
			}
			at.keys[key] = setting{value, n}
		}
	}
	return all
}

// optionRemark is what there is to say of a line of [options].
func optionRemark(key, value string) string {
	switch key {
	case "usesyslog": // where the kernel's log goes as well
		return ""
	case "logfile":
		return "postern writes no log file: lines about knocks go to the kernel log"
	case "pidfile":
		return "postern leaves no process behind"
	case "interface":
		return "knockd listens on " + short(value) + " only, while the other firewall shuts the services on every interface; the policy takes knocks on all, " +
			"because one that names interfaces leaves the others open"
	}
	return "knockd has no such option"
}

// start is the command that the section is about.
func (s *section) start() setting {
	if four := s.keys["start_command"]; four.value != "" {
		return four
	}
	return s.keys["start_command_6"]
}

// leftOut remarks on why a section is not in the policy.
func (s *section) leftOut(list *remarks, line int, format string, args ...any) {
	list.add(line, "section [%s] is left out: %s", s.name, fmt.Sprintf(format, args...))
}

// door makes a door of a section, or a closing, or remarks on why it is neither.
func (s *section) door(openers map[string]*section, list *remarks) (*door, *closing) {
	skip := func(line int, format string, args ...any) (*door, *closing) {
		s.leftOut(list, line, format, args...)
		return nil, nil
	}
	sequence, is := s.keys["sequence"]
	start := s.start()
	switch once, used := s.keys["one_time_sequences"]; {
	case used:
		return skip(once.line, "a policy has no sequences that are used up; choose a fixed one and write the door by hand")
	case !is:
		return skip(s.line, "it has no sequence")
	case start.value == "":
		return skip(s.line, "it has no command, and so opens nothing")
	}
	knocks, bad := readSequence(sequence.value)
	if bad != "" {
		return skip(sequence.line, "%s", bad)
	}
	does := effectOf(start.value)
	o := does.opens
	switch opener := openers[does.closes]; {
	case o == nil && opener != nil:
		return nil, &closing{section: s, opener: opener, knocks: knocks, notes: does.notes}
	case o == nil && does.closes != "":
		return skip(s.line, "it takes a rule away, and a grant of postern ends by itself")
	case o == nil:
		return skip(start.line, "%s", does.why)
	}
	dr := newDoor(sequence.line, list)
	dr.Name, dr.section = fitName(s.name), s.name
	if dr.Name != s.name {
		dr.comment = "[" + short(s.name) + "] in the knockd.conf"
	}
	dr.Knock.Sequence = knocks
	dr.Services, dr.Forward, dr.Address, dr.Admit = o.services, o.forward, o.to, policy.AdmitAny
	for _, note := range o.notes {
		dr.remarks.add(start.line, "%s", note)
	}
	switch t, is := s.keys["target"]; {
	case is && o.to.IsValid() && t.value != o.to.String():
		return skip(t.line, "it watches one address and opens another, %s: write the door by hand", o.to)
	case o.to.IsValid():
		dr.remarks.add(start.line, "the rule is for the address %s alone, and so is the door: it leaves the service at other addresses to the other firewall", o.to)
	case is:
		dr.remarks.add(t.line, "knockd takes knocks at %s only; the policy takes them at every address of this host, "+
			"because a door for one address leaves the service at the others alone", short(t.value))
	}
	s.times(dr, o)
	s.ipv6(dr, o)
	s.flags(&dr.remarks)
	return dr, nil
}

// flags remarks on knocks that are not those of a policy.
func (s *section) flags(list *remarks) {
	if f, is := s.keys["tcpflags"]; is && !plainSYN(f.value) {
		list.add(f.line, "a TCP knock of postern is the packet that opens a connection: SYN and no other flag")
	}
}

// readSequence reads "7000,8000:udp,9000:tcp".
func readSequence(text string) (all []policy.Port, bad string) {
	for part := range strings.SplitSeq(text, ",") {
		number, protocol, _ := strings.Cut(strings.TrimSpace(part), ":")
		p := policy.Port{Protocol: policy.TCP}
		switch words := strings.Fields(strings.ToLower(protocol)); {
		case len(words) == 0, words[0] == "tcp":
		case words[0] == "udp":
			p.Protocol = policy.UDP
		default:
			return nil, fmt.Sprintf("%q in its sequence is neither tcp nor udp", short(protocol))
		}
		n, err := strconv.ParseUint(atoi(number), 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Sprintf("%q in its sequence is no port", short(strings.TrimSpace(part)))
		}
		p.Number = uint16(n)
		all = append(all, p)
	}
	return all, ""
}

var leadingNumber = lazyregexp.New(`^\s*\+?0*(\d+)`)

// atoi returns the digits at the beginning of a text: knockd reads its numbers
// with the C function of that name, which overlooks what follows.
func atoi(text string) string {
	if m := leadingNumber().FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

// seconds reads a time of knockd's, which must fit into a policy.
func (dr *door) seconds(t setting, usual, most time.Duration) time.Duration {
	n, err := strconv.ParseInt(atoi(t.value), 10, 31)
	switch d := time.Duration(n) * time.Second; {
	case err != nil && len(atoi(t.value)) > 9, d > most:
		dr.remarks.add(t.line, "%s is longer than a policy's longest time, which it has: %s", short(t.value), document.FormatDuration(most))
		return most
	case err != nil, d == 0:
		dr.remarks.add(t.line, "a time in seconds is expected: the policy has knockd's default, %s", document.FormatDuration(usual))
		return usual
	default:
		if strings.Trim(t.value, "0123456789") != "" {
			dr.remarks.add(t.line, "knockd reads the number alone: %s", document.FormatDuration(d))
		}
		return d
	}
}

// times makes the time of a whole sequence the time between two knocks, so that
// who was quick enough for knockd is quick enough, and says how long the door
// stays open.
func (s *section) times(dr *door, o *opened) {
	if len(dr.Knock.Sequence) > 1 {
		what, d, line := "the whole sequence may take knockd's default, %s; the policy allows as long between two knocks", knockdSequenceTime, s.keys["sequence"].line
		if set, is := s.keys["seq_timeout"]; is {
			what, line = "seq_timeout is for the whole sequence; the policy allows as long between two knocks, %s", set.line
			d = dr.seconds(set, knockdSequenceTime, policy.MaxStepTimeout)
		}
		if dr.Knock.StepTimeout = d; len(dr.Knock.Sequence) > 2 {
			dr.remarks.add(line, what, document.FormatDuration(d))
		}
	}
	stop, t, line := s.keys["stop_command"], s.keys["cmd_timeout"], s.start().line
	switch {
	case stop.value != "":
		if dr.OpenFor = knockdCommandTime; t.value != "" {
			dr.OpenFor = dr.seconds(t, knockdCommandTime, policy.MaxOpenFor)
		}
		s.stops(dr, "stop_command", o)
	case o.timeout > policy.MaxOpenFor:
		dr.OpenFor = policy.MaxOpenFor
		dr.remarks.add(line, "it stays open for longer than a policy can, whose longest time is %s", document.FormatDuration(policy.MaxOpenFor))
	case o.timeout > 0:
		dr.OpenFor = o.timeout
	default:
		dr.OpenFor = 30 * time.Second
		dr.remarks.add(line, "knockd leaves this open until something closes it; the policy opens for %s to each knock: "+
			"what is connected by then stays connected", document.FormatDuration(dr.OpenFor))
		if t.value != "" {
			dr.remarks.add(t.line, "without a stop_command knockd does not look at it, nor does the policy")
		}
	}
}

// stops remarks on a command that does not close what one of these opens.
func (s *section) stops(dr *door, key string, these ...*opened) {
	stop := s.keys[key]
	if stop.value != "" && !slices.ContainsFunc(these, func(o *opened) bool { return o.undoes(stop.value) }) {
		dr.remarks.add(stop.line, "it does something else than to close what start_command opens, and postern runs no commands")
	}
}

// ipv6 looks at the commands for IPv6, and says whom the door is for.
func (s *section) ipv6(dr *door, o *opened) {
	dr.From = o.from
	start, is := s.keys["start_command_6"]
	if !is {
		return
	}
	or := func(from []netip.Prefix, everyone netip.Prefix) []netip.Prefix {
		if len(from) == 0 {
			return []netip.Prefix{everyone}
		}
		return from
	}
	other := effectOf(start.value).opens
	switch {
	case s.keys["start_command"].value == "":
		dr.From = or(o.from, everyone6)
		return
	case start.value == "": // knockd does nothing over IPv6 then
		dr.From = or(o.from, everyone4)
		return
	case other == nil || other.what() != o.what():
		dr.remarks.add(start.line, "it does something else than start_command; the policy does the same over IPv4 and IPv6")
		other = o
	case len(o.from)+len(other.from) > 0:
		dr.From = slices.Concat(or(o.from, everyone4), or(other.from, everyone6))
	}
	for _, note := range other.notes {
		if !slices.Contains(o.notes, note) {
			dr.remarks.add(start.line, "%s", note)
		}
	}
	s.stops(dr, "stop_command_6", o, other)
}

// plainSYN reports whether flags are those of a packet that opens a connection.
func plainSYN(flags string) bool {
	for flag := range strings.SplitSeq(strings.ToLower(flags), ",") {
		if !slices.Contains([]string{"syn", "!ack", "!rst", "!fin", "!psh", "!urg"}, strings.TrimSpace(flag)) {
			return false
		}
	}
	return true
}
