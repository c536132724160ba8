package rewrite_test

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/internal/rewrite"
)

// writerPath names the variable that makes the test program a writer that stays
// in its change until it is killed.
const writerPath = "POSTERN_TEST_WRITE"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerPath); path != "" {
		rewrite.File(path, rewrite.Private, func([]byte) ([]byte, error) {
			os.Stdout.WriteString("writing\n")
			time.Sleep(time.Minute)
			return nil, errors.New("nobody killed this process")
		})
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestKilledWriter: a writer excludes others while it lives, and leaves nothing
// in their way when it is killed.
func TestKilledWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerPath+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the other process said %q: %v", line, err)
	}
	// It had begun to write the new text.
	if err := os.WriteFile(path+".postern-new", []byte("half of it"), 0o644); err != nil {
		t.Fatal(err)
	}
	write := func() (bool, error) {
		return rewrite.File(path, rewrite.Private, func([]byte) ([]byte, error) { return []byte("new\n"), nil })
	}
	synctest.Test(t, func(t *testing.T) {
		_, err := write()
		if _, ok := errors.AsType[*rewrite.BusyError](err); !ok {
			t.Errorf("while the other process writes: %v", err)
		}
	})
	cmd.Process.Kill()
	cmd.Wait()
	if changed, err := write(); err != nil || !changed {
		t.Fatalf("after the other process was killed: %v, %v", changed, err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "new\n" {
		t.Errorf("the file is %q, %v", text, err)
	}
	if _, err := os.Stat(path + ".postern-new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the unfinished text is still there: %v", err)
	}
}

// TestCheckRegularWhileWritten: a file that others create at that moment is not taken for a
// link that leads nowhere.
func TestCheckRegularWhileWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	var writer sync.WaitGroup
	writer.Go(func() {
		for range 1000 {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Error(err)
			}
			os.Remove(path)
		}
	})
	for range 5000 {
		if err := rewrite.CheckRegular(path); err != nil {
			t.Error(err)
			break
		}
	}
	writer.Wait()
}
