package bpf

import (
	"time"

	"postern/internal/key"
)

// The names and structures of token.c. Programs of another layout are replaced
// without keeping what they know.
const (
	layout      = 5
	programName = "postern_token"

	mapConfig  = "config"
	mapDevices = "devices"
	mapAccess  = "access"
	mapUses    = "uses"
	mapCounts  = "counts"

	flagMustBind = 1
	flagInMark   = 2
)

type configValue struct {
	Layout uint32
	Port   uint16
	Flags  uint16
	Site   key.SipKey
	Behind uint64 // ns
	Ahead  uint64 // ns
	Offset uint64 // ns from UTC to TAI
	Doubt  uint64 // ns by which that may have grown
}

type deviceValue struct {
	Inner, Outer [8]uint32
	Mask         key.SipKey
	Until        uint64
}

type pairKey struct {
	Device key.Device
	Door   key.Door
	_      uint32
}

type useValue struct {
	Last  [2]uint64
	Since uint64 // ns of CLOCK_BOOTTIME
}

// TAI is 37 seconds ahead of UTC, since 2017. There is to be no leap second before
// 2035 at the earliest (CGPM 2022, resolution 4).
const taiOffset = 37 * time.Second

// value returns what the program reads. offset is what TAI returns.
func (c Config) value(offset time.Duration) configValue {
	v := configValue{
		Layout: layout,
		Port:   c.Port,
		Site:   c.Site.Mask(),
		Behind: uint64(c.Window.Behind),
		Ahead:  uint64(c.Window.Ahead),
	}
	if c.MustBind {
		v.Flags |= flagMustBind
	}
	if c.Carrier == Mark {
		v.Flags |= flagInMark
	}
	if c.Early != nil {
		v.Flags |= flagCountsEarly
		if c.Early.FirstLasts > 0 {
			v.Flags |= flagTells
		}
	}
	v.follow(offset)
	return v
}

// follow has the program reckon with an offset of TAI.
func (v *configValue) follow(offset time.Duration) {
	v.Offset, v.Doubt = uint64(offset), 0
	if offset == 0 { // until a time daemon says otherwise
		v.Doubt = uint64(taiOffset)
	}
}

func (d Device) value(site key.Site) deviceValue {
	v := deviceValue{Mask: d.Secret.Mask(site)}
	v.Inner, v.Outer = d.Secret.MAC(site).Midstates()
	if !d.Until.IsZero() {
		v.Until = uint64(max(d.Until.UnixNano(), 1))
	}
	return v
}
