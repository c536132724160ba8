package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/internal/cli/ui"
	"postern/internal/lab"
	"postern/internal/lab/impair"
)

// A forwarded host is a `postern forward` that runs on a client.
type forwarded struct {
	*hideout
	cmd    *lab.Cmd
	at     netip.AddrPort // it listens there
	events *json.Decoder
	talk   bytes.Buffer // its standard error, once it has ended
}

// forward runs `postern forward` with a port of the system's choice.
func (h *hideout) forward(t *testing.T, args ...string) *forwarded {
	t.Helper()
	f := &forwarded{hideout: h, cmd: h.command(t, append([]string{"postern", "forward", "--json"}, args...)...)}
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	f.cmd.Stderr = &f.talk
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.cmd.Process.Kill()
		f.cmd.Wait()
	})
	f.events = json.NewDecoder(out)
	listening := f.next(t, "listening")
	if f.at, err = netip.ParseAddrPort(listening.Addresses[0]); err != nil {
		t.Fatal(err)
	}
	return f
}

// A heard is an event, as a program reads it.
type heard struct {
	Event          string
	Connection     int64
	Addresses      []string
	To             string
	Service        string
	Tries          int
	Sent, Received int64
	Error          *ui.Failure
}

// next is the next event, which must be of that kind.
func (f *forwarded) next(t *testing.T, kind string) heard {
	t.Helper()
	var e heard
	if err := f.events.Decode(&e); err != nil {
		t.Fatalf("no event, where %q was due: %v", kind, err)
	}
	if e.Event != kind {
		t.Fatalf("the event is %+v, want %q", e, kind)
	}
	return e
}

// dial connects to the listener.
func (f *forwarded) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	conn, err := f.client.Dial(within(t, soon), "tcp", f.at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(soon))
	return conn.(*net.TCPConn)
}

// interrupt ends it by Ctrl-C.
func (f *forwarded) interrupt(t *testing.T) {
	t.Helper()
	f.cmd.Process.Signal(os.Interrupt)
	var last heard
	for f.events.More() {
		last = heard{}
		if err := f.events.Decode(&last); err != nil {
			t.Fatal(err)
		}
		if last.Event == "" {
			t.Errorf("it says %v", last.Error)
		}
	}
	f.cmd.Wait()
	if code := f.cmd.ProcessState.ExitCode(); code != ui.CodeInterrupted || last.Event != "ended" {
		t.Errorf("it ends with %d and %+v", code, last)
	}
	if f.talk.Len() > 0 {
		t.Errorf("it talks: %s", &f.talk)
	}
}

// hidden is a policy with one door, to three ports.
func hidden(admit string) string {
	return fmt.Sprintf(`
version: 1
posture: closed
log: {target: none}
doors:
  web: {service: [tcp/80, tcp/81, tcp/82], admit: %s, knock: {sequence: [1234, 2345, 3456]}}
`, admit)
}

// TestForwardAtOnce: a browser opens ten connections at once, and all are served.
func TestForwardAtOnce(t *testing.T) {
	t.Parallel()
	for _, admit := range []string{"one", "any"} {
		for name, network := range map[string]string{"good": "192.0.2.2", "bad": "198.51.100.2"} {
			t.Run(admit+", on a "+name+" network", func(t *testing.T) {
				t.Parallel()
				h := newHideout(t, hidden(admit))
				impair.Connect(h.lab, h.client, h.server, impair.Impairment{Delay: 10 * time.Millisecond, Loss: 0.05, Seed: 11}, "198.51.100.0/24")
				ln, err := h.server.Listen(t.Context(), "tcp", ":80")
				if err != nil {
					t.Fatal(err)
				}
				// No answer before all have asked.
				var asked sync.WaitGroup
				asked.Add(10)
				web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					asked.Done()
					asked.Wait()
					fmt.Fprint(w, strings.Repeat(r.URL.Path, 10_000))
				})}
				go web.Serve(ln)
				t.Cleanup(func() { web.Close() })

				h.run(t, "postern", "add", "web", "--address", network, "--port", "80", "--knock", "1234,2345,3456", "--timeout", "1m")
				f := h.forward(t, "web", "0")
				var all sync.WaitGroup
				for i := range 10 {
					conn := f.dial(t)
					all.Go(func() {
						path := fmt.Sprint("/", i)
						fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path)
						answer, err := io.ReadAll(conn)
						if err != nil || !bytes.HasSuffix(answer, []byte("\r\n\r\n"+strings.Repeat(path, 10_000))) {
							t.Errorf("%s: %d bytes, %v", path, len(answer), err)
						}
					})
				}
				all.Wait()
				for range 10 {
					if e := f.next(t, "opened"); e.Tries < 1 || e.Service != "tcp/80" {
						t.Errorf("opened: %+v", e)
					}
				}
				f.interrupt(t)
			})
		}
	}
}

// TestForward says what comes of single connections.
func TestForward(t *testing.T) {
	t.Parallel()
	h := newHideout(t, hidden("one"))
	address := h.at.Addr4().String()
	h.run(t, "postern", "add", "web", "--address", address, "--port", "80", "--knock", "1234,2345,3456")
	many := pattern(1 << 20)
	h.listen(t, 80, func(c *net.TCPConn) { // says all, then hears all, then says that
		c.Write(many)
		heard, _ := io.ReadAll(c)
		c.Write(heard)
	})
	h.listen(t, 81, func(c *net.TCPConn) { // breaks off
		c.Read(make([]byte, 1))
		c.SetLinger(0)
	})
	end := make(chan string)
	h.listen(t, 82, func(c *net.TCPConn) { // ends before it has heard all
		c.CloseWrite()
		heard, _ := io.ReadAll(c)
		end <- string(heard)
	})

	t.Run("halves", func(t *testing.T) {
		t.Parallel()
		f := h.forward(t, "web", "0")
		// All is said, and ended, most likely before the door is open.
		for _, said := range []string{"", "something", strings.Repeat("more than is read early ", 10_000)} {
			conn := f.dial(t)
			go func() {
				io.WriteString(conn, said)
				conn.CloseWrite()
			}()
			got, err := io.ReadAll(conn)
			if err != nil || string(got) != string(many)+said {
				t.Errorf("of %d bytes came back %d, %v", len(many)+len(said), len(got), err)
			}
			f.next(t, "opened")
			if e := f.next(t, "closed"); e.Sent != int64(len(said)) || e.Received != int64(len(many)+len(said)) || e.Error != nil {
				t.Errorf("closed: %+v, %v", e, e.Error)
			}
		}
		f.interrupt(t)
	})
	t.Run("the service ends first", func(t *testing.T) {
		t.Parallel()
		f := h.forward(t, "web", "0::82")
		conn := f.dial(t)
		if n, err := conn.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("got %d bytes, %v; want the end", n, err)
		}
		io.WriteString(conn, "all the same")
		conn.CloseWrite()
		if heard := <-end; heard != "all the same" {
			t.Errorf("the service heard %q", heard)
		}
	})
	t.Run("the service breaks off", func(t *testing.T) {
		t.Parallel()
		f := h.forward(t, "web", "127.0.0.1:0::81")
		conn := f.dial(t)
		io.WriteString(conn, "x")
		if _, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want a reset", err)
		}
		f.next(t, "opened")
		if e := f.next(t, "closed"); e.Error == nil || !strings.Contains(e.Error.Message, "reset") {
			t.Errorf("closed: %v", e.Error)
		}
	})
	t.Run("elsewhere", func(t *testing.T) {
		t.Parallel()
		f := h.forward(t, "web", "0:"+address+":80")
		conn := f.dial(t)
		conn.CloseWrite()
		if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, many) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		f := h.forward(t, "web", "0")
		conn := f.dial(t)
		if _, err := io.ReadFull(conn, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		f.interrupt(t)
		if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the connection: %v", err)
		}
	})
}

// TestForwardShut has a door that does not open.
func TestForwardShut(t *testing.T) {
	t.Parallel()
	shut := func(t *testing.T, timeout string) *forwarded {
		t.Parallel()
		h := newHideout(t, hidden("one"))
		h.run(t, "postern", "add", "web", "--address", h.at.Addr4().String(), "--port", "80", "--knock", "1234,2345", "--timeout", timeout)
		return h.forward(t, "web", "0")
	}
	t.Run("all who wait are told", func(t *testing.T) {
		f := shut(t, "1s")
		waiting := []*net.TCPConn{f.dial(t), f.dial(t), f.dial(t), f.dial(t)}
		var numbers []int64
		var answers []*ui.Failure
		for _, conn := range waiting {
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %v, want a reset", err)
			}
			e := f.next(t, "shut")
			if e.Error.Code != ui.CodeShut || e.To != f.hideout.at.Addr4().String()+":80" {
				t.Errorf("shut: %+v", e)
			}
			numbers = append(numbers, e.Connection)
			answers = append(answers, e.Error)
		}
		// It is the answer of one opening: none has waited for the others as well.
		for _, answer := range answers[1:] {
			if answer.Tries == 0 || answer.Milliseconds == 0 || !reflect.DeepEqual(answer, answers[0]) {
				t.Errorf("one is told %+v, another %+v", answer, answers[0])
			}
		}
		if slices.Sort(numbers); !slices.Equal(numbers, []int64{1, 2, 3, 4}) {
			t.Errorf("of connections %v", numbers)
		}
		// It goes on, and tries anew.
		conn := f.dial(t)
		conn.Read(make([]byte, 1))
		if e := f.next(t, "shut"); e.Connection != 5 {
			t.Errorf("shut: %+v", e)
		}
		f.interrupt(t)
	})
	t.Run("one of two services", func(t *testing.T) {
		t.Parallel()
		h := newHideout(t, hidden("one"))
		h.listen(t, 81, func(c *net.TCPConn) { io.WriteString(c, "alive") })
		h.run(t, "postern", "add", "web", "--address", h.at.Addr4().String(), "--port", "80", "--knock", "1234,2345,3456", "--timeout", "2s")
		f := h.forward(t, "web", "0", "0::81")
		second := f.next(t, "listening")
		if want := h.at.Addr4().String() + ":81"; second.To != want {
			t.Errorf("it leads to %q, want %q", second.To, want)
		}
		dead := f.dial(t)
		f.at = netip.MustParseAddrPort(second.Addresses[0])
		alive := f.dial(t) // while the other is tried
		if _, err := dead.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want a reset", err)
		}
		if got, err := io.ReadAll(alive); err != nil || string(got) != "alive" {
			t.Errorf("got %q, %v", got, err)
		}
		f.interrupt(t)
	})
	t.Run("the client breaks off", func(t *testing.T) {
		f := shut(t, "1h")
		conn, next := f.dial(t), f.dial(t)
		for _, c := range []*net.TCPConn{next, conn} { // one of them waits for its turn
			c.SetLinger(0)
			c.Close()
			f.next(t, "gone")
		}
		f.interrupt(t)
	})
}

// TestForwardListens says why it does not listen, where it does not.
func TestForwardListens(t *testing.T) {
	t.Parallel()
	h := newHideout(t, hidden("one"))
	h.run(t, "postern", "add", "web", "--address", "192.0.2.2", "--port", "80", "--knock", "1234,2345,3456")
	f := h.forward(t, "web", "0")
	taken := fmt.Sprint(f.at.Port())
	powerless := []string{"setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-all"}
	for _, test := range []struct {
		words []string
		want  outcome
	}{
		{[]string{"postern", "forward", "web", taken}, outcome{talk: "postern: error: cannot listen on 127.0.0.1:" + taken + ": " + syscall.EADDRINUSE.Error() + `
postern: hint: another program listens there: take another port, or 0 for any that is free
`, status: ui.CodeFailed}},
		{[]string{"postern", "forward", "web", "[::1]:" + taken}, outcome{talk: "postern: error: cannot listen on [::1]:" + taken + ": " + syscall.EADDRINUSE.Error() + `
postern: hint: another program listens there: take another port, or 0 for any that is free
`, status: ui.CodeFailed}},
		{[]string{"postern", "forward", "web", "203.0.113.9:8080"}, outcome{talk: `postern: error: cannot listen on 203.0.113.9:8080: ` + syscall.EADDRNOTAVAIL.Error() + `
postern: hint: it must be an address of this machine
`, status: ui.CodeFailed}},
		{append(powerless, "postern", "forward", "web", "80"), outcome{talk: `postern: error: cannot listen on 127.0.0.1:80: ` + syscall.EACCES.Error() + `
postern: hint: ports below 1024 are for root: take one above
`, status: ui.CodePrivilege}},
	} {
		expect(t, h.finish(t, h.command(t, test.words...)), test.want)
	}
}
