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
	keyedPort   = 8080 // the same service as on sshPort
	tokenPort   = 40123
	insidePort  = 443 // on the host behind it
	openFor     = 10 * time.Second
	stepTimeout = 3 * time.Second
)

//go:embed door.yaml
var door string

// The door of the last step, and who has a key for it.
//
//go:embed keyed.yaml
var keyed string

const people = `
keys: {port: udp/40123}
users: {ann: {devices: [laptop]}}
`

// Policy returns the policy of the demo: examples/howto.yaml with two more
// doors.
func Policy() string {
	return strings.Replace(examples.Howto, "\ndoors:\n", people+"\ndoors:\n"+door+keyed+"\n", 1)
}
