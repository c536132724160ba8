//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside marks the process that Enter has started, so that it does not start
// another when even that one may do nothing.
const inside = "POSTERN_LAB_INSIDE"

// Enter gets the process the right to make network namespaces. Call it first
// thing in main or TestMain: where the right is missing, Enter runs the
// program again, with the same arguments, as root of a user namespace of its
// own; it then does not return but ends as that process ends. Where the right
// is there, nothing changes.
//
// Signals sent to this process are passed on, the terminal is shared, and the
// inner process dies with this one.
//
// The error is an *UnavailableError if the machine does not let this user make
// namespaces.
func Enter() error {
	marked := os.Getenv(inside) != ""
	os.Unsetenv(inside) // not for the programs that the process starts
	err := probe()
	if err == nil {
		return nil
	}
	if !marked {
		// Where starting it fails, why is what there is to say.
		err = again()
	}
	return unavailable(err, readProc)
}

// Main is what a TestMain needs: it enters, runs and exits. It exits with 5,
// as Postern does for what a machine does not support, if it cannot enter.
func Main(run func() int) {
	if err := Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(5)
	}
	os.Exit(run())
}

// RealRoot reports whether the process is root of the whole machine, not only of
// a user namespace.
func RealRoot() bool {
	ids, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && os.Geteuid() == 0 &&
		strings.Join(strings.Fields(string(ids)), " ") == "0 0 4294967295"
}

// probe makes a namespace, sets up its loopback interface and writes a setting, to
// see whether the kernel lets it. Being root is no proof: a container may have taken the
// right away, and so does AppArmor inside a user namespace.
func probe() error {
	ns, err := newNetNS()
	if err != nil {
		return err
	}
	defer ns.Close()
	return inNetNS(ns, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		lo, err := unix.NewIfreq("lo")
		if err != nil {
			return err
		}
		lo.SetUint16(unix.IFF_UP)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
			return err
		}
		setting, err := openSysctl("net/ipv4/ip_forward")
		if err != nil {
			return err
		}
		return setting.Close()
	})
}

// again runs the program in a new user namespace, waits and exits as it does.
// It returns only if the program could not be started.
func again() error {
	// The inner process is to die with this one, and the kernel looks at the
	// thread: it must not end before the process does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	// By this name, and not the path it stands for, the program is found even
	// where this user may not look into its folder, or it has been replaced.
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2)
	if err := cmd.Start(); err != nil {
		signal.Stop(signals)
		return err
	}
	go func() {
		for s := range signals {
			// What is typed at the terminal goes to every process in front of
			// it: passed on as well, it would arrive twice.
			if (s == syscall.SIGINT || s == syscall.SIGQUIT) && inForeground() {
				continue
			}
			cmd.Process.Signal(s)
		}
	}()
	cmd.Wait()
	exitAs(cmd.ProcessState.Sys().(syscall.WaitStatus))
	return nil
}

// inForeground reports whether the process is in front of its terminal, so that
// Ctrl-C reaches it and what it has started alike.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// exitAs ends the process as another has ended: by the same signal, so that a
// shell sees the same, or with the same code.
func exitAs(status syscall.WaitStatus) {
	if !status.Signaled() {
		os.Exit(status.ExitStatus())
	}
	s := status.Signal()
	// No second core for one crash.
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	signal.Reset(s)
	unix.Kill(unix.Getpid(), s)
	if s == syscall.SIGKILL {
		select {} // it is on its way
	}
	// Go's runtime handles some signals in its own way; a shell would say it so.
	os.Exit(128 + int(s))
}

// readProc returns a setting of the machine, or "" if it does not have it.
func readProc(path string) string {
	b, _ := os.ReadFile("/proc/sys/" + path)
	return strings.TrimSpace(string(b))
}

// unavailable explains why namespaces cannot be made. The settings that forbid
// it differ between distributions and kernels, and the errors are the same for
// several of them, so it looks at the settings too.
func unavailable(err error, read func(path string) string) error {
	e := &UnavailableError{Err: err}
	orRoot := func(remedy string) string { return remedy + ", or run it as root" }
	switch {
	case read("user/max_user_namespaces") == "0":
		e.Reason = "user namespaces are turned off"
		e.Remedy = orRoot("as root: sysctl user.max_user_namespaces=10000")
	case read("user/max_net_namespaces") == "0":
		e.Reason = "network namespaces are turned off"
		e.Remedy = "as root: sysctl user.max_net_namespaces=10000"
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EUSERS):
		e.Reason = "there are too many namespaces already"
		e.Remedy = "end other programs, or as root raise user.max_user_namespaces and user.max_net_namespaces"
	case read("kernel/unprivileged_userns_clone") == "0":
		e.Reason = "ordinary users may not make user namespaces"
		e.Remedy = orRoot("as root: sysctl kernel.unprivileged_userns_clone=1")
	case read("kernel/apparmor_restrict_unprivileged_userns") == "1":
		e.Reason = "AppArmor gives ordinary users no rights in user namespaces"
		e.Remedy = orRoot("as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0")
	case errors.Is(err, unix.EROFS):
		e.Reason = "/proc/sys is read-only, as in most containers"
		e.Remedy = "run it outside, or run the container with --privileged"
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS):
		e.Reason = "the kernel has none"
		e.Remedy = "use one built with CONFIG_USER_NS and CONFIG_NET_NS"
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		e.Reason = "they are forbidden, as in most containers"
		e.Remedy = "run it outside, or give the container the capabilities SYS_ADMIN and NET_ADMIN and no seccomp filter"
	default:
		return fmt.Errorf("lab: enter: %w", err)
	}
	return e
}
