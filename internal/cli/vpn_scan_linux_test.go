package cli

import (
	"encoding/xml"
	"fmt"
)

// nmap scans the service's port and its neighbours, and returns what it says of each.
func (s *vpnScene) nmap() map[string]string {
	s.t.Helper()
	kind := "-sU"
	if s.protocol() == "tcp" {
		kind = "-sS"
	}
	out, err := s.scanner.Command(s.t.Context(), "nmap", kind, "-Pn", "-n", "--reason", "-T5", "-p", "1190-1198",
		// Long enough for a busy machine, where a late answer would look like none.
		"--initial-rtt-timeout", "250ms", "--min-rtt-timeout", "250ms", "--max-retries", "4", "--host-timeout", "0",
		"-oX", "-", s.scanned.String()).Output()
	if err != nil {
		s.t.Fatalf("nmap: %v", err)
	}
	var run struct {
		Ports []struct {
			Number string `xml:"portid,attr"`
			State  struct {
				State  string `xml:"state,attr"`
				Reason string `xml:"reason,attr"`
			} `xml:"state"`
		} `xml:"host>ports>port"`
	}
	if err := xml.Unmarshal(out, &run); err != nil {
		s.t.Fatalf("nmap: %v\n%s", err, out)
	}
	ports := map[string]string{}
	for _, p := range run.Ports {
		ports[p.Number] = fmt.Sprintf("%s (%s)", p.State.State, p.State.Reason)
	}
	if len(ports) != 9 {
		s.t.Fatalf("nmap tells of %d ports:\n%s", len(ports), out)
	}
	return ports
}

// hidden scans, and demands that the VPN's port looks as its neighbours do.
func (s *vpnScene) hidden(want string) {
	s.t.Helper()
	for port, is := range s.nmap() {
		if is != want {
			s.t.Errorf("port %s is %s, want %s", port, is, want)
		}
	}
}
