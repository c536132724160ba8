package migrate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"postern/internal/policy"
)

// wellKnown are the names of services that people write for a port, and that
// make good names for a door.
var wellKnown = map[string]policy.Port{
	"ftp":        {Protocol: policy.TCP, Number: 21},
	"ssh":        {Protocol: policy.TCP, Number: 22},
	"telnet":     {Protocol: policy.TCP, Number: 23},
	"smtp":       {Protocol: policy.TCP, Number: 25},
	"domain":     {Protocol: policy.UDP, Number: 53},
	"http":       {Protocol: policy.TCP, Number: 80},
	"pop3":       {Protocol: policy.TCP, Number: 110},
	"ntp":        {Protocol: policy.UDP, Number: 123},
	"imap":       {Protocol: policy.TCP, Number: 143},
	"snmp":       {Protocol: policy.UDP, Number: 161},
	"https":      {Protocol: policy.TCP, Number: 443},
	"submission": {Protocol: policy.TCP, Number: 587},
	"rsync":      {Protocol: policy.TCP, Number: 873},
	"imaps":      {Protocol: policy.TCP, Number: 993},
	"pop3s":      {Protocol: policy.TCP, Number: 995},
	"openvpn":    {Protocol: policy.UDP, Number: 1194},
	"mysql":      {Protocol: policy.TCP, Number: 3306},
	"rdp":        {Protocol: policy.TCP, Number: 3389},
	"postgresql": {Protocol: policy.TCP, Number: 5432},
	"vnc":        {Protocol: policy.TCP, Number: 5900},
	"http-alt":   {Protocol: policy.TCP, Number: 8080},
	"wireguard":  {Protocol: policy.UDP, Number: 51820},
}

// doorName names a door by its first service.
func doorName(services []policy.Port) string {
	p := services[0]
	for _, name := range slices.Sorted(maps.Keys(wellKnown)) {
		if wellKnown[name] == p {
			return name
		}
	}
	return fmt.Sprintf("%s-%d", p.Protocol, p.Number)
}

// fitName makes a name that a door can have of one that a section has.
func fitName(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '-'
	}, name)
	name = strings.Trim(name, "-_")
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "door-" + name
	}
	return strings.TrimRight(name[:min(len(name), 28)], "-_")
}
