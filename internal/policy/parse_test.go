package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"postern/internal/document"
	"postern/internal/document/documenttest"
)

// refused parses an invalid policy and returns the diagnostics.
func refused(t *testing.T, data string) *InvalidError {
	t.Helper()
	_, err := Parse("policy.yaml", []byte(data))
	var invalid *InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("want an *InvalidError, got %v", err)
	}
	documenttest.Pointed(t, []byte(data), invalid)
	return invalid
}

const minimal = `version: 1
posture: closed
doors:
  ssh:
    service: tcp/22
    knock: {sequence: [1234, 2345, 3456]}
`

func TestTooLarge(t *testing.T) {
	fill := func(size int) string {
		return minimal + "#" + strings.Repeat("x", size-len(minimal)-2) + "\n"
	}
	if _, err := Parse("policy.yaml", []byte(fill(MaxSize))); err != nil {
		t.Errorf("a file of 1 MiB: %v", err)
	}
	const want = "policy.yaml:1:1: the file is larger than 1 MiB\n" +
		"hint: a policy is a small text file: check the name of the file"
	for _, size := range []int{MaxSize + 1, 10 << 20} {
		if got := refused(t, fill(size)).Error(); got != want {
			t.Errorf("a file of %d bytes: got\n%s\nwant\n%s", size, got, want)
		}
	}
}

// TestAllAtOnce checks that an error in every door is found, and that the
// number of reported errors is limited.
func TestAllAtOnce(t *testing.T) {
	for _, doors := range []int{1, document.MaxDiagnostics, document.MaxDiagnostics + 1, 5000} {
		var b strings.Builder
		b.WriteString("version: 1\nposture: closed\ndoors:\n")
		for i := range doors {
			fmt.Fprintf(&b, "  d%d: {service: 0, knock: {sequence: [%d, %d]}}\n", i, i/200+1, i%200+1)
		}
		e := refused(t, b.String())
		if len(e.Diagnostics)+e.More != doors || len(e.Diagnostics) != min(doors, document.MaxDiagnostics) {
			t.Errorf("%d mistakes: %d diagnostics and %d more", doors, len(e.Diagnostics), e.More)
		}
		if told := strings.HasSuffix(e.Error(), fmt.Sprintf("\nand %d more", doors-document.MaxDiagnostics)); told != (doors > document.MaxDiagnostics) {
			t.Errorf("%d mistakes, but the error ends %q", doors, e.Error()[len(e.Error())-40:])
		}
	}
}

// TestOneLongLine checks that diagnostics in a line of a megabyte, each of
// which must find its place by counting characters, stay cheap and short.
func TestOneLongLine(t *testing.T) {
	e := refused(t, `{version: 1, posture: "é", interfaces: [`+strings.Repeat("lo, ", 250_000)+"]}")
	if n := len(e.Error()); n > 100_000 {
		t.Errorf("the error is %d bytes long", n)
	}
	if e.More < 240_000 {
		t.Errorf("only %d more", e.More)
	}
}

// many returns a policy of n doors, as large as a large site would have.
func many(n int, oneService bool) []byte {
	var b strings.Builder
	b.WriteString("version: 1\nposture: closed\ndoors:\n")
	for i := range n {
		service := 1 + i%60000
		if oneService {
			service = 22
		}
		fmt.Fprintf(&b, "  door%d: {service: %d, knock: {sequence: [%d, %d, %d]}}\n", i, service, 1000+i%50, 2000+i/50%50, 3000+i/2500)
	}
	return []byte(b.String())
}

func TestTenThousandDoors(t *testing.T) {
	for _, oneService := range []bool{false, true} {
		p, err := Parse("policy.yaml", many(10_000, oneService))
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Doors) != 10_000 {
			t.Errorf("%d doors", len(p.Doors))
		}
		sound(t, p)
	}
}

// The time for a door must not grow with the number of doors: compare the
// results of one run.
func BenchmarkParse(b *testing.B) {
	for _, doors := range []int{100, 1000, 10_000} {
		for _, oneService := range []bool{false, true} {
			b.Run(fmt.Sprintf("doors=%d/oneService=%v", doors, oneService), func(b *testing.B) {
				data := many(doors, oneService)
				for b.Loop() {
					if _, err := Parse("policy.yaml", data); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*doors), "ns/door")
			})
		}
	}
}
