// Package demo shows what Postern does as a story in steps, and checks every
// statement of it with packets.
//
// It builds a small network in namespaces (see package lab), loads the rule set
// of a real policy into its gateway, and has two clients, Ann and Bob, scan,
// knock and connect with the kernel's own TCP. Answers are read from the wire
// after lab.Settle, so "no answer" means that there was none, not that nobody
// waited for it.
//
// A statement that does not hold is marked, and ends the story after its step.
package demo
