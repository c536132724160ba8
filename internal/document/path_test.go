package document

import "testing"

func TestQuotedPath(t *testing.T) {
	for path, want := range map[string]string{
		`C:\Users\ann\AppData\Roaming\postern\hosts.yaml`: `"C:\Users\ann\AppData\Roaming\postern\hosts.yaml"`,
		`\\server\share\policy.yaml`:                      `"\\server\share\policy.yaml"`,
		"/etc/postern/policy.yaml":                        `"/etc/postern/policy.yaml"`,
		"/home/ann müller/x":                              `"/home/ann müller/x"`,
		"":                                                `""`,
	} {
		if got := QuotedPath(path); got != want {
			t.Errorf("%s: got %s", path, got)
		}
	}
	if got := QuotedPath("a\x1b[31m\n"); got == "\"a\x1b[31m\n\"" {
		t.Errorf("a terminal would obey %q", got)
	}
}
