package cli

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/client/knocker"
	"postern/internal/hosts"
	"postern/internal/policy"
)

// A knocking is what knock was asked for. The flags are those of knockd's client,
// and some more.
type knocking struct {
	host   string        // a name or an address
	entry  *hosts.Host   // of the hosts file; nil if the ports were written out
	ports  []policy.Port // in order
	delay  pause
	family knocker.Family
	quiet  bool
}

func (s *session) knockCommand() *cobra.Command {
	var v4, v6, udp, verbose bool
	k := knocking{delay: usualPause, family: knocker.AnyFamily}
	cmd := &cobra.Command{
		Use:     "knock NAME | HOST PORT...",
		Short:   shortKnock,
		Long:    longKnock,
		Example: exampleKnock,
		Args: func(cmd *cobra.Command, args []string) error {
			wrong := ""
			switch {
			case len(args) == 0:
				wrong = sayNobodyToKnock
			case v4 && v6:
				wrong = sayBothFamilies
			case k.quiet && verbose:
				wrong = sayBothVoices
			case udp && len(args) == 1:
				wrong = sayNoUDP
			default:
				return nil
			}
			return &ui.UsageError{Err: errors.New(wrong), Cmd: cmd}
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			k.host = args[0]
			if len(args) > 1 {
				protocol := policy.TCP
				if udp {
					protocol = policy.UDP
				}
				var err error
				if k.ports, err = portsOf(args[1:], protocol); err != nil {
					return &ui.UsageError{Err: err, Cmd: cmd}
				}
			} else {
				h, err := s.host(args[0])
				if err != nil {
					return orPorts(s.meant(args[0], err))
				}
				k.host, k.entry, k.ports, k.family = h.Address, h, h.Knock, familyOf(h)
				if h.Gap > 0 && !cmd.Flags().Changed(delayFlag) {
					k.delay = pause(h.Gap)
				}
			}
			if v4 {
				k.family = knocker.IPv4
			} else if v6 {
				k.family = knocker.IPv6
			}
			return s.knock(cmd.Context(), k)
		},
	}
	cmd.Flags().BoolVarP(&v4, "ipv4", "4", false, flagIPv4)
	cmd.Flags().BoolVarP(&v6, "ipv6", "6", false, flagIPv6)
	cmd.Flags().VarP(&k.delay, delayFlag, "d", flagDelay)
	cmd.Flags().BoolVarP(&udp, "udp", "u", false, flagUDP)
	cmd.Flags().BoolVarP(&k.quiet, "quiet", "q", false, flagQuiet)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, flagVerbose)
	ui.WithoutPolicy(cmd)
	return cmd
}

const delayFlag = "delay"

// A pause is the time between two knocks, as a flag. A number alone is of milliseconds,
// as knockd's client has it.
type pause time.Duration

// usualPause is short enough for every door: half of the least step_timeout there is.
const usualPause = pause(50 * time.Millisecond)

func (p *pause) String() string { return time.Duration(*p).String() }
func (p *pause) Type() string   { return "duration" }

func (p *pause) Set(text string) error {
	if _, err := strconv.Atoi(text); err == nil {
		text += "ms"
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return errors.New(sayNoDelay)
	case d < 0:
		return errors.New(sayNegativeDelay)
	}
	*p = pause(d)
	return nil
}

// orPorts says what else was meant, maybe, by a name that no host has.
func orPorts(err error) error {
	if f, ok := errors.AsType[*ui.Failure](err); ok && f.Code == ui.CodeUsage {
		f.Hints = append(f.Hints, hintPorts)
	}
	return err
}

// orEntry says what else was meant, maybe, by a name that nobody knows.
func (k *knocking) orEntry(err error) error {
	if f, ok := errors.AsType[*ui.Failure](err); ok && k.entry == nil && known(k.host) {
		f.Hints = []string{hintAlone(k.host)}
	}
	return err
}

// portsOf reads the ports of a command line, each an argument or several with commas, as
// "postern add" has them. A number alone is of the given protocol.
func portsOf(args []string, protocol policy.Protocol) ([]policy.Port, error) {
	var ports []policy.Port
	for _, arg := range strings.Split(strings.Join(args, ","), ",") {
		port, err := policy.ParsePort(arg)
		if err != nil {
			return nil, err
		}
		if _, err := strconv.Atoi(arg); err == nil {
			port.Protocol = protocol
		}
		ports = append(ports, port)
	}
	return ports, nil
}

// familyOf is by which addresses the hosts file says to go to a host.
func familyOf(h *hosts.Host) knocker.Family {
	switch h.Family {
	case hosts.IPv4:
		return knocker.IPv4
	case hosts.IPv6:
		return knocker.IPv6
	}
	return knocker.AnyFamily
}

// knocked is the answer of knock to programs.
type knocked struct {
	Host         string      `json:"host"`
	Address      string      `json:"address"`
	Knocks       []string    `json:"knocks"`
	Milliseconds int64       `json:"milliseconds"`
	Warnings     []ui.Remark `json:"warnings"`
}

func (s *session) knock(ctx context.Context, k knocking) error {
	patience := hosts.DefaultTimeout
	if k.entry != nil {
		patience = k.entry.Timeout
	}
	looking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	addresses, err := lookUp(looking, k.host, k.family)
	if err != nil {
		return k.orEntry(err)
	}
	// All knocks go to one address, and what follows them must, too.
	to := addresses[0]
	if len(addresses) > 1 && !k.quiet {
		s.Warn(severalAddresses(k.host, addresses))
	}
	answer := knocked{Host: k.host, Address: to.String()}
	begun := time.Now()
	err = knocker.Knock(ctx, to, k.ports, time.Duration(k.delay), func(p policy.Port) {
		answer.Knocks = append(answer.Knocks, p.String())
		if !k.quiet {
			s.sayKnock(len(answer.Knocks), len(k.ports), p, to)
		}
	})
	if err != nil {
		return notSent(to, err)
	}
	took := time.Since(begun)
	if s.JSON {
		answer.Milliseconds, answer.Warnings = took.Milliseconds(), s.Remarks
		return s.Answer(answer)
	}
	if !k.quiet {
		s.sayKnocked(k, to, took)
	}
	return nil
}
