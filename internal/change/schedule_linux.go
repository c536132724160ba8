package change

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	systemdRuns  = "/run/systemd/system" // a directory if systemd is process 1: sd_booted(3)
	startTimeout = 10 * time.Second
)

// schedule has two processes that outlive this one wait for the deadline, and roll
// back then. Either is enough. One is started now; it is nobody's child and in no
// terminal's session, but ending the log-in may kill it with all the rest
// (systemd's KillUserProcesses). So systemd is asked as well to start one in time.
// The agent is the arguments with which this program calls Await.
func (p *Pending) schedule(agent []string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	if info, err := os.Stat(systemdRuns); err == nil && info.IsDir() && inFirstNamespace() {
		timed := append(slices.Clone(agent), BesideTimer)
		if p.startTimer(program, timed) == nil { // if it fails there is the other one
			agent = timed
		}
	}
	return detach(program, agent)
}

// detach starts the agent in a session of its own, and waits until it is ready.
func detach(program string, agent []string) error {
	cmd := exec.Command(program, agent...)
	cmd.Args[0] = "postern"
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	cmd.Stdout = write
	err = cmd.Start()
	write.Close()
	if err != nil {
		return err
	}
	pid := cmd.Process.Pid
	cmd.Process.Release()
	read.SetReadDeadline(time.Now().Add(startTimeout))
	line, err := bufio.NewReader(read).ReadString('\n')
	if line != Ready+"\n" {
		return errors.Join(fmt.Errorf("process %d, which is to do it, says %q", pid, line), err)
	}
	return nil
}

// startTimer has systemd start the agent at the deadline.
func (p *Pending) startTimer(program string, agent []string) error {
	args := []string{
		"--quiet", "--collect", "--unit=" + p.unit(),
		"--description=Roll back firewall rules that nobody confirmed",
		fmt.Sprintf("--on-active=%dms", p.Left().Milliseconds()), "--timer-property=AccuracySec=100ms",
		"--setenv=PATH=" + os.Getenv("PATH"),
	}
	for _, name := range []string{"STATE_DIRECTORY", "RUNTIME_DIRECTORY"} {
		if value := os.Getenv(name); value != "" {
			args = append(args, "--setenv="+name+"="+value)
		}
	}
	args = append(append(args, "--", program), agent...)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return exec.CommandContext(ctx, "systemd-run", args...).Run()
}

// unschedule takes back the timer. The process ends by itself within a second.
func (p *Pending) unschedule() {
	if _, err := os.Stat(systemdRuns); err == nil && inFirstNamespace() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		exec.CommandContext(ctx, "systemctl", "stop", p.unit()+".timer").Run() // or it finds nothing to do
	}
}

func (p *Pending) unit() string { return "postern-rollback-" + strings.ToLower(p.ID) }
