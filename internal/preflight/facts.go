package preflight

import (
	"errors"
	"io/fs"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/host"
	"postern/internal/keyfile"
	"postern/internal/policy"
	"postern/internal/preflight/otherrules"
)

// facts are all that findings are drawn from. What could not be read is empty.
type facts struct {
	machine *automaton.Machine
	backend firewall.Backend

	refusal error // why the backend cannot load anything
	loaded  bool  // the kernel runs this very machine already
	unread  error // another backend may have rules loaded, and cannot be read
	advice  []firewall.Advice

	policyPath        string // "" if it is no file
	readers, changers host.Other

	noSecret      error // of this host: why there is none, and can be none
	secretReaders host.Other

	now        time.Time
	keys       *keyfile.File     // nil if the policy has no keys, or they could not be read
	known      []firewall.KeyUse // the keys that the loaded rules know, of whichever backend
	keysBroken error             // what is wrong with the keys file
	noVerifier error             // why the kernel cannot verify keys
	tagsLast   time.Duration     // that verify them in its place; 0: none can

	interfaces []string          // of this host
	links      []host.Link       // of these, those that are up
	masters    map[string]string // see host.Masters
	noForward  []host.Setting    // for each door in turn; the zero value: nothing is missing
	listening  []policy.Port
	receivers  []host.Receiver // of UDP, each with the interface under which its packets arrive
	acceptors  []host.Receiver // of TCP
	tunnels    []host.Tunnel

	rawProtocols []policy.Protocol // see host.RawProtocols
	ipsec        []policy.Protocol
	wayIn        []host.Way // of the caller

	obstacles []otherrules.Obstacle
	published []otherrules.Published
	refusals  []otherrules.Refusal
	openings  []otherrules.Opening
	rewrites  []otherrules.Rewrite

	unseen []string // what could not be read
	denied []string // of that, what only root can read
	failed []error  // what could not be read for another reason
}

// missing notes that something could not be read.
func (f *facts) missing(what string, err error) {
	var permission *firewall.PermissionError
	if err != nil {
		f.unseen = append(f.unseen, what)
	}
	switch {
	case err == nil:
	case errors.As(err, &permission), errors.Is(err, fs.ErrPermission):
		f.denied = append(f.denied, what)
	default:
		f.failed = append(f.failed, err)
	}
}

// arrivesAs returns the name under which packets of an interface arrive.
func (f *facts) arrivesAs(name string) string {
	if master := f.masters[name]; master != "" {
		return master
	}
	return name
}
