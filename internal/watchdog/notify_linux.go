package watchdog

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// notify tells systemd about this service, if it wants to know (sd_notify(3)).
func notify(state string) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	conn, err := net.Dial("unixgram", name) // "@": an abstract one, as Go has it, too
	if err != nil {
		return
	}
	defer conn.Close()
	conn.Write([]byte(state))
}

// heartbeat returns how often systemd wants to hear that the service is alive; 0 for
// never.
func heartbeat() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	micros, err := strconv.ParseUint(os.Getenv("WATCHDOG_USEC"), 10, 63)
	if err != nil {
		return 0
	}
	return time.Duration(micros) * time.Microsecond / 3
}

// InJournal reports whether a file is the stream to the systemd journal.
func InJournal(f *os.File) bool {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	device, inode, _ := strings.Cut(os.Getenv("JOURNAL_STREAM"), ":")
	return device == fmt.Sprint(st.Dev) && inode == fmt.Sprint(st.Ino)
}
