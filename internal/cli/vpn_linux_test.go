package cli

import (
	"testing"
	"time"
)

// TestVPN has a real VPN behind a door: nobody who scans sees it, nobody gets to it
// who has not knocked, and the tunnel outlives the grant that it came in by.
func TestVPN(t *testing.T) {
	t.Parallel()
	const openFor = 3 * time.Second
	for _, c := range []struct {
		name, service, open, hidden string
		exchange                    []string
	}{
		{
			name: "UDP", service: "udp/1194", open: "open (udp-response)", hidden: "open|filtered (no-response)",
		},
		{
			name: "TCP, any number admitted, guard", service: "tcp/1194", open: "open (syn-ack)", hidden: "closed (reset)",
			exchange: []string{"udp/1194", "tcp/1194", "posture: closed", "posture: guard",
				"open_for: 15s", "admit: any\n    open_for: 15s"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newVPNScene(t, c.service)
			s.serve()
			if got := s.nmap()["1194"]; got != c.open {
				t.Fatalf("without rules the VPN is %s, want %s", got, c.open)
			}
			s.up(append(c.exchange, "open_for: 15s", "open_for: "+openFor.String())...)
			s.hidden(c.hidden)
			s.staysOut(s.unknocked)

			// On a busy machine a grant may be over before anything is done with it.
			s.postern(s.client, "knock", "vpn")
			for again := 0; !s.granted(); again++ {
				if again == 5 {
					t.Fatal("there is no grant after the knocks")
				}
				s.postern(s.client, "knock", "vpn")
			}
			client := s.join()
			knocked := time.Now() // or before
			for again := 0; again < 10 && !client.says(vpnUp, openFor*2/3); again++ {
				s.postern(s.client, "knock", "vpn")
				knocked = time.Now()
			}
			client.await(vpnUp)
			flow := s.dial()
			s.hidden(c.hidden)
			for s.granted() || time.Since(knocked) < 2*openFor {
				flow.echo(64)
				time.Sleep(100 * time.Millisecond)
			}
			flow.echo(8 << 20)
			s.ping()
			if n, _ := client.times(vpnUp); n != 1 {
				t.Errorf("the tunnel was made %d times", n)
			}

			client.end()
			s.staysOut(s.unknocked)
		})
	}
}

// unknocked starts a client that does not knock.
func (s *vpnScene) unknocked() *vpnProcess { return s.join() }

// TestVPNQuiet has connection tracking forget a tunnel in which nothing is said. One
// that has a keepalive lives.
func TestVPNQuiet(t *testing.T) {
	t.Parallel()
	const remembered = 2 * time.Second
	t.Run("no keepalive", func(t *testing.T) {
		t.Parallel()
		s := newVPNScene(t, "udp/1194")
		s.serve()
		s.up()
		s.forget(remembered)
		s.postern(s.client, "knock", "vpn")
		client := s.join()
		client.await(vpnUp)
		s.ping()
		s.forgetAdmitted()
		s.forgotten()
		s.staysOut(func() *vpnProcess { return s.start(s.client, "ping", "-i", "0.2", inTunnel) })
		s.postern(s.client, "knock", "vpn")
		s.ping()

		// A packet of the server's own revives it as well.
		s.forgetAdmitted()
		s.forgotten()
		ping(t, s.server, "10.8.0.2")
		s.ping()
		if n, _ := client.times(vpnUp); n != 1 {
			t.Errorf("the tunnel was made %d times", n)
		}
	})
	t.Run("keepalive", func(t *testing.T) {
		t.Parallel()
		s := newVPNScene(t, "udp/1194")
		server := s.serve("--keepalive", "1", "4")
		s.up()
		s.forget(remembered)
		s.postern(s.client, "knock", "vpn")
		client := s.join("--remap-usr1", "SIGTERM")
		client.await(vpnUp)
		s.forgetAdmitted()
		time.Sleep(2 * remembered)
		s.ping()
		if n, _ := client.times(vpnUp); n != 1 {
			t.Errorf("the tunnel was made %d times", n)
		}

		// Nothing knocks for a client that starts over by itself. This one ends
		// when it hears no more, and a client that starts again may knock.
		server.end()
		client.await("process exiting")
	})
}
