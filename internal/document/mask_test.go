package document

import (
	"strings"
	"testing"
)

func TestMasked(t *testing.T) {
	for line, want := range map[string]string{
		"      sequence: [1234, 70000]":                                   "      sequence: [****, *****]",
		"ssh: {service: tcp/22, knock: {sequence: [9, udp/8, 7], x: 3s}}": "ssh: {service: tcp/22, knock: {sequence: [*, udp/*, *], x: 3s}}",
		"sequnce: [47011, 5120, icmp/echo, foo, '31877', \"5:tcp\"]":      "sequnce: [*****, ****, icmp/echo, foo, '*****', \"*:tcp\"]",
		"sequence: [1234, 2345":                                           "sequence: [****, ****",
		"x: [1234, 2345":                                                  "x: [****, ****",
		"sequence: 1234 2345,3456":                                        "sequence: **** ****,****",
		"knocks: 7000,8000:udp":                                           "knocks: ****,****:udp",
		"    knock: [20914, udp/7061, 41230] # at home":                   "    knock: [*****, udp/****, *****] # at home",
		"      - 47011":                                                   "      - *****",
		"  - udp/4000 # the second":                                       "  - udp/**** # the second",
		"        5120,":                                                   "        ****,",
		"        5120]":                                                   "        ****]",
		"service: [tcp/22, 80]":                                           "service: [tcp/22, 80]",
		"service: tcp/70000":                                              "service: tcp/70000",
		"  - {service: tcp/25, from: 192.0.2.1}":                          "  - {service: tcp/25, from: 192.0.2.1}",
		"from: [192.0.2.0/24, 2001:db8::1]":                               "from: [192.0.2.0/24, 2001:db8::1]",
		"step_timeout: 3":                                                 "step_timeout: 3",
		"  - 192.0.2.0/24":                                                "  - 192.0.2.0/24",
		"posture: closd":                                                  "posture: closd",
		"":                                                                "",
		"key: c2VjcmV0c2VjcmV0c2VjcmV0":                                   "key: ************************",
		"home: {key: \"c2Vj.cmV0\", token: 1}":                            "home: {key: \"*********\", token: 1}",
		"secret : 'c2Vjé' # of ann":                                       "secret : '*****' # of ann",
		"kye: c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U= # mine": "kye: ******************************************** # mine",
		"knock: {key: [alice, bob]}":                               "knock: {key: [alice, bob]}",
		"keys: {port: udp/40123}":                                  "keys: {port: udp/40123}",
		"a-name-that-is-longer-than-forty-characters-1: 2":         "a-name-that-is-longer-than-forty-characters-1: 2",
		"keys:": "keys:",
		"[1234, é]" + strings.Repeat(" ", maxRead): "[****, *]" + strings.Repeat(" ", maxRead),
	} {
		if got := masked(line); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}
