package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"

	"github.com/cilium/ebpf"

	"postern/internal/key"
)

// An instance is one program in the kernel, with its maps.
type instance struct {
	id       ebpf.ProgramID
	program  *ebpf.Program
	maps     map[string]*ebpf.Map
	readable bool // its maps are as this version of Postern makes them
}

// errHidden is the error of a program that this process may not look at: that takes
// CAP_SYS_ADMIN.
var errHidden = errors.New("a BPF program cannot be looked at")

// open returns the instance of a program, or nil if it is somebody else's or gone. It is
// errHidden if this process may not look at it.
func open(id ebpf.ProgramID) (_ *instance, err error) {
	program, err := ebpf.NewProgramFromID(id)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, errHidden
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open BPF program %d: %w", id, err)
	}
	i := &instance{id: id, program: program, maps: map[string]*ebpf.Map{}}
	defer func() {
		if err != nil {
			i.Close()
		}
	}()
	info, err := program.Info()
	if err != nil {
		return nil, err
	}
	if info.Type != ebpf.SchedCLS || info.Name != programName {
		i.Close()
		return nil, nil
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return nil, fmt.Errorf("cannot open BPF map %d: %w", id, err)
		}
		info, err := m.Info()
		if err != nil {
			m.Close()
			return nil, err
		}
		if i.maps[info.Name] != nil {
			m.Close()
			continue
		}
		i.maps[info.Name] = m
	}
	i.readable = i.known()
	return i, nil
}

// known reports whether the maps are those of this version.
func (i *instance) known() bool {
	for name, entry := range map[string][2]any{
		mapConfig:  {uint32(0), configValue{}},
		mapDevices: {key.Device(0), deviceValue{}},
		mapAccess:  {pairKey{}, uint32(0)},
		mapUses:    {uint32(0), useValue{}},
		mapCounts:  {uint32(0), uint64(0)},

		mapEarly:      {uint32(0), earlyValue{}},
		mapNoted:      {uint32(0), notesValue{}},
		mapAttempts:   {uint32(0), uint64(0)},
		mapInterfaces: {uint32(0), uint8(0)},
		mapAddresses:  {[16]byte{}, uint8(0)},
		mapTrusted:    {trustedKey{}, uint8(0)},
	} {
		m := i.maps[name]
		if m == nil || int(m.KeySize()) != binary.Size(entry[0]) || int(m.ValueSize()) != binary.Size(entry[1]) {
			return false
		}
	}
	var c configValue
	return i.maps[mapConfig].Lookup(uint32(0), &c) == nil && c.Layout == layout
}

// Close lets go of the program. It stays in the kernel where it is attached.
func (i *instance) Close() {
	if i.program != nil {
		i.program.Close()
	}
	for _, m := range i.maps {
		m.Close()
	}
}

// codes returns the code of each pair, and what codes were used for.
func (i *instance) codes() (map[pairKey]uint32, map[uint32]useValue, error) {
	access, err := readMap[pairKey, uint32](i.maps[mapAccess])
	if err != nil {
		return nil, nil, err
	}
	uses, err := readMap[uint32, useValue](i.maps[mapUses])
	return access, uses, err
}

// allowed returns the pairs of devices that are not revoked.
func (i *instance) allowed() (map[pairKey]uint32, map[uint32]useValue, error) {
	access, uses, err := i.codes()
	if err != nil {
		return nil, nil, err
	}
	devices, err := readMap[key.Device, deviceValue](i.maps[mapDevices])
	maps.DeleteFunc(access, func(pair pairKey, _ uint32) bool {
		_, ok := devices[pair.Device]
		return !ok
	})
	return access, uses, err
}

// readMap returns what a hash map holds. What others change meanwhile may be in it or
// not.
func readMap[K comparable, V any](m *ebpf.Map) (map[K]V, error) {
	const chunk = 4096 // more than one bucket of the hash ever has
	all := map[K]V{}
	keys, values := make([]K, chunk), make([]V, chunk)
	for cursor := new(ebpf.MapBatchCursor); ; {
		n, err := m.BatchLookup(cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, fmt.Errorf("cannot read a BPF map: %w", err)
		}
		for i := range n {
			all[keys[i]] = values[i]
		}
		if err != nil {
			return all, nil
		}
	}
}
