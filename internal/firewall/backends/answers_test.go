//go:build linux && !(386 || arm || mips || mipsle)

package backends_test

import (
	"fmt"
	"testing"

	"postern/internal/firewall/backends"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
	"postern/internal/policy"
)

func TestMain(m *testing.M) { lab.Main(m.Run) }

// seen is what a sender sees of each answer.
var seen = map[policy.Answer]labtest.Answer{
	policy.NoAnswer:          labtest.Silence,
	policy.AnswerReset:       labtest.RST,
	policy.AnswerUnreachable: labtest.Unreachable,
}

// TestAnswers: every backend answers a refused packet as the cover says, whatever
// the cover, the protocol, the posture and the family. A new cover or backend takes
// part without a change here; a new answer needs a line in seen.
func TestAnswers(t *testing.T) {
	for _, b := range backends.All() {
		for _, posture := range []policy.Posture{policy.Closed, policy.Guard} {
			for _, cover := range policy.Covers() {
				t.Run(fmt.Sprintf("%s/%s/%s", b.Name(), posture, cover), func(t *testing.T) {
					s := labtest.NewScene(t, b)
					s.Up(fmt.Sprintf("version: 1\nposture: %s\ncover: %s\nlog: {target: none}\ndoors:\n"+
						"  ssh: {service: tcp/22, knock: {sequence: [7001, 7002]}}\n"+
						"  dns: {service: udp/53, knock: {sequence: [7003, 7004]}}\n", posture, cover))
					ask := []policy.Port{labtest.TCP(22), labtest.UDP(53)}
					if posture == policy.Closed { // in guard the rest of the host answers for itself
						ask = append(ask, labtest.Echo, policy.Port{Protocol: policy.GRE})
					}
					for _, port := range ask {
						want, ok := seen[cover.Answer(port.Protocol)]
						if !ok {
							t.Fatalf("nothing here says what a sender sees of %s", cover.Answer(port.Protocol))
						}
						for _, f := range labtest.Families {
							// An ICMP error is sent to each address but once a second.
							src := s.NewAddress(f)
							p := s.ToGateway(src, port)
							if port.Protocol == policy.GRE {
								p = &packet.Packet{
									Src: src, Dst: labtest.On(s.Gate, f),
									Protocol: packet.Protocol(policy.GRE), Payload: make([]byte, 8),
								}
							}
							if got := s.Ask(p); got != want {
								t.Errorf("%s over %s: got %s, want %s", port.Protocol, f, got, want)
							}
						}
					}
				})
			}
		}
	}
}
