package migrate

import (
	"os"
	"strings"
	"testing"
)

// TestExceptions writes exceptions into the recipe, each of which keeps somebody
// out whom the policy lets in, or lets in on conditions that a policy does not
// have. Each must be listed at the line that makes it.
func TestExceptions(t *testing.T) {
	const (
		jump   = "-A INPUT -j KNOCKING"
		set1   = "-A GATE1 -p tcp"
		set3   = "-A GATE3 -p tcp"
		check  = "-A KNOCKING -m recent --rcheck --seconds 10"
		accept = "-A SUCCESS -p tcp"
	)
	before := func(line, more string) [2]string { return [2]string{line, more + "\n" + line} }
	with := func(line, more string) [2]string {
		chain, rest, _ := strings.Cut(line[len("-A "):], " ")
		return [2]string{line, "-A " + chain + " " + more + " " + rest}
	}
	text, err := os.ReadFile("testdata/howto.rules")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change [2]string
		line   string // that is listed
		why    string
	}{
		{"a drop", before(jump, "-A INPUT -s 10.0.0.66/32 -j DROP"), "-A INPUT -s 10.0.0.66/32 -j DROP", "shuts the door ssh to what comes from 10.0.0.66,"},
		{"a drop after a log", before(jump, "-A INPUT -s 10.0.0.66/32 -j LOG\n-A INPUT -s 10.0.0.66/32 -j DROP"), "-A INPUT -s 10.0.0.66/32 -j DROP", "from 10.0.0.66,"},
		{"a return", before("-A KNOCKING -j GATE1", "-A KNOCKING -s 10.0.0.66/32 -j RETURN"), "-A KNOCKING -s 10.0.0.66/32 -j RETURN", "from 10.0.0.66,"},
		{"a ban", before(jump, "-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd\n-A f2b-sshd -s 198.51.100.66/32 -j REJECT\n-A f2b-sshd -j RETURN"),
			"-A f2b-sshd -s 198.51.100.66/32 -j REJECT", "from 198.51.100.66,"},
		{"a list that returns", before(jump, "-A INPUT -s 10.0.0.0/8 -j SEEN\n-A SEEN -j LOG\n-A INPUT -s 10.9.0.0/16 -j DROP"), "-A INPUT -s 10.9.0.0/16 -j DROP", "from 10.9.0.0/16,"},
		{"a knock dropped", before(jump, "-A INPUT -s 10.0.0.66/32 -p tcp --dport 2345 -j DROP"), "-A INPUT -s 10.0.0.66/32 -p tcp --dport 2345 -j DROP", "from 10.0.0.66,"},
		{"all but a network", before(jump, "-A INPUT ! -s 10.0.0.0/8 -i eth7 -j DROP"), "-A INPUT ! -s 10.0.0.0/8 -i eth7 -j DROP", "in at eth7,"},
		{"two at once", before(jump, "-A INPUT -s 10.0.0.0/8 -i eth7 -j DROP"), "-A INPUT -s 10.0.0.0/8 -i eth7 -j DROP", "from 10.0.0.0/8 in at eth7,"},
		{"accept, not from", with(accept, "! -s 10.0.0.0/8"), "-A SUCCESS ! -s", "from 10.0.0.0/8,"},
		{"accept, not at", with(accept, "! -i eth1"), "-A SUCCESS ! -i", "in at eth1,"},
		{"accept, not to", with(accept, "! -d 10.0.0.1/32"), "-A SUCCESS ! -d", "to the address 10.0.0.1,"},
		{"first knock, not from", with(set1, "! -s 10.0.0.0/8"), "-A GATE1 ! -s", "from 10.0.0.0/8,"},
		{"third knock, not at", with(set3, "! -i eth1"), "-A GATE3 ! -i", "in at eth1,"},
		{"jump, not from", with(jump, "! -s 10.0.0.0/8"), "-A INPUT ! -s", "from 10.0.0.0/8,"},
		{"check, not from", with(check, "! -s 10.0.0.0/8"), "-A KNOCKING ! -s", "from 10.0.0.0/8,"},
		{"sender's port", with(accept, "-p tcp --sport 1024:65535"), "-A SUCCESS -p tcp --sport", whySourcePort},
		{"both ports", before(accept, "-A SUCCESS -p tcp -m multiport --ports 22 -j DROP"), "-A SUCCESS -p tcp -m multiport", whySourcePort},
		{"connlimit", with(accept, "-p tcp -m connlimit --connlimit-upto 2"), "-A SUCCESS -p tcp -m connlimit", "no limit"},
		{"connlimit, not above", with(accept, "-p tcp -m connlimit ! --connlimit-above 2"), "-A SUCCESS -p tcp -m connlimit", "no limit"},
		{"limit", with(set1, "-m limit --limit 3/min"), "-A GATE1 -m limit", "no limit"},
		{"hashlimit", before(jump, "-A INPUT -p tcp -m hashlimit --hashlimit-above 3/min --hashlimit-name x -j DROP"), "-A INPUT -p tcp -m hashlimit", "no limit"},
		{"hitcount", before(jump, "-A INPUT -m recent --update --hitcount 9 --seconds 60 --name F -j DROP"), "-A INPUT -m recent --update", "no limit"},
		{"rttl", [2]string{"--rcheck --seconds 10", "--rcheck --rttl --seconds 10"}, "-A KNOCKING -m recent --rcheck --rttl", "how far"},
		{"set", before(jump, "-A INPUT -m set --match-set bad src -j DROP"), "-A INPUT -m set", `the match "set"`},
		{"geoip", before(jump, "-A INPUT -m geoip ! --src-cc DE -j DROP"), "-A INPUT -m geoip", `the match "geoip"`},
		{"time", before(jump, "-A INPUT -m time --timestart 22:00 --timestop 6:00 -j DROP"), "-A INPUT -m time", `the match "time"`},
		{"a match after the jump", before(jump, "-A INPUT -j DROP -m time --timestart 22:00"), "-A INPUT -j DROP -m time", `the match "time"`},
		{"a match that asks nothing", before(jump, "-A INPUT -m rpfilter -j DROP"), "-A INPUT -m rpfilter", `the match "rpfilter"`},
		{"a port before the knocks", before(jump, "-A INPUT -p tcp --dport 113 -j DROP"), "-A INPUT -p tcp --dport 113", "does not send a client back"},
		{"the host itself", before(jump, "-A INPUT -m addrtype --src-type LOCAL -j DROP"), "-A INPUT -m addrtype", "no new connection"},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := strings.Replace(string(text), c.change[0], c.change[1], 1)
			if changed == string(text) {
				t.Fatalf("%q is not in the recipe", c.change[0])
			}
			result, err := Read("rules", []byte(changed))
			if err != nil {
				t.Fatal(err)
			}
			good(t, result.Policy)
			for _, l := range result.Remarks {
				if strings.HasPrefix(l.Text, c.line) && strings.Contains(l.Why, c.why) {
					return
				}
			}
			t.Errorf("%q is not listed because of %q:\n%v", c.line, c.why, result.Remarks)
		})
	}
}
