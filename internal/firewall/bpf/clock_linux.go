package bpf

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// TAI returns how far the kernel's clock of TAI is ahead of that of UTC: nothing, until a
// time daemon says otherwise, if one does. Both are read: adjtimex(2), which knows it, is
// refused where systemd protects the clock.
func TAI() (time.Duration, error) {
	const soon = time.Millisecond
	for range 1000 {
		var before, tai, after unix.Timespec
		if err := errors.Join(
			unix.ClockGettime(unix.CLOCK_REALTIME, &before),
			unix.ClockGettime(unix.CLOCK_TAI, &tai),
			unix.ClockGettime(unix.CLOCK_REALTIME, &after),
		); err != nil {
			return 0, fmt.Errorf("cannot read the kernel's offset of TAI: %w", err)
		}
		// It is whole seconds. Between the looks the clock may have been set.
		if took := time.Duration(after.Nano() - before.Nano()); took >= 0 && took < soon {
			return time.Duration(tai.Nano() - before.Nano()).Round(time.Second), nil
		}
	}
	return 0, errors.New("cannot read the kernel's offset of TAI: the clock does not stand still")
}

// FollowTAI has the programs reckon with TAI as it is now. A time daemon may have set it
// since they were loaded: mostly once, soon after a boot.
func (r *Running) FollowTAI() error {
	offset, err := TAI()
	if err != nil {
		return err
	}
	for _, i := range r.instances {
		if !i.readable {
			continue
		}
		var is configValue
		if err := i.maps[mapConfig].Lookup(uint32(0), &is); err != nil {
			return fmt.Errorf("cannot read the configuration of a BPF program: %w", err)
		}
		wanted := is
		if wanted.follow(offset); wanted == is {
			continue
		}
		if err := i.maps[mapConfig].Put(uint32(0), wanted); err != nil {
			return fmt.Errorf("the kernel takes no configuration: %w", err)
		}
	}
	return nil
}

// uptime returns the time since the boot, as the program reads it.
func uptime() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0, fmt.Errorf("cannot read the time since the boot: %w", err)
	}
	return time.Duration(t.Nano()), nil
}
