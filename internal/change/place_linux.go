package change

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	stateDir   = "/var/lib/postern"
	runtimeDir = "/run/postern"

	ownNamespace = "/proc/thread-self/ns/net"
)

// Here returns the place of the calling thread's network namespace.
func Here() *Place {
	state, runtime := stateDir, runtimeDir
	if !inFirstNamespace() {
		state = fmt.Sprintf("%s/netns-%d", runtimeDir, namespaceID())
		runtime = state
	}
	return At(fromSystemd("STATE_DIRECTORY", state), fromSystemd("RUNTIME_DIRECTORY", runtime))
}

// inFirstNamespace reports whether this is the network namespace of process 1. Each has
// files of its own in /proc, and anybody may look at those. Who has fewer capabilities than
// process 1, as in the units' sandbox, may not look at its ns/net.
func inFirstNamespace() bool {
	own, err := os.Stat("/proc/thread-self/net/dev")
	if err != nil {
		return false
	}
	first, err := os.Stat("/proc/1/net/dev")
	return err == nil && os.SameFile(own, first)
}

// namespaceID returns a number that no other network namespace has until the machine
// is booted again. Before Linux 5.14 that is the inode's, which the kernel uses again
// for another one when the namespace is gone.
func namespaceID() uint64 {
	if fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err == nil {
		defer unix.Close(fd)
		if cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err == nil {
			return cookie
		}
	}
	var st unix.Stat_t
	unix.Stat(ownNamespace, &st) // if it fails, 0 is as good as anything
	return st.Ino
}

// clock returns the time since the machine booted. It goes on while the machine is
// suspended.
func clock() time.Duration {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // fails on no Linux that we run on
	return time.Duration(t.Nano())
}
