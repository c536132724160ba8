package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/client"
	"postern/internal/client/knocker"
	"postern/internal/document"
	"postern/internal/hosts"
	"postern/internal/policy"
)

// A knocking is what knock was asked for. The flags are those of knockd's client,
// and some more.
type knocking struct {
	host   string        // a name or an address
	saved  *hosts.Host   // nil if the ports were given
	ports  []policy.Port // in order
	delay  ui.Duration
	family knocker.Family
	quiet  bool
}

// usualDelay is short enough for every door: half of the least step_timeout.
const usualDelay = policy.MinTime / 2

func (s *session) knockCommand() *cobra.Command {
	var v4, v6, udp, verbose bool
	k := knocking{
		// Every door has forgotten a knock by then.
		delay:  ui.Duration{Value: usualDelay, Unit: time.Millisecond, Max: policy.MaxStepTimeout},
		family: knocker.AnyFamily,
	}
	cmd := &cobra.Command{
		Use:               "knock NAME | HOST PORT...",
		Short:             shortKnock,
		Long:              longKnock,
		Example:           exampleKnock,
		ValidArgsFunction: completeHost,
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
					return orPorts(err)
				}
				k.host, k.saved, k.ports, k.family = h.Address, h, h.Knock, client.FamilyOf(h)
				switch changed := cmd.Flags().Changed(delayFlag); {
				case !changed && h.Gap > 0:
					k.delay.Value = h.Gap
				case changed && len(h.Knock) > 1 && k.delay.Value >= h.StepTimeout:
					return &ui.UsageError{Err: lateKnocks(k.delay.Value, h), Cmd: cmd}
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

// orPorts adds what else may be meant by a name that no host has.
func orPorts(err error) error {
	if _, ok := errors.AsType[*hosts.NotFoundError](err); !ok {
		return err
	}
	f := ui.Explain(err)
	f.Hints = append(f.Hints, hintPorts)
	return f
}

// orSaved says what else may be meant by a name that no name server knows.
func (k *knocking) orSaved(err error) error {
	if k.saved != nil {
		return err
	}
	if file, e := hosts.Own(); e != nil || file.Find(k.host) == nil {
		return err
	}
	f := ui.Explain(err)
	f.Hints = []string{hintAlone(k.host)}
	return f
}

// portsOf reads the ports of a command line, each an argument or several with commas,
// as "postern add" has them. A number alone is of the given protocol.
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

// lateKnocks is about a delay after which a saved host has forgotten each knock.
func lateKnocks(delay time.Duration, h *hosts.Host) error {
	return fmt.Errorf(sayLateKnocks, document.FormatDuration(delay), document.FormatDuration(h.StepTimeout), h.Name)
}

// knocked is the answer of knock to programs.
type knocked struct {
	Host         string      `json:"host"`
	Address      string      `json:"address"`
	Knocks       []string    `json:"knocks,omitempty"` // that the caller has named; those of a saved host are a secret
	Token        string      `json:"token,omitempty"`  // how it was sent, where the host has a key
	Milliseconds int64       `json:"milliseconds"`
	Warnings     []ui.Remark `json:"warnings"`
}

func (s *session) knock(ctx context.Context, k knocking) error {
	timeout := hosts.DefaultTimeout
	if k.saved != nil {
		timeout = k.saved.Timeout
	}
	looking, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	addresses, err := client.LookUp(looking, k.host, k.family)
	if err != nil {
		return k.orSaved(err)
	}
	// All knocks go to one address, and what follows them must, too.
	to := addresses[0]
	if len(addresses) > 1 && !k.quiet {
		s.Warn(severalAddresses(k.host, addresses))
	}
	answer := knocked{Host: k.host, Address: to.String()}
	begun := time.Now()
	if k.saved != nil && k.saved.Key != nil {
		by, err := client.SendToken(ctx, to, k.saved)
		if err != nil {
			return err
		}
		answer.Token = by.String()
		return s.saidKnock(k, to, answer, time.Since(begun))
	}
	sent := 0
	err = client.Knock(ctx, to, k.ports, k.delay.Value, func(p policy.Port) {
		sent++
		if k.saved == nil {
			answer.Knocks = append(answer.Knocks, p.String())
		}
		if !k.quiet {
			s.sayKnock(k, sent, p, to)
		}
	})
	if err != nil {
		return err
	}
	return s.saidKnock(k, to, answer, time.Since(begun))
}

// saidKnock says what was sent.
func (s *session) saidKnock(k knocking, to netip.Addr, answer knocked, took time.Duration) error {
	if s.JSON {
		answer.Milliseconds, answer.Warnings = took.Milliseconds(), s.Remarks
		return s.Answer(answer)
	}
	if !k.quiet {
		s.sayKnocked(k, to, took)
	}
	return nil
}
