package demo

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// serve greets each client with one line, and then echoes each line that it
// receives, until ctx ends.
func serve(ctx context.Context, ln net.Listener, greeting func(caller netip.Addr) string) {
	context.AfterFunc(ctx, func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			go func() {
				defer stop()
				defer conn.Close()
				caller, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
				fmt.Fprintf(conn, "%s\r\n", greeting(caller.Addr().Unmap()))
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					fmt.Fprintf(conn, "%s%s\r\n", echo, lines.Text())
				}
			}()
		}
	}()
}

const echo = "you said: "

// patience is how long to wait for an expected answer.
const patience = 3 * time.Second

// A call is a connection to a service.
type call struct {
	conn    net.Conn
	lines   *bufio.Reader
	banner  string // the greeting of the service
	problem string // why there is no banner
}

func newCall(conn net.Conn) *call { return &call{conn: conn, lines: bufio.NewReader(conn)} }

// hear waits for a line.
func (c *call) hear() (string, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	line, err := c.lines.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

// ask sends a line over the connection and reports whether it came back.
func (c *call) ask(line string) (answer string, ok bool) {
	if c == nil || c.conn == nil {
		return "no connection", false
	}
	if _, err := fmt.Fprintf(c.conn, "%s\r\n", line); err != nil {
		return err.Error(), false
	}
	answer, err := c.hear()
	if err != nil {
		return err.Error(), false
	}
	return answer, answer == echo+line
}

func (c *call) close() {
	if c != nil && c.conn != nil {
		c.conn.Close()
	}
}
