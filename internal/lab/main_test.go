//go:build linux

package lab_test

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"postern/internal/lab"
)

// role is the variable by which a test has its own binary play another part.
const role = "POSTERN_LAB_TEST_ROLE"

func TestMain(m *testing.M) {
	lab.Main(func() int {
		switch part := os.Getenv(role); part {
		case "":
			return m.Run()
		case "exit":
			return 7
		case "die":
			syscall.Kill(os.Getpid(), syscall.SIGTERM)
			select {}
		case "panic", "hold":
			hold(part)
		case "count":
			return count()
		}
		return 99
	})
}

// hold builds a network with programs in it, says in which namespaces, and
// stays or panics.
func hold(how string) {
	l := lab.New()
	a, b := l.Host("a"), l.Host("b")
	l.Connect(a, b, net4, net6)
	if err := l.Err(); err != nil {
		panic(err)
	}
	for _, h := range []*lab.Host{a, b} {
		// A program that has put another in the background, out of our sight.
		cmd := h.Command(background, "sh", "-c", "sleep 1000 & sleep 1000")
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		fmt.Println(namespaceOf(h))
	}
	if how == "panic" {
		// Not before the test has seen it all.
		fmt.Scanln()
		panic("as ordered")
	}
	time.Sleep(time.Hour) // and no select {}: without cgo the runtime takes that for a deadlock
}

// count says how many interrupts have come until it is told to end.
func count() int {
	interrupts, end := make(chan os.Signal, 9), make(chan os.Signal, 1)
	signal.Notify(interrupts, syscall.SIGINT)
	signal.Notify(end, syscall.SIGTERM)
	fmt.Println("ready")
	<-interrupts
	fmt.Println("interrupted")
	<-end
	fmt.Println("more:", len(interrupts))
	return 3
}
