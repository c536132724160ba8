package demo

import (
	_ "embed"
	"strings"
	"time"

	"postern/examples"
)

// What the story says about examples/howto.yaml and door.yaml. It is not read
// from them: a policy that differs must fail the demo, not change it.
var (
	sshKnock    = []uint16{1234, 2345, 3456}
	wrongKnock  = []uint16{1234, 3456, 2345}
	insideKnock = []uint16{41830, 7719, 52004}
)

const (
	sshPort     = 22
	doorPort    = 8443 // on the gateway
	insidePort  = 443  // on the host behind it
	openFor     = 10 * time.Second
	stepTimeout = 3 * time.Second
)

//go:embed door.yaml
var door string

// Policy returns the policy of the demo: examples/howto.yaml with one more
// door.
func Policy() string {
	return strings.Replace(examples.Howto, "\ndoors:\n", "\ndoors:\n"+door+"\n", 1)
}
