package cli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mdp/qrterminal/v3"
	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/document"
	"postern/internal/hosts"
	"postern/internal/policy"
)

func (s *session) shareCommand() *cobra.Command {
	var to sharing
	var qr bool
	cmd := &cobra.Command{
		Use:     "share [DOOR]",
		Short:   shortShare,
		Long:    longShare,
		Example: exampleShare,
		Args:    exactly(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, text string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return s.completeDoor(cmd, args, text)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				to.door = args[0]
			}
			switch f := hosts.CheckName(to.name); {
			case f == nil || !cmd.Flags().Changed("name"):
			case to.name == "":
				return &ui.UsageError{Err: errors.New(sayEmptyName), Cmd: cmd}
			default:
				return &ui.UsageError{Err: fmt.Errorf("--name: %w", f), Cmd: cmd}
			}
			switch {
			case qr:
				to.qr = drawQR
			case !cmd.Flags().Changed("qr") && s.atTerminal():
				to.qr = drawQRIfSeen
			}
			return s.share(to)
		},
	}
	cmd.Flags().StringVar(&to.host, "host", "", flagHost)
	cmd.Flags().StringVar(&to.service, "service", "", flagService)
	cmd.Flags().StringVar(&to.name, "name", "", flagName)
	cmd.RegisterFlagCompletionFunc("service", func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var all []cobra.Completion
		for _, d := range s.policyDoors() {
			if len(args) > 0 && d.Name != args[0] {
				continue
			}
			for _, port := range d.Services {
				all = append(all, port.String())
			}
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	})
	cmd.Flags().BoolVar(&qr, "qr", false, flagQR)
	return cmd
}

// sharing is what is to be shared, and how; empty is whatever there is.
type sharing struct {
	door, host, service, name string
	qr                        drawQRs
}

// drawQRs is whether a link is drawn as a QR code as well.
type drawQRs int

const (
	drawNoQR drawQRs = iota
	drawQR
	drawQRIfSeen // only if all of it fits on the screen
)

// shared is the answer of share to programs.
type shared struct {
	File string     `json:"file"`
	Door string     `json:"door"`
	Link string     `json:"link"`
	Host hosts.JSON `json:"host"`
}

func (s *session) share(what sharing) error {
	p, err := s.policy()
	if err != nil {
		return err
	}
	d, err := doorNamed(p, what.door)
	if err != nil {
		return aboutArgument(err, what.door, p)
	}
	if len(d.Knock.Sequence) == 0 {
		return noKnocks(d)
	}
	h := hosts.New(cmp.Or(what.name, d.Name))
	h.Knock, h.Close, h.StepTimeout = d.Knock.Sequence, d.Knock.Close, d.Knock.StepTimeout
	if h.Service, err = serviceOf(d, what.service); err != nil {
		return err
	}
	if err := s.reach(d, &h, what.host); err != nil {
		return err
	}
	link, f := h.Link()
	if f != nil {
		return &ui.Failure{Code: ui.CodeUsage, Message: f.Message, Hints: []string{f.Hint}}
	}
	if s.JSON {
		return s.Answer(shared{File: s.file, Door: d.Name, Link: link, Host: h.JSON(hosts.Disclosed)})
	}
	if _, err := fmt.Fprintln(s.Out, link); err != nil {
		return err
	}
	s.sayShared(&h)
	if out, ok := s.Out.(*os.File); ok && ui.IsTerminal(out) { // and nobody pipes it on
		s.sayFiled(h)
	}
	switch what.qr {
	case drawQR:
		s.sayQR(drawing(link, usualQuiet))
	case drawQRIfSeen:
		s.drawOnScreen(link, 1, "--qr")
	}
	return nil
}

// serviceOf returns one of a door's services; if it has only one, the name may be
// empty.
func serviceOf(d *policy.Door, text string) (policy.Port, error) {
	if text == "" && len(d.Services) == 1 {
		return d.Services[0], nil
	}
	if text == "" {
		return policy.Port{}, whichService(d)
	}
	service, err := policy.ParseService(text)
	if err != nil {
		return service, &ui.Failure{Code: ui.CodeUsage, Message: "--service: " + err.Error()}
	}
	if !slices.Contains(d.Services, service) {
		return service, noSuchService(d, service)
	}
	return service, nil
}

// reach settles how clients reach a door: as the user says, or at the door's own
// address, or at the one address by which this host is on the internet.
func (s *session) reach(d *policy.Door, h *hosts.Host, host string) error {
	switch {
	case host != "":
		if f := h.Set(hosts.KeyAddress, host); f != nil {
			return &ui.Failure{Code: ui.CodeUsage, Message: "--host: " + f.Message, Hints: []string{otherHost(host, f.Hint)}}
		}
	case d.Address.IsValid():
		h.Address = d.Address.String()
	default:
		public, err := publicAddresses(d)
		if err != nil {
			return err
		}
		if len(public) != 1 {
			return whichAddress(public)
		}
		h.Address = public[0].String()
		s.sayPublic(public[0])
	}
	four, six := d.HasFamilyOf(netip.IPv4Unspecified()), d.HasFamilyOf(netip.IPv6Unspecified())
	a, err := netip.ParseAddr(h.Address)
	switch {
	case err == nil && !d.HasFamilyOf(a):
		return notServed(d, a)
	case err == nil:
	case !six:
		h.Family = hosts.IPv4
	case !four:
		h.Family = hosts.IPv6
	}
	return nil
}

// otherHost is what to do about an address that cannot be shared.
func otherHost(text, hint string) string {
	p := hosts.SplitDestination(text)
	a, err := netip.ParseAddr(text)
	switch {
	case p.User != "" || p.Port != "":
		return alone(p.Host)
	case err == nil && a.IsLinkLocalUnicast():
		return hintOthers
	}
	return hint
}

// carrierNAT is what providers put between their customers and the internet.
var carrierNAT = netip.MustParsePrefix("100.64.0.0/10")

// publicAddresses returns this host's addresses at which clients anywhere can reach
// the door. (What a home router translates is not known here.)
func publicAddresses(d *policy.Door) ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var public []netip.Addr
	for _, network := range all {
		n, ok := network.(*net.IPNet)
		if !ok {
			continue
		}
		a, _ := netip.AddrFromSlice(n.IP)
		if a = a.Unmap(); a.IsGlobalUnicast() && !a.IsPrivate() && !carrierNAT.Contains(a) && d.HasFamilyOf(a) && !slices.Contains(public, a) {
			public = append(public, a)
		}
	}
	return public, nil
}

// atTerminal reports whether standard output and standard error are terminals.
func (s *session) atTerminal() bool {
	out, _ := s.Out.(*os.File)
	err, _ := s.Err.(*os.File)
	return out != nil && err != nil && ui.IsTerminal(out) && ui.IsTerminal(err)
}

// The quiet zone around a QR code, in modules. The standard asks for four; phones
// read a code with two as well, and mostly one with one.
const (
	usualQuiet = 4
	leastQuiet = 1
)

// drawing returns a text as a QR code, line by line, in white on black: a line of half
// blocks holds two rows of it.
func drawing(text string, quiet int) []string {
	var b bytes.Buffer
	qrterminal.GenerateWithConfig(text, qrterminal.Config{
		Level: qrterminal.L, Writer: &b, HalfBlocks: true, QuietZone: quiet,
		BlackChar: qrterminal.BLACK_BLACK, BlackWhiteChar: qrterminal.BLACK_WHITE,
		WhiteChar: qrterminal.WHITE_WHITE, WhiteBlackChar: qrterminal.WHITE_BLACK,
	})
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// fitting returns the drawing with the widest quiet zone that fits in that many columns
// and rows, with a prompt below it; nil if none fits.
func fitting(text string, columns, rows int) []string {
	for quiet := usualQuiet; quiet >= leastQuiet; quiet-- {
		lines := drawing(text, quiet)
		if utf8.RuneCountInString(lines[0]) <= columns && len(lines) < rows {
			return lines
		}
	}
	return nil
}

// drawOnScreen draws a link if all of it fits on the terminal, below the link itself and
// what was said of it, and above the lines that follow. Otherwise it says what draws
// it in any case.
func (s *session) drawOnScreen(link string, below int, again string) {
	columns, rows := s.Screen()
	if columns == 0 || rows == 0 {
		s.sayQR(drawing(link, usualQuiet))
		return
	}
	above := (len(link)+columns-1)/columns + s.Lines()
	if lines := fitting(link, columns, rows-above-below+1); lines != nil {
		s.sayQR(lines)
		return
	}
	least := drawing(link, leastQuiet)
	s.sayNoQR(utf8.RuneCountInString(least[0]), above+len(least)+below, again)
}

// aboutArgument says how share names a door.
func aboutArgument(err error, name string, p *policy.Policy) error {
	if f, ok := err.(*ui.Failure); ok && name == "" {
		names := make([]string, len(p.Doors))
		for i := range p.Doors {
			names[i] = document.Short(p.Doors[i].Name)
		}
		f.Hints = []string{hintNameDoor + ui.List(names)}
	}
	return err
}
