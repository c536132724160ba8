//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"postern/internal/lab"
	"postern/internal/lab/openssh"
)

// A scene is a client of two servers with the same sshd: "open" has no rules,
// and "hidden" has a door.
type scene struct {
	client *lab.Host
	folder string
}

const policyText = `version: 1
posture: closed
doors:
  ssh: {service: tcp/22, knock: {sequence: [47011, 5120, 31877]}}
`

// The hosts that ssh knows: each is a way to a server. One uses another
// relaying program, to see what any such program costs.
const (
	open   = "open"
	netcat = "open-nc"
	hidden = "hidden-connect"
	passed = "hidden-fdpass"
)

var hosts = []string{open, netcat, hidden, passed}

// newScene builds the network with the given speed in Mbit/s, or unlimited if
// it is 0. All files are written below the folder.
func newScene(ctx context.Context, l *lab.Lab, folder, program string, megabits int) (*scene, error) {
	if program == "" {
		program = filepath.Join(folder, "bin", "postern")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "postern/cmd/postern")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, out)
		}
	}
	s := &scene{client: l.Host("client"), folder: folder}
	openServer, hiddenServer := l.Host("open"), l.Host("hidden")
	toOpen, atOpen := l.Connect(s.client, openServer, "192.0.2.0/24")
	toHidden, atHidden := l.Connect(s.client, hiddenServer, "198.51.100.0/24")
	if err := l.Err(); err != nil {
		return nil, err
	}
	if megabits > 0 {
		for _, end := range []*lab.Link{toOpen, atOpen, toHidden, atHidden} {
			if err := slowDown(ctx, end, megabits); err != nil {
				return nil, err
			}
		}
	}
	var config strings.Builder
	for _, at := range []*lab.Link{atOpen, atHidden} {
		keys := s.path(at.Host.Name)
		if err := os.Mkdir(keys, 0o700); err != nil {
			return nil, err
		}
		server, err := openssh.Start(ctx, at.Host, 22, keys)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&config, "Host %s*\n%s", at.Host.Name, server.Client(at.Addr4()))
	}
	fmt.Fprintf(&config, "Host %s\n\tProxyCommand nc.openbsd %%h %%p\n", netcat)
	fmt.Fprintf(&config, "Host %s\n\tProxyCommand %s connect -q hidden\n", hidden, program)
	fmt.Fprintf(&config, "Host %s\n\tProxyCommand %s connect -q --fdpass hidden\n\tProxyUseFdpass yes\n", passed, program)
	if err := errors.Join(
		os.WriteFile(s.path("ssh_config"), []byte(config.String()), 0o600),
		os.WriteFile(s.path("policy.yaml"), []byte(policyText), 0o600),
	); err != nil {
		return nil, err
	}
	for _, cmd := range []*lab.Cmd{
		hiddenServer.Command(ctx, program, "up", "-f", s.path("policy.yaml")),
		s.command(ctx, program, "add", "hidden", "--address", atHidden.Addr4().String(), "--knock", "47011,5120,31877"),
	} {
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%q: %w\n%s", cmd.Args, err, out)
		}
	}
	return s, nil
}

// slowDown limits the sending rate of one end of a cable (tc-tbf(8)).
func slowDown(ctx context.Context, end *lab.Link, megabits int) error {
	cmd := end.Host.Command(ctx, "tc", "qdisc", "add", "dev", end.Name, "root",
		"tbf", "rate", fmt.Sprintf("%dmbit", megabits), "burst", "256kb", "latency", "20ms")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%q: %w\n%s", cmd.Args, err, out)
	}
	return nil
}

func (s *scene) path(name string) string { return filepath.Join(s.folder, name) }

// command returns a command of the client, with its hosts file in the scene's
// folder.
func (s *scene) command(ctx context.Context, name string, args ...string) *lab.Cmd {
	cmd := s.client.Command(ctx, name, args...)
	cmd.Env = append(os.Environ(), "SHELL=/bin/sh", "HOME="+s.folder,
		"XDG_CONFIG_HOME="+s.path("config"), "XDG_CACHE_HOME="+s.path("cache"))
	return cmd
}
