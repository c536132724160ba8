package preflight

import (
	"fmt"
	"slices"
	"strings"

	"postern/internal/paragraph"
)

// absentInterfaces warns of a policy for interfaces that this host does not have:
// it hides nothing.
func (f *facts) absentInterfaces() []Finding {
	var absent []string
	for _, name := range f.machine.Policy.Interfaces {
		if len(f.interfaces) > 0 && !slices.Contains(f.interfaces, name) {
			absent = append(absent, name)
		}
	}
	if len(absent) == 0 {
		return nil
	}
	exists := "it exists"
	if len(absent) > 1 {
		exists = "they exist"
	}
	message := fmt.Sprintf("this host has no interface %s: nothing is hidden there until %s", paragraph.List(absent), exists)
	if len(absent) == len(f.machine.Policy.Interfaces) {
		message = fmt.Sprintf("this host has no interface %s: the policy does nothing until %s", paragraph.List(absent), exists)
	}
	return []Finding{{
		Kind:     InterfaceMissing,
		Severity: Warning,
		Message:  message,
		Hints:    []string{"\"ip link\" lists the interfaces; a renamed interface is another one"},
		Where:    Place{Interface: absent[0]},
	}}
}

// bridgePorts refuses a policy for an interface that is a port of another one (of
// a bridge, say). Its packets arrive under the other's name by the time that they
// are judged, and would be let in.
func (f *facts) bridgePorts() []Finding {
	p := wrongInterface(f.machine.Policy.Interfaces, f.masters)
	if p == nil {
		return nil
	}
	found := Finding{Kind: InterfaceIsPort, Severity: Error, Where: Place{Interface: p.name}}
	if p.master == "" {
		found.Message = fmt.Sprintf("%s is a port of a switch, and packets do not arrive under its name: nothing is hidden from them", p.name)
		found.Hints = []string{"write the interface that has the address, or leave interfaces out"}
	} else {
		found.Message = fmt.Sprintf("%s is a port of %s, and packets arrive under that name: nothing is hidden from them", p.name, p.master)
		found.Hints = []string{fmt.Sprintf("write interfaces: [%s]", strings.Join(p.instead, ", "))}
	}
	return []Finding{found}
}

// allowedNowhere warns of entries of allow for an interface that no packet arrives by:
// one that is not there, or a port of another one.
func (f *facts) allowedNowhere() []Finding {
	p := f.machine.Policy
	var found []Finding
	for _, a := range p.Allow {
		master, isPort := f.masters[a.Interface]
		switch {
		case a.Interface == "" || len(f.interfaces) == 0:
		case isPort && master != "":
			found = append(found, aboutLine(InterfaceIsPort, p.Diagnose(a.Pos,
				fmt.Sprintf("%s is a port of %s, and packets arrive under that name: this entry allows nothing", a.Interface, master),
				"write interface: "+master)))
		case isPort:
			found = append(found, aboutLine(InterfaceIsPort, p.Diagnose(a.Pos,
				fmt.Sprintf("%s is a port of a switch, and packets do not arrive under its name: this entry allows nothing", a.Interface),
				"write the interface that has the address")))
		case !slices.Contains(f.interfaces, a.Interface):
			found = append(found, aboutLine(InterfaceMissing, p.Diagnose(a.Pos,
				fmt.Sprintf("this host has no interface %s: this entry allows nothing until it exists", a.Interface),
				"\"ip link\" lists the interfaces; a renamed interface is another one")))
		}
	}
	return found
}

// A bridgePort is an interface under whose name no packet arrives.
type bridgePort struct {
	name, master string   // the master is "" if packets do not arrive under its name either
	instead      []string // what to write in interfaces
}

// wrongInterface returns the first interface that belongs to a master which is not
// among them; nil if there is none.
func wrongInterface(interfaces []string, masters map[string]string) *bridgePort {
	var found *bridgePort
	var instead []string
	for _, name := range interfaces {
		master, is := masters[name]
		if is && found == nil && !slices.Contains(interfaces, master) {
			found = &bridgePort{name: name, master: master}
		}
		if is && master != "" {
			name = master
		}
		if !slices.Contains(instead, name) {
			instead = append(instead, name)
		}
	}
	if found != nil {
		found.instead = instead
	}
	return found
}
