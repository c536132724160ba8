//go:build linux

// Package nftables runs a knock automaton in the Linux kernel's nftables, in a
// table of Postern's own: `inet postern`.
//
// Compile turns a machine into a Ruleset, a plain value that knows no host. Its
// text form is what `nft -f` reads; Apply loads the same value over netlink,
// without the nft program. Both forms come from one list of statements
// (statement.go and its like), and a test holds the real nft to it: what the text loads and
// what Apply loads must list the same.
//
// # How a packet is judged
//
//	syn       prerouting raw     new TCP connections to this host, before conntrack
//	packet    prerouting mangle  UDP and echo requests of no known flow
//	divert    prerouting dstnat  what was admitted to a forwarded service
//	undivert  prerouting dstnat  what is refused stays here, whatever others divert
//	refused   input raw          the answer to what the first two did not admit
//	input     input filter       what is left: only what was admitted gets in
//
// The work is done by lookups in tables, never by a rule for each door, so that
// a packet's cost does not grow with the policy. (There is one exception: where
// several doors open a service, a source that has any grant is looked for under
// the grant of each.) `meta priority` carries the state or the grant from one
// lookup to the next: it is a number of the packet that nothing uses on the way
// in, and it is set back before the packet goes on. (`meta mark` would do, but it
// belongs to the administrator.)
//
// # Other systems
//
// The package is for 64-bit Linux alone: github.com/google/nftables, whose
// expressions rules are made of, does not compile anywhere else. So nothing that
// other systems need may import it.
package nftables
