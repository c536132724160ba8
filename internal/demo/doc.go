// Package demo tells what Postern does as a story, and proves every sentence of
// it with packets.
//
// It builds a small network in namespaces (see package lab), loads the rule set
// of a real policy into its gateway, and has two clients, Ann and Bob, scan,
// knock and connect. Their connection attempts are those of the kernel's own
// TCP. What came back is read off the wire, after lab.Settle, so that "no
// answer" means that there was none and not that nobody waited for it.
//
// A claim that does not hold is marked, and ends the story after its step.
package demo
