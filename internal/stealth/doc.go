// Package stealth has no code of its own, only tests: they look at a host
// that Postern hides services on as an attacker would, and must see nothing.
//
//	scan_test.go     nmap, every kind of scan, before, during and after knocks
//	probe_test.go    hand-made packets: all of a host's ports must answer alike
//	segment_test.go  packets that go on to another address behind the rules
//	stamp_test.go    the one millisecond in which all of them answer another packet
//	nat_test.go      the same of ports that another program diverts
//	guard_test.go    what is not hidden is let alone
//	answer_test.go   the answers beside those of a host without rules
//
// What can be told all the same is measured here too, and listed in
// docs/cover.md: a test holds the page to what it measures.
//
// Timing is not looked at.
package stealth
