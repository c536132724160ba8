package bpf

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	nl "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/key"
)

// What early.h has.
const (
	mapEarly      = "early"
	mapRecent     = "recent"
	mapNoted      = "noted"
	mapAttempts   = "attempts"
	mapInterfaces = "interfaces"
	mapAddresses  = "addresses"
	mapTrusted    = "trusted"

	flagCountsEarly = 4 // of the configuration
	flagTells       = 8

	kindUDPKnocks  = 1
	kindEchoKnocks = 2
	kindTrust      = 4
	kindUDPCounts  = 8
	kindRenews     = 16

	// The places of what is counted beside the outcomes of tokens.
	countDropped      = int(key.Refusals)
	countDroppedBytes = countDropped + 1

	// How many interfaces, addresses and trusted senders there is room for. It takes no
	// memory that is not used. An interface or an address beyond that is left to the rules.
	mostPlaces = 1 << 16
)

type earlyValue struct {
	Seed                      key.SipKey
	Source4, Source6, Budget6 [2]uint64
	Patience, Full            uint64 // ns; ns of CLOCK_MONOTONIC
	Cost, Most                uint64 // ns
	Lasts                     uint32 // units of notes
	Kinds                     uint32
	Codes                     Codes
	NamedTCP, NamedUDP        Ports
	First                     Ports
}

// Codes are the priorities that the program gives, beside the codes of tokens: two blocks of
// codeBlock each, which begin at these. Their CodeBits say what it has found out, and the other
// bits of some are the port of a first knock.
type Codes struct {
	Count uint32 // another one than that of the program before, which has counted by other rules
	Tell  uint32 // that of the program before, whose notes outlive it
}

const (
	codeBlock = 1 << 20
	firstCode = 1 << 30 // more than any code of a token, and less than Closing

	// CodeBits are the bits that are alike for all ports.
	CodeBits = 0xffff << 16
	// NoteParts are the parts of a first knock's time: see Told.
	NoteParts = 8
)

// Counted returns the priority of what was counted within the budget of its source.
func (c Codes) Counted() uint32 { return c.Count }

// Over returns that of what was over the budget.
func (c Codes) Over() uint32 { return c.Count + 1<<16 }

// Noted returns that of what was counted within the budget of a source whose first knock, to port
// 0, was noted.
func (c Codes) Noted() uint32 { return c.Count + 2<<16 }

// Told returns that of what was not counted, where of that knock's time so many parts are left,
// from 1 to NoteParts.
func (c Codes) Told(left int) uint32 { return c.Tell + uint32(left)<<16 }

// drawCodes returns the codes for a program that follows another one.
func drawCodes(before Codes) Codes {
	c := before
	for c.Tell == 0 {
		c.Tell = randomBlock()
	}
	for c.Count == before.Count || c.Count == c.Tell {
		c.Count = randomBlock()
	}
	return c
}

func randomBlock() uint32 { return firstCode + random()%(firstCode/codeBlock-1)*codeBlock }

// notesValue are the first knocks that are noted in one place.
type notesValue [noteChoice]struct {
	Source [16]byte
	What   uint64
}

const (
	noteChoice = 4
	notePort   = 48 // bits that are a time
)

// noteUnit is the unit of the times of notes.
const noteUnit = 1 << 20 * time.Nanosecond

type trustedKey struct {
	Bits      uint32 // of what follows
	Interface uint32
	Sender    [16]byte
}

// monotonic returns the time that the program goes by. It stands still while the machine
// is suspended, as do the timeouts of sets.
func monotonic() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0, fmt.Errorf("cannot read the kernel's clock: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// maskOf returns the first bits of an address as the program reads them.
func maskOf(bits int) [2]uint64 {
	m := net.CIDRMask(bits, 128)
	return [2]uint64{binary.LittleEndian.Uint64(m), binary.LittleEndian.Uint64(m[8:])}
}

// value returns what the program reads. It begins with nothing known: any source may have
// made progress before. The seed and the codes are of the program before, or zero.
func (e *Early) value(seed key.SipKey, before Codes) (v earlyValue, err error) {
	now, err := monotonic()
	if err != nil {
		return v, err
	}
	const mapped = 96 // bits of an IPv6 address before an IPv4 one
	cost := time.Second / time.Duration(e.Budget.Rate)
	v = earlyValue{
		Seed:     seed,
		Source4:  maskOf(mapped + e.Source.IPv4),
		Source6:  maskOf(e.Source.IPv6),
		Budget6:  maskOf(automaton.AttemptPrefix(e.Source, netip.IPv6Unspecified()).Bits()),
		Patience: uint64(e.Patience),
		Full:     uint64(now + e.Patience),
		Cost:     uint64(cost),
		Most:     uint64(cost) * uint64(e.Budget.Burst),
		NamedTCP: e.NamedTCP,
		NamedUDP: e.NamedUDP,
		First:    e.First,
		Codes:    drawCodes(before),
	}
	if e.FirstLasts > 0 {
		v.Lasts = uint32(e.FirstLasts/noteUnit) + 1
	}
	if e.Renews {
		v.Kinds |= kindRenews
	}
	if e.UDPKnocks {
		v.Kinds |= kindUDPKnocks
	}
	if e.EchoKnocks {
		v.Kinds |= kindEchoKnocks
	}
	if len(e.Trusted) > 0 {
		v.Kinds |= kindTrust
	}
	return v, nil
}

// prepareEarly sizes the maps of what is counted early. Where a program runs that counts,
// its budgets are kept, and its notes.
func prepareEarly(spec *ebpf.CollectionSpec, e *Early, running *Running, replace map[string]*ebpf.Map) (v earlyValue, err error) {
	for _, name := range []string{mapInterfaces, mapAddresses, mapTrusted} {
		spec.Maps[name].MaxEntries = mostPlaces
	}
	if e == nil {
		spec.Maps[mapRecent].MaxEntries, spec.Maps[mapAttempts].MaxEntries, spec.Maps[mapNoted].MaxEntries = 1, 1, 1
		return v, nil
	}
	if e.FirstLasts == 0 {
		spec.Maps[mapNoted].MaxEntries = 1 // it takes 24 MB otherwise
	}
	var codes Codes
	var seed [16]byte
	rand.Read(seed[:])
	secret := key.SipKey{binary.LittleEndian.Uint64(seed[:]), binary.LittleEndian.Uint64(seed[8:])}
	if old := running.newest(); old != nil && old.maps[mapAttempts].MaxEntries() == spec.Maps[mapAttempts].MaxEntries {
		var before earlyValue
		if err := old.maps[mapEarly].Lookup(uint32(0), &before); err != nil {
			return v, fmt.Errorf("cannot read what was counted early: %w", err)
		}
		secret, codes = before.Seed, before.Codes
		replace[mapAttempts] = old.maps[mapAttempts]
		if old.maps[mapNoted].MaxEntries() == spec.Maps[mapNoted].MaxEntries {
			replace[mapNoted] = old.maps[mapNoted]
		}
	}
	return e.value(secret, codes)
}

// fillEarly fills the maps of what is counted early.
func (p *Program) fillEarly(e *Early, v earlyValue, running *Running) error {
	if e == nil {
		return nil
	}
	if err := p.maps[mapEarly].Put(uint32(0), v); err != nil {
		return fmt.Errorf("the kernel takes no configuration: %w", err)
	}
	if running == nil {
		found, err := Find()
		if err != nil {
			return err
		}
		defer found.Close()
		running = found
	}
	return p.locate(e, running)
}

// locate tells the program of the interfaces and addresses that there are. It leaves out
// an interface at whose ingress programs, filters or rules of others are, and the ports of
// others' switches: what comes there may be for them before any rule of ours is asked. It
// leaves out VRFs, whose addresses are not the host's. What is below one of these is left out
// with it: a packet comes there first. For the rules, a packet that comes by a port of a bridge
// comes by the bridge. So where interfaces differ to them, what is below another one is left
// out, too.
func (i *instance) locate(e *Early, running *Running) error {
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("cannot list addresses: %w", err)
	}
	ingress, err := ingressDevices()
	if err != nil {
		return err
	}
	counted, own, trusted := map[uint32]uint8{}, map[[16]byte]uint8{}, map[trustedKey]uint8{}
	inVRF, alike := map[int]bool{}, e.Interfaces == nil
	left := running.leftOut(func(at Interface) bool {
		return at.vrf || at.switched || running.others[at.Index] || ingress.has(at.Name)
	})
	for _, t := range e.Trusted {
		alike = alike && t.Interface == ""
	}
	for _, at := range running.interfaces {
		inVRF[at.Index] = at.vrf
		governed := at.Name != "lo"
		if e.Interfaces != nil {
			governed = slices.Contains(e.Interfaces, at.Name)
		}
		if !governed || left[at.Index] || at.below && !alike || len(counted) == mostPlaces {
			continue
		}
		counted[uint32(at.Index)] = 1
		for _, t := range e.Trusted {
			if t.Interface != "" && t.Interface != at.Name {
				continue
			}
			k := trustedKey{Bits: 32, Interface: uint32(at.Index)}
			if t.From.IsValid() {
				k.Sender = t.From.Addr().As16()
				k.Bits += uint32(128 - t.From.Addr().BitLen() + t.From.Bits())
			}
			trusted[k] = 1
		}
	}
	for _, a := range addresses {
		const absent = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
		if addr, ok := netip.AddrFromSlice(a.IP); ok && a.Flags&absent == 0 && !inVRF[a.LinkIndex] && len(own) < mostPlaces {
			own[addr.As16()] = 1
		}
	}
	// In an order in which no interface is counted without those who are trusted there.
	return errors.Join(
		keepOnly(i.maps[mapInterfaces], counted), keepOnly(i.maps[mapAddresses], own),
		addAll(i.maps[mapTrusted], trusted), addAll(i.maps[mapAddresses], own), addAll(i.maps[mapInterfaces], counted),
		keepOnly(i.maps[mapTrusted], trusted),
	)
}

// leftOut returns the interfaces that are to be left out, and all below one of these.
func (r *Running) leftOut(is func(Interface) bool) map[int]bool {
	left := map[int]bool{}
	for again := true; again; {
		again = false
		for _, at := range r.interfaces {
			if !left[at.Index] && (is(at) || slices.ContainsFunc(at.above, func(index int) bool { return left[index] })) {
				left[at.Index], again = true, true
			}
		}
	}
	return left
}

// keepOnly deletes all from a map but some entries.
func keepOnly[K comparable](m *ebpf.Map, wanted map[K]uint8) error {
	var k K
	var v uint8
	var gone []K
	all := m.Iterate()
	for all.Next(&k, &v) {
		if wanted[k] == 0 {
			gone = append(gone, k)
		}
	}
	if err := all.Err(); err != nil {
		return fmt.Errorf("cannot read a BPF map: %w", err)
	}
	for _, k := range gone {
		if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("cannot delete from a BPF map: %w", err)
		}
	}
	return nil
}

// addAll adds entries to a map.
func addAll[K comparable](m *ebpf.Map, entries map[K]uint8) error {
	for k, v := range entries {
		if err := m.Put(k, v); err != nil {
			return fmt.Errorf("cannot add to a BPF map: %w", err)
		}
	}
	return nil
}

// newCollection loads the program and its maps. Where UDP is to be counted, it reports
// whether the kernel lets the program ask connection tracking. Otherwise the calls for that
// are taken out, and UDP is left to the rules.
func newCollection(spec *ebpf.CollectionSpec, options ebpf.CollectionOptions, udp bool) (_ *ebpf.Collection, counts bool, err error) {
	if udp {
		loadConntrack()
		if c, err := ebpf.NewCollectionWithOptions(spec, options); err == nil {
			return c, true, nil
		}
	}
	silent := spec.Copy()
	code := silent.Programs[programName].Instructions
	for i := range code {
		if code[i].IsKfuncCall() {
			code[i] = asm.Mov.Imm(asm.R0, 0)
		}
	}
	c, err := ebpf.NewCollectionWithOptions(silent, options)
	return c, false, err
}

// loadConntrack has the kernel load the modules of connection tracking, which the rules are
// about to need anyway: a program can ask only what is loaded. The kernel does so as it takes
// a question about connections, before Send returns; nobody reads the answer. Where that
// fails, newCollection finds out what follows.
func loadConntrack() {
	conn, err := nl.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	const stats = 5 // IPCTNL_MSG_CT_GET_STATS
	conn.Send(nl.Message{
		Header: nl.Header{Type: unix.NFNL_SUBSYS_CTNETLINK<<8 | stats, Flags: nl.Request},
		Data:   make([]byte, 4), // struct nfgenmsg: of any family
	})
}

// Codes returns the priorities of what the program counts early. They are zero if it
// counts nothing.
func (i *instance) Codes() (Codes, error) {
	var c configValue
	var v earlyValue
	if err := i.maps[mapConfig].Lookup(uint32(0), &c); err != nil {
		return Codes{}, fmt.Errorf("cannot read a BPF map: %w", err)
	}
	if c.Flags&flagCountsEarly == 0 {
		return Codes{}, nil
	}
	if err := i.maps[mapEarly].Lookup(uint32(0), &v); err != nil {
		return Codes{}, fmt.Errorf("cannot read a BPF map: %w", err)
	}
	return v.Codes, nil
}

// Codes returns the priorities of what is counted early, or zero if nothing is.
func (r *Running) Codes() (Codes, error) {
	if i := r.newest(); i != nil {
		return i.Codes()
	}
	return Codes{}, nil
}

// PauseEarly has nothing counted or dropped early, until Resume is called or another
// program is attached: while rules are replaced nobody else must decide. What is noted of first
// knocks the rules are told all the same, whichever they are.
func (r *Running) PauseEarly() (resume func() error, err error) {
	var paused []*instance
	for _, i := range r.instances {
		if !i.readable {
			continue
		}
		codes, err := i.Codes()
		if err != nil {
			return nil, err
		}
		if codes == (Codes{}) {
			continue
		}
		if err := i.switchEarly(flagCountsEarly, false); err != nil {
			return nil, err
		}
		paused = append(paused, i)
	}
	return func() error {
		for _, i := range paused {
			err := i.missed(0)
			if err == nil {
				err = i.switchEarly(flagCountsEarly, true)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// missed tells the program that it has not seen all packets, nor may see them for some time
// more: until the longest step after that is over, any source may have progress.
func (i *instance) missed(more time.Duration) error {
	now, err := monotonic()
	if err != nil {
		return err
	}
	var v earlyValue
	if err := i.maps[mapEarly].Lookup(uint32(0), &v); err != nil {
		return fmt.Errorf("cannot read a BPF map: %w", err)
	}
	v.Full = uint64(now+more) + v.Patience
	if err := i.maps[mapEarly].Put(uint32(0), v); err != nil {
		return fmt.Errorf("the kernel takes no configuration: %w", err)
	}
	return nil
}

// switchEarly switches what some flags stand for on or off.
func (i *instance) switchEarly(flags uint16, on bool) error {
	var c configValue
	if err := i.maps[mapConfig].Lookup(uint32(0), &c); err != nil {
		return err
	}
	c.Flags &^= flags
	if on {
		c.Flags |= flags
	}
	return i.maps[mapConfig].Put(uint32(0), c)
}

// LocateEarly tells the programs that run of interfaces and addresses that have come or
// gone.
func (r *Running) LocateEarly(e *Early) error {
	for _, i := range r.instances {
		if i.readable {
			if err := i.locate(e, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// Held are programs that drop early, by which they can be switched off when they are found no
// more. An interface that is moved to another network namespace takes its program along.
type Held struct{ instances []*instance }

// Hold returns those that run.
func (r *Running) Hold() (*Held, error) {
	h := &Held{}
	for _, i := range r.instances {
		if !i.readable {
			continue
		}
		codes, err := i.Codes()
		if err == nil && codes == (Codes{}) {
			continue
		}
		var config *ebpf.Map
		if err == nil {
			config, err = i.maps[mapConfig].Clone()
		}
		if err != nil {
			h.Close()
			return nil, err
		}
		h.instances = append(h.instances, &instance{id: i.id, maps: map[string]*ebpf.Map{mapConfig: config}})
	}
	return h, nil
}

// Leave switches off those that do not run here any more.
func (h *Held) Leave(r *Running) error {
	for _, i := range h.instances {
		if slices.ContainsFunc(r.instances, func(here *instance) bool { return here.id == i.id }) {
			continue
		}
		if err := i.switchEarly(flagCountsEarly|flagTells, false); err != nil {
			return err
		}
	}
	return nil
}

// Close lets go of them.
func (h *Held) Close() {
	for _, i := range h.instances {
		i.Close()
	}
}

// A Noted first knock is all that its source has sent yet.
type Noted struct {
	Source netip.Addr
	Port   uint16
	Left   time.Duration
}

// Noted calls f with the first knocks that are noted, until it returns false.
func (r *Running) Noted(f func(Noted) bool) error {
	i := r.newest()
	if i == nil || i.maps[mapNoted].MaxEntries() == 1 {
		return nil
	}
	var early earlyValue
	if err := i.maps[mapEarly].Lookup(uint32(0), &early); err != nil {
		return fmt.Errorf("cannot read a BPF map: %w", err)
	}
	const chunk = 4096
	keys, values := make([]uint32, chunk), make([]notesValue, chunk)
	for cursor := new(ebpf.MapBatchCursor); ; {
		n, end := i.maps[mapNoted].BatchLookup(cursor, keys, values, nil)
		if end != nil && !errors.Is(end, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("cannot read a BPF map: %w", end)
		}
		now, err := monotonic()
		if err != nil {
			return err
		}
		for _, place := range values[:n] {
			for _, note := range place {
				age := (uint64(now/noteUnit) - note.What) & (1<<notePort - 1)
				if port := uint16(note.What >> notePort); port == 0 || age >= uint64(early.Lasts) {
					continue
				} else if !f(Noted{netip.AddrFrom16(note.Source).Unmap(), port, time.Duration(uint64(early.Lasts)-age) * noteUnit}) {
					return nil
				}
			}
		}
		if end != nil {
			return nil
		}
	}
}

// Dropped returns how many packets were dropped early, and how many bytes they had.
func (r *Running) Dropped() (packets, bytes uint64, err error) {
	i := r.newest()
	if i == nil {
		return 0, 0, nil
	}
	if packets, err = i.count(countDropped); err == nil {
		bytes, err = i.count(countDroppedBytes)
	}
	return packets, bytes, err
}

// CountsUDP reports whether datagrams are counted early, too.
func (r *Running) CountsUDP() (bool, error) {
	i := r.newest()
	if i == nil {
		return false, nil
	}
	var v earlyValue
	if err := i.maps[mapEarly].Lookup(uint32(0), &v); err != nil {
		return false, fmt.Errorf("cannot read a BPF map: %w", err)
	}
	return v.Kinds&kindUDPCounts != 0, nil
}

// CountedInterfaces returns the names of the interfaces whose packets are counted early.
func (r *Running) CountedInterfaces() (names []string, err error) {
	i := r.newest()
	if i == nil {
		return nil, nil
	}
	for _, at := range r.interfaces {
		var v uint8
		err := i.maps[mapInterfaces].Lookup(uint32(at.Index), &v)
		if err == nil && at.Attached {
			names = append(names, at.Name)
		} else if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, fmt.Errorf("cannot read a BPF map: %w", err)
		}
	}
	return names, nil
}
