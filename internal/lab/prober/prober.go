//go:build linux

// Package prober connects to ports from outside as often as it can, while
// something happens to the host that should hide them, and counts how many of its
// probes were answered by an open port.
//
// A probe is one SYN, with a source address and port of its own, made by hand: no
// stack retransmits it, and none answers the SYN-ACK. So each one is a sample of what the
// host did at that moment.
package prober

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"postern/internal/lab"
	"postern/internal/packet"
)

// The addresses that probes come from. The host must have a route to them, or it has
// nowhere to send an answer: see Routes.
var (
	Sources4 = netip.MustParsePrefix("198.18.0.0/16")
	Sources6 = netip.MustParsePrefix("2001:db8:c::/64")
)

// Routes has a host send its answers to the prober's end of a cable, which may be any
// that leads to the prober, and answer every probe once only.
func Routes(h *lab.Host, outside *lab.Link) {
	h.Route(Sources4.String(), outside.Addr4())
	h.Route(Sources6.String(), outside.Addr6())
	h.Sysctl("net.ipv4.tcp_synack_retries", "0")
	outside.StaticNeighbours()
	// A refused probe stays in the table of connections for so long.
	h.Sysctl("net.netfilter.nf_conntrack_tcp_timeout_close", "1")
}

// A Prober probes until it is stopped.
type Prober struct {
	targets []netip.AddrPort
	rate    int // probes a millisecond
	sender  *lab.Sender
	ring    *lab.Ring

	begin   time.Time
	garbage int // the collector's setting before
	stop    atomic.Bool
	ended   chan error // how it has ended

	report Report
}

// A Report is what a prober has seen.
type Report struct {
	Probes  int
	Open    int // SYN-ACKs
	Refused int // RSTs and ICMP errors

	Begin, End   time.Time
	LongestPause time.Duration // between two batches of probes
	First, Last  time.Time     // SYN-ACK, if Open is not 0
	Longest      time.Duration // for which the port was open without a break

	since time.Time     // the present opening
	took  time.Duration // of those that were added

}

// shut is how long no probe was answered when the port has been shut in between.
const shut = 5 * time.Millisecond

// Rate is how many probes a millisecond a prober sends, if its machine lets it.
const Rate = 20

// Start probes the targets in turn from a link's end, at Rate.
func Start(from *lab.Link, targets ...netip.AddrPort) (*Prober, error) {
	p := &Prober{targets: targets, rate: Rate, ended: make(chan error, 1)}
	var err error
	if p.sender, err = from.Sender(); err != nil {
		return nil, err
	}
	if p.ring, err = from.Ring(); err != nil {
		p.sender.Close()
		return nil, err
	}
	p.garbage = debug.SetGCPercent(-1) // a collection stops every thread of the process
	p.begin = time.Now()
	p.report.Begin = p.begin
	go func() { p.ended <- p.run() }()
	return p, nil
}

// linger is how long the answer to the last probe may take.
const linger = 100 * time.Millisecond

// Stop stops probing, and returns what was seen. An error says that the count is of no
// worth: probes were not sent, or answers lost.
func (p *Prober) Stop() (Report, error) {
	p.stop.Store(true)
	err := <-p.ended
	debug.SetGCPercent(p.garbage)
	lost, errLost := p.ring.Lost()
	if lost > 0 {
		errLost = fmt.Errorf("the kernel lost %d answers for want of room", lost)
	}
	err = errors.Join(err, errLost, p.sender.Close(), p.ring.File().Close(), p.ring.Close())
	if err != nil {
		return p.report, fmt.Errorf("prober: %w", err)
	}
	return p.report, nil
}

// run sends batches of probes and counts answers until it is stopped. The thread comes
// first on its CPU: what it is to see may be what keeps the machine busy.
func (p *Prober) run() error {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return fmt.Errorf("real-time priority: %w", err)
	}
	const most = 512 // in a batch
	var batch [most][]byte
	syn := packet.Packet{TCP: &packet.TCP{Flags: packet.SYN, Window: 64240}}
	first := probes.Load()
	pause := unix.NsecToTimespec(int64(500 * time.Microsecond))
	last := time.Now()
	for !p.stop.Load() {
		now := time.Now()
		p.report.LongestPause = max(p.report.LongestPause, now.Sub(last))
		last = now
		due := int(now.Sub(p.begin).Microseconds())*p.rate/1000 - p.report.Probes
		if due > most {
			// What was missed is missed. Making up for it shows nothing of that time.
			p.begin = p.begin.Add(time.Duration(due-most) * time.Millisecond / time.Duration(p.rate))
			due = most
		}
		for i := range due {
			n := p.report.Probes + i
			fill(&syn, first+uint32(n), p.targets[n%len(p.targets)])
			raw, err := syn.Append(batch[i][:0])
			if err != nil {
				return err
			}
			batch[i] = raw
		}
		n, err := p.sender.Send(batch[:due]...)
		p.report.Probes += n
		probes.Add(uint32(n))
		if err := errors.Join(err, p.ring.Read(p.answer)); err != nil {
			return err
		}
		// Raw: from a system call that Go's scheduler knows of, the thread would come
		// back to wait for others of the process, which do not come first.
		unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0)
	}
	p.report.End = time.Now()
	time.Sleep(linger)
	return p.ring.Read(p.answer)
}

// probes is how many have been sent by all probers, one after the other. None has the
// source of an earlier one, whose connection a host may still know.
var probes atomic.Uint32

// fill makes a packet the probe number n: sources and ports come again after two
// thousand million.
func fill(p *packet.Packet, n uint32, to netip.AddrPort) {
	const ports = 1 << 15
	host := uint16(n / ports)
	p.Dst = to.Addr()
	p.TCP.SrcPort, p.TCP.DstPort, p.TCP.Seq = uint16(1<<15+n%ports), to.Port(), n*2654435761
	if to.Addr().Is4() {
		b := Sources4.Addr().As4()
		binary.BigEndian.PutUint16(b[2:], host+1)
		p.Src = netip.AddrFrom4(b)
	} else {
		b := Sources6.Addr().As16()
		binary.BigEndian.PutUint16(b[14:], host+1)
		p.Src = netip.AddrFrom16(b)
	}
}

// answer counts one packet. It reads no more of it than it must: there may be many.
func (p *Prober) answer(raw []byte, at time.Time, out bool) {
	if out || len(raw) < 20 {
		return
	}
	var protocol packet.Protocol
	var to netip.Addr
	var body []byte
	if raw[0]>>4 == 4 {
		protocol, to, body = packet.Protocol(raw[9]), netip.AddrFrom4([4]byte(raw[16:])), raw[4*int(raw[0]&15):]
	} else if len(raw) >= 40 {
		protocol, to, body = packet.Protocol(raw[6]), netip.AddrFrom16([16]byte(raw[24:])), raw[40:]
	}
	if !Sources4.Contains(to) && !Sources6.Contains(to) {
		return
	}
	r := &p.report
	switch {
	case protocol == packet.ProtocolTCP && len(body) >= 20:
		switch flags := packet.TCPFlags(body[13]); {
		case flags&packet.RST != 0:
			r.Refused++
		case flags&packet.SYN != 0 && flags&packet.ACK != 0:
			if r.Open == 0 {
				r.First = at
			}
			if at.Sub(r.Last) > shut {
				r.since = at
			}
			r.Open++
			r.Last = at
			r.Longest = max(r.Longest, at.Sub(r.since))
		}
	case protocol == packet.ProtocolICMP && len(body) > 0 && body[0] == packet.Unreachable,
		protocol == packet.ProtocolICMPv6 && len(body) > 0 && body[0] == packet.UnreachableV6:
		r.Refused++
	}
}

// Add adds what another prober has seen, later.
func (r *Report) Add(later Report) {
	r.Probes += later.Probes
	r.Open += later.Open
	r.Refused += later.Refused
	r.LongestPause = max(r.LongestPause, later.LongestPause)
	r.Longest = max(r.Longest, later.Longest)
	r.took += later.End.Sub(later.Begin)
	if r.First.IsZero() {
		r.First = later.First
	}
}

func (r Report) String() string {
	took := r.took + r.End.Sub(r.Begin)
	s := fmt.Sprintf("%d probes in %s (%.1f a millisecond, longest pause %s): open %d, refused %d",
		r.Probes, took.Round(time.Millisecond), float64(r.Probes)/float64(max(1, took.Milliseconds())),
		r.LongestPause.Round(100*time.Microsecond), r.Open, r.Refused)
	if r.Open > 0 {
		s += fmt.Sprintf(" (longest %s, first %s after the start at %s)", r.Longest.Round(10*time.Microsecond),
			r.First.Sub(r.Begin).Round(10*time.Microsecond), r.Begin.Format("15:04:05.000"))
	}
	return s
}
