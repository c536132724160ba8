package policy

import (
	"fmt"
	"testing"
)

// TestPortForms checks that every port has one text form, and that all the
// forms in which it can be written parse to it.
func TestPortForms(t *testing.T) {
	for _, number := range []uint16{1, 9, 22, 1024, 65535} {
		for name, protocol := range map[string]Protocol{"tcp": TCP, "udp": UDP} {
			want := Port{Protocol: protocol, Number: number}
			if got := want.String(); got != fmt.Sprintf("%s/%d", name, number) {
				t.Errorf("String of %d %d is %q", protocol, number, got)
			}
			forms := []string{want.String(), fmt.Sprintf("%d/%s", number, name), fmt.Sprintf("%d:%s", number, name)}
			if protocol == TCP {
				forms = append(forms, fmt.Sprint(number))
			}
			for _, form := range forms {
				if got, err := ParsePort(form); err != nil || got != want {
					t.Errorf("ParsePort(%q) = %v, %v", form, got, err)
				}
			}
		}
	}
	if got, err := ParsePort("icmp/echo"); err != nil || got != (Port{Protocol: ICMP}) || got.String() != "icmp/echo" {
		t.Errorf("ParsePort(icmp/echo) = %v, %v", got, err)
	}
	_, err := ParsePort("tcp/70000")
	if err == nil || err.Error() != "port 70000 is out of range: a port is a number from 1 to 65535" {
		t.Errorf("ParsePort(tcp/70000): %v", err)
	}
}

func TestNames(t *testing.T) {
	for want, named := range map[string]fmt.Stringer{
		"tcp":           TCP,
		"icmp":          ICMP,
		"icmpv6":        ICMPv6,
		"protocol/253":  Protocol(253),
		"6in4":          SIT,
		"any":           Service{},
		"icmp/echo":     Service{Protocol: ICMP},
		"vrrp":          Service{Protocol: VRRP},
		"udp/53":        Service{Protocol: UDP, First: 53, Last: 53},
		"tcp/8000-8099": Service{Protocol: TCP, First: 8000, Last: 8099},
	} {
		if got := named.String(); got != want {
			t.Errorf("%#v is %q, want %q", named, got, want)
		}
	}
}
