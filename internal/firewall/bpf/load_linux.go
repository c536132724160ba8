package bpf

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"

	"postern/internal/key"
)

// A Program is one that this process has loaded.
type Program struct {
	instance
	pairs []Pair
}

// Pairs returns the pairs that the program was loaded with, by device and door.
// Their Last is zero: see Running.Pairs.
func (p *Program) Pairs() []Pair { return slices.Clone(p.pairs) }

// Load loads the program, and attaches it nowhere. No two devices may have the same
// number. The error is a *firewall.UnsupportedError if the kernel cannot, or does
// not let this process.
func Load(c Config, devices []Device, running *Running) (*Program, error) {
	spec, err := readSpec(object)
	if err != nil {
		return nil, err
	}
	return load(spec, c, devices, running)
}

func readSpec(object []byte) (*ebpf.CollectionSpec, error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, fmt.Errorf("the program of tokens cannot be read: %w", err)
	}
	return spec, nil
}

func load(spec *ebpf.CollectionSpec, c Config, devices []Device, running *Running) (_ *Program, err error) {
	since, err := uptime()
	if err != nil {
		return nil, err
	}
	offset, err := TAI()
	if err != nil {
		return nil, err
	}
	p := &Program{}
	if p.pairs, err = draw(devices, running); err != nil {
		return nil, err
	}
	spec.Maps[mapDevices].MaxEntries = uint32(max(len(devices), 1))
	spec.Maps[mapAccess].MaxEntries = uint32(max(len(p.pairs), 1))
	options := ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{}}
	fresh := p.pairs // those of which nothing is known
	if old := running.newest(); old != nil {
		options.MapReplacements[mapCounts] = old.maps[mapCounts]
		if lacking, room, err := missing(old.maps[mapUses], p.pairs); err != nil {
			return nil, err
		} else if room {
			fresh = lacking
			spec.Maps[mapUses].MaxEntries = old.maps[mapUses].MaxEntries()
			options.MapReplacements[mapUses] = old.maps[mapUses]
		}
	}
	if options.MapReplacements[mapUses] == nil {
		spec.Maps[mapUses].MaxEntries = uint32(max(4*len(p.pairs), leastUses))
	}
	early, err := prepareEarly(spec, c.Early, running, options.MapReplacements)
	if err != nil {
		return nil, err
	}
	collection, countsUDP, err := newCollection(spec, options, c.Early != nil && c.Early.UDP)
	if err != nil {
		return nil, explain(err)
	}
	if countsUDP {
		early.Kinds |= kindUDPCounts
	}
	defer collection.Close()
	p.instance = instance{program: collection.DetachProgram(programName), maps: map[string]*ebpf.Map{}, readable: true}
	for name := range collection.Maps {
		p.maps[name] = collection.DetachMap(name)
	}
	if info, err := p.program.Info(); err == nil {
		p.id, _ = info.ID()
	}
	if err := p.fillEarly(c.Early, early, running); err != nil {
		p.Close()
		return nil, err
	}
	if err := p.fill(c.value(offset), c, devices, fresh, since); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// leastUses is how many pairs there is room for at least, so that the map need not
// be replaced by a larger one on most hosts, ever. It costs a megabyte. Tests have less.
var leastUses = 1 << 16

// draw returns the pairs of devices and doors, each with the code that it has
// already or one that nobody has.
func draw(devices []Device, running *Running) ([]Pair, error) {
	known, taken := map[pairKey]uint32{}, map[uint32]bool{}
	if running != nil {
		for _, old := range running.instances { // the newest last
			if !old.readable {
				continue
			}
			access, uses, err := old.codes()
			if err != nil {
				return nil, err
			}
			for pair, code := range access {
				known[pair], taken[code] = code, true
			}
			for code := range uses {
				taken[code] = true
			}
		}
	}
	var pairs []Pair
	given := map[uint32]bool{} // a code is one pair's alone, whatever was read
	seen := map[key.Device]bool{}
	for _, d := range devices {
		if seen[d.ID] {
			return nil, fmt.Errorf("two devices have the number %v", d.ID)
		}
		seen[d.ID] = true
		for _, door := range d.Doors {
			code, ok := known[pairKey{Device: d.ID, Door: door}]
			for !ok || given[code] || code >= mostCode {
				code = random() % mostCode
				ok = code > 0xffff && !taken[code]
			}
			given[code], taken[code] = true, true
			pairs = append(pairs, Pair{Device: d.ID, Door: door, Code: code})
		}
	}
	sortPairs(pairs)
	for i := range pairs[:max(len(pairs)-1, 0)] {
		if a, b := pairs[i], pairs[i+1]; a.Device == b.Device && a.Door == b.Door {
			return nil, fmt.Errorf("device %v has door %08x twice", a.Device, uint32(a.Door))
		}
	}
	return pairs, nil
}

// mostCode is more than any code of a token. With Closing added none is what rules use for
// themselves, nor one of Codes.
const mostCode = firstCode

func random() uint32 {
	var b [4]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint32(b[:])
}

func sortPairs(pairs []Pair) {
	slices.SortFunc(pairs, func(a, b Pair) int {
		return cmp.Or(cmp.Compare(a.Device, b.Device), cmp.Compare(a.Door, b.Door))
	})
}

// missing returns the pairs whose codes are not in a map of uses, and whether it has
// room for them.
func missing(uses *ebpf.Map, pairs []Pair) (lacking []Pair, room bool, err error) {
	held, err := readMap[uint32, useValue](uses)
	if err != nil {
		return nil, false, err
	}
	for _, pair := range pairs {
		if _, ok := held[pair.Code]; !ok {
			lacking = append(lacking, pair)
		}
	}
	return lacking, len(held)+len(lacking) <= int(uses.MaxEntries()), nil
}

// fill fills the maps. What is shared with a running program only grows, by the codes
// of fresh pairs, which no rule knows yet.
func (p *Program) fill(config configValue, c Config, devices []Device, fresh []Pair, since time.Duration) error {
	ids, values := make([]key.Device, len(devices)), make([]deviceValue, len(devices))
	for i, d := range devices {
		ids[i], values[i] = d.ID, d.value(c.Site)
	}
	if err := putAll(p.maps[mapDevices], ids, values); err != nil {
		return fmt.Errorf("the kernel takes no device: %w", err)
	}
	codes, uses := make([]uint32, len(fresh)), make([]useValue, len(fresh))
	for i, pair := range fresh {
		codes[i], uses[i] = pair.Code, useValue{Since: uint64(since)}
	}
	if err := putAll(p.maps[mapUses], codes, uses); err != nil {
		return fmt.Errorf("the kernel takes no code: %w", err)
	}
	keys := make([]pairKey, len(p.pairs))
	codes = make([]uint32, len(p.pairs))
	for i, pair := range p.pairs {
		keys[i], codes[i] = pairKey{Device: pair.Device, Door: pair.Door}, pair.Code
	}
	if err := putAll(p.maps[mapAccess], keys, codes); err != nil {
		return fmt.Errorf("the kernel takes no pair: %w", err)
	}
	if err := p.maps[mapConfig].Put(uint32(0), config); err != nil {
		return fmt.Errorf("the kernel takes no configuration: %w", err)
	}
	return nil
}

func putAll[K, V any](m *ebpf.Map, keys []K, values []V) error {
	if len(keys) == 0 {
		return nil
	}
	_, err := m.BatchUpdate(keys, values, nil)
	return err
}
