package pause

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func listen(t *testing.T, dir string) *Listener {
	t.Helper()
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestAsk: who asks waits for the answer, and the pause ends with resume.
func TestAsk(t *testing.T) {
	dir := t.TempDir()
	l := listen(t, dir)
	defer l.Close()
	granted, over := make(chan bool, 1), make(chan bool, 1)
	go func() {
		r := <-l.Requests()
		time.Sleep(20 * time.Millisecond)
		granted <- true
		r.Grant(time.Minute, func() { over <- true })
	}()
	resume := Ask(dir)
	select {
	case <-granted:
	default:
		t.Error("went on before the answer")
	}
	select {
	case <-over:
		t.Error("over before its end")
	case <-time.After(20 * time.Millisecond):
	}
	resume()
	<-over
}

// TestPauseEnds: a program that hangs does not pause the watchdog for good.
func TestPauseEnds(t *testing.T) {
	dir := t.TempDir()
	l := listen(t, dir)
	defer l.Close()
	over := make(chan bool)
	go func() { (<-l.Requests()).Grant(10*time.Millisecond, func() { over <- true }) }()
	defer Ask(dir)()
	<-over
}

// TestNobodyThere: without a watchdog, or after one that died, nothing is waited for.
func TestNobodyThere(t *testing.T) {
	dir := t.TempDir()
	Ask(dir)()
	l := listen(t, dir)
	l.socket.SetUnlinkOnClose(false)
	l.Close()
	if _, err := os.Lstat(filepath.Join(dir, socketName)); err != nil {
		t.Fatal("it left nothing behind", err)
	}
	start := time.Now()
	Ask(dir)()
	if took := time.Since(start); took > patience/2 {
		t.Errorf("waits %v for a process that died", took)
	}
	listen(t, dir).Close() // and another can take its place
}

func TestOneWatchdog(t *testing.T) {
	dir := t.TempDir()
	defer listen(t, dir).Close()
	var running *RunningError
	if _, err := Listen(dir); !errors.As(err, &running) || running.Dir != dir {
		t.Errorf("a second one: %v", err)
	}
}
