package nftables

import (
	"context"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	nft "github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/firewall/verifier"
)

// Flags of a table (NFT_TABLE_F_...).
const (
	tableDormant = 1
	// The table belongs to a socket: to others each change of it is refused, and
	// `nft flush ruleset` passes it over (Linux 5.12).
	tableOwner = 2
	// The table outlives its owner, and another socket may be the next one (Linux
	// 6.9). A table is made with this flag or without it for good.
	tablePersist = 4
)

// newTableFlags are those of a table that is to be made: persist, where nothing
// stumbles over it. The kernel must know it, and so must the program nft, if there is
// one: nft before 1.1.0 lists a table that persists and has no owner as text that it
// cannot read back, and breaks off in the middle of JSON, whatever else was asked for.
var newTableFlags = sync.OnceValue(func() uint32 {
	if kernelPersists() && nftPersists() {
		return tablePersist
	}
	return 0
})

// changeable returns an error if a table belongs to another socket than the one that is
// to change it. The kernel's own would be one for each message of a batch.
func changeable(loaded *nft.Table, via *netlink.Conn) error {
	if uint32(loaded.Flags)&tableOwner == 0 || via != nil && via.PID() == loaded.Owner {
		return nil
	}
	return &firewall.HeldError{Rules: "table inet " + Table}
}

// probeTable is a table that is never made.
const probeTable = Table + "_probe"

// kernelPersists asks the kernel to judge a batch that makes such a table. It is not
// carried out, as it does not end (which is how `nft --check` asks, too).
func kernelPersists() bool {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return false
	}
	defer conn.Close()
	var b batch
	b.addTable(probeTable, netlink.Create|netlink.Acknowledge, tablePersist)
	if _, err := conn.SendMessages([]netlink.Message{batchBegin(0), b.messages[0]}); err != nil {
		return false
	}
	_, err = conn.Receive()
	return err == nil
}

// nftPersists reports whether the program nft knows the flag, or is not there.
func nftPersists() bool {
	program, err := exec.LookPath("nft")
	if err != nil {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	check := exec.CommandContext(ctx, program, "--check", "--file", "-")
	check.Stdin = strings.NewReader("table inet " + probeTable + " { flags persist; }\n")
	return check.Run() == nil
}

// A Keeper is the backend over one connection, which can own the table.
type Keeper struct {
	Backend
	last uint32 // the port of the connection before this one

	// What loads a machine where no table is, ready to be sent.
	machine *automaton.Machine
	rules   *Ruleset
	ready   *batch

	interfaces verifier.Lookout // where tokens are verified

	looked time.Time // at the clock
	renew  time.Time // tags, where these verify tokens
}

var _ firewall.Keeper = &Keeper{}

// Keep returns a Keeper.
func (Backend) Keep() (firewall.Keeper, error) {
	via, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	newTableFlags() // while there is time to ask
	return &Keeper{Backend: Backend{via}}, nil
}

// Notified reports that the kernel gives notice.
func (k *Keeper) Notified() bool { return true }
func (k *Keeper) Changed() bool  { return false }

// Apply loads the machine.
func (k *Keeper) Apply(m *automaton.Machine) error { return k.apply(m, false) }

func (k *Keeper) apply(m *automaton.Machine, distrust bool) error {
	k.interfaces.Again()
	return k.Backend.apply(m, distrust)
}

// Restore loads the machine: a notice that concerns the table always means that others
// have changed it. Most often it is gone, and what is ready goes to the kernel before
// anything is asked. They may have taken the program, too, and from some interfaces only.
func (k *Keeper) Restore(m *automaton.Machine) (bool, error) {
	k.interfaces.Again()
	if k.machine != m {
		k.machine, k.rules, k.ready = m, Compile(m), &batch{}
		k.rules.addDecoys(m)
		k.ready.addTable(Table, netlink.Create|netlink.Excl, newTableFlags())
		k.rules.fill(k.ready, nil)
	}
	if err := k.ready.commit(k.via, 0); err != nil {
		// There is a table, which others have made or modified. Its tags go with the same
		// transaction that brings the rules back: to take them out before left the host
		// open for as long as that takes.
		return true, k.apply(m, true) // which knows what to do about the error
	}
	if k.rules.keys != nil || k.rules.early != nil {
		if err := k.restoreCodes(m); err != nil {
			return true, err
		}
	}
	return true, k.rememberSessions(k.rules, nil)
}

// Inspect looks at the rules. Who looks does not know what others have done meanwhile, so
// the next VerifyEverywhere looks whether tags are those of a listing.
func (k *Keeper) Inspect() (*firewall.Status, error) {
	k.renew = time.Time{}
	return k.Backend.Inspect()
}

// restoreCodes fills the maps of codes again: with those of the program that runs, which
// others cannot have removed with the rules. It is a second transaction; until then
// tokens are as good as none, and the rules count what was counted early themselves.
func (k *Keeper) restoreCodes(m *automaton.Machine) error {
	early, err := verifier.RunningEarly()
	var codes []verifier.Code
	ok := true
	if err == nil && m.Policy.HasKeys() {
		codes, ok, err = verifier.RunningCodes(m, bpf.Priority)
	}
	if err != nil || !ok {
		return k.Apply(m) // which says what is wrong, or loads the program or tags, too
	}
	return k.putCodes(k.rules, m, codes, early)
}

// Concerns reports whether the notice is about our table, from another, and no
// element that comes and goes as packets do.
func (k *Keeper) Concerns(n firewall.Notice) bool {
	return n.Table == "inet "+Table && n.Sender != k.via.PID() && n.Sender != k.last && !isLive(n.Set)
}

// isLive reports whether a set is one of liveSets, by its name.
func isLive(set string) bool {
	name := strings.TrimRight(set, "46")
	return slices.Contains([]string{
		"at", "many", "once", "granted", "held", "opened", "syns", "packets", "sessions", "cut", "closed", "salt", "since", "budget",
		"tags", "early", "used_tags", "first", "tagged",
	}, name)
}

// Hold makes the connection the owner of the table, which must have been made to
// persist: without that it would die with its owner.
func (k *Keeper) Hold() (held bool, err error) {
	err = retry(func() error {
		_, loaded, err := ours(&nft.Conn{})
		if err != nil || loaded == nil {
			return err
		}
		flags := uint32(loaded.Flags)
		switch {
		case flags&tablePersist == 0:
			return nil
		case flags&tableOwner != 0:
			held = loaded.Owner == k.via.PID()
			return nil
		}
		var b batch
		b.addTable(Table, 0, flags|tableOwner)
		err = b.commit(k.via, 0)
		held = err == nil
		return err
	})
	return held, err
}

// LetGo closes the connection, and with it what it owns, and opens another one. In
// this order the new one most likely has the number of this process, by which nft
// names the owner of a table.
func (k *Keeper) LetGo() error {
	k.last = k.via.PID()
	k.interfaces.Again()
	k.renew = time.Time{} // who changes the rules may be killed before all tags are loaded
	k.via.Close()
	via, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err == nil {
		k.via = via
	}
	return err
}

// Close lets go for good.
func (k *Keeper) Close() error {
	k.interfaces.Close()
	return k.via.Close()
}
