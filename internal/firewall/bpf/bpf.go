// Package bpf verifies tokens in the kernel, in front of the tables. The program is
// token.c; what it does with a token is what key.Verifier does. It opens nothing
// itself: a packet with a right token gets a code, as its priority (skb->priority) or its
// mark, which the tables look up. An unknown code is as good as none. The highest bit is
// set where the token closes its door.
//
// # Loading and replacing
//
//	running, err := bpf.Find()                        // empty if nothing is attached
//	defer running.Close()
//	program, err := bpf.Load(config, devices, running)
//	defer program.Close()
//	…                                                 // rules with the codes of program.Pairs()
//	err = program.Attach(indexes...)
//
// Rules may be loaded before or after. A pair of device and door that the running
// program has too keeps its code and the time of its last token. Codes are drawn at
// random, and no other pair gets one that was in use.
//
// A process that is killed leaves the old program or the new one on each interface.
// Both have the same map of last times, so a token that one has accepted is a
// replay to the other.
//
// What is attached is all there is: no pin, no file, no process. A program goes
// when its last interface does, and with it what it knew. The next one accepts
// nothing that was made before it was loaded.
//
// # What a packet must be
//
// Tokens are looked for in UDP datagrams to the port, in ICMP and ICMPv6 echo
// requests, and in the data of a TCP SYN to the port, of 40 bytes each. IP options,
// extension headers and fragments have none. The program does not ask whether the
// packet is for an address of this host, or whether its sender can be there: the
// rules must, before they grant.
package bpf

import (
	_ "embed"
	"time"

	"postern/internal/key"
)

// The object holds no path and no date, so that compiling it again gives the same
// bytes (see TestObjectIsOfItsSource).
//
//go:generate clang-14 -target bpfel -mcpu=v3 -O2 -g -Wall -Wextra -Werror -ffile-compilation-dir=. -c token.c -o token.o

//go:embed token.o
var object []byte

// A Config is what the program asks of every token.
type Config struct {
	Site     key.Site
	Port     uint16 // where tokens arrive: of UDP, and of TCP for the data of a SYN; 0: none do
	Window   key.Window
	MustBind bool // refuse tokens that are not bound to the sender's address
	Carrier  Carrier
	Early    *Early // nil: nothing is counted or dropped early; those have their codes as priorities
}

// Closing is added to the code where a token closes its door.
const Closing = 1 << 31

// A Carrier is what of a packet has the code, for the tables to look up.
type Carrier int

const (
	Priority Carrier = iota // skb->priority
	Mark                    // skb->mark; a packet that others have marked stays as it is
)

// A Device may open doors.
type Device struct {
	ID     key.Device
	Secret key.Secret
	Until  time.Time // from when on it may not; zero: for ever
	Doors  []key.Door
}

// A Pair is a door that a device may open, and the newest token for it.
type Pair struct {
	Device key.Device
	Door   key.Door
	Code   uint32    // what a packet with a right token carries; above 65,535, and below Closing
	Last   time.Time // when the newest token was made; zero if there was none
}

// Counts has how many tokens were accepted, at 0, and refused, by key.Refusal. A
// packet that can be a token and is none counts as one of an unknown device.
type Counts [key.Refusals]uint64

// An Interface is one of the network namespace.
type Interface struct {
	Index    int
	Name     string
	Attached bool  // tokens that arrive there are verified
	Bonded   bool  // it is a port of a bond or a team, at which all arrives again that is not a copy
	vrf      bool  // it is one, or belongs to one
	below    bool  // what arrives may be for the address of another interface on top of it
	switched bool  // what arrives is for others to decide about, before the rules
	above    []int // the interfaces by which it may arrive next
}
