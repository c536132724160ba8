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

	"github.com/mdp/qrterminal/v3"
	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/document"
	"postern/internal/hosts"
	"postern/internal/policy"
)

func (s *session) shareCommand() *cobra.Command {
	var to sharing
	cmd := &cobra.Command{
		Use:     "share [DOOR]",
		Short:   shortShare,
		Long:    longShare,
		Example: exampleShare,
		Args:    exactly(1),
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
			if !cmd.Flags().Changed("qr") {
				to.qr = s.atTerminal()
			}
			return s.share(to)
		},
	}
	cmd.Flags().StringVar(&to.host, "host", "", flagHost)
	cmd.Flags().StringVar(&to.service, "service", "", flagService)
	cmd.Flags().StringVar(&to.name, "name", "", flagName)
	cmd.Flags().BoolVar(&to.qr, "qr", false, flagQR)
	return cmd
}

// sharing is what is to be shared, and how; empty is whatever there is.
type sharing struct {
	door, host, service, name string
	qr                        bool
}

// shared is the answer of share to programs.
type shared struct {
	File string   `json:"file"`
	Door string   `json:"door"`
	Link string   `json:"link"`
	Host hostJSON `json:"host"`
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
	h := hosts.New(cmp.Or(what.name, d.Name))
	h.Knock, h.StepTimeout = d.Knock.Sequence, d.Knock.StepTimeout
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
		return s.Answer(shared{File: s.file, Door: d.Name, Link: link, Host: asJSON(&h, disclosed)})
	}
	if what.qr {
		s.sayQR(drawing(link))
	}
	if _, err := fmt.Fprintln(s.Out, link); err != nil {
		return err
	}
	s.sayShared(&h)
	if out, ok := s.Out.(*os.File); ok && ui.IsTerminal(out) { // and nobody pipes it on
		s.sayFiled(&h)
	}
	return nil
}

// serviceOf gives one of a door's services; where there is but one, it need not
// be named.
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

// publicAddresses gives this host's addresses that clients anywhere can reach the
// door by. (What a home router translates is not known here.)
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

// atTerminal tells whether a person sees both what is data and what is talk.
func (s *session) atTerminal() bool {
	out, _ := s.Out.(*os.File)
	err, _ := s.Err.(*os.File)
	return out != nil && err != nil && ui.IsTerminal(out) && ui.IsTerminal(err)
}

// drawing gives a text as a QR code, line by line, in white on black: two rows of
// it in a line of half blocks.
func drawing(text string) []string {
	var b bytes.Buffer
	qrterminal.GenerateHalfBlock(text, qrterminal.L, &b)
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
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
