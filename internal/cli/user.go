package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/enroll"
	"postern/internal/firewall/backends"
	"postern/internal/host"
	"postern/internal/hosts"
	"postern/internal/keyfile"
	"postern/internal/policy"
	"postern/internal/preflight"
)

func (s *session) userCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "user",
		Short:   shortUser,
		Long:    longUser,
		Example: exampleUser,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &ui.UsageError{Err: unknownVerb(args[0], cmd.SuggestionsFor(args[0])), Cmd: cmd}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			ui.Help(cmd, s.Err)
			return &ui.UsageError{Quiet: true}
		},
	}
	for _, sub := range []*cobra.Command{s.userAdd(), s.userList(), s.userShow(), s.userRotate(), s.userRevoke()} {
		cmd.AddCommand(inKernel(sub))
	}
	return cmd
}

// links is how the links of a device are made.
type links struct {
	host  string
	known map[string]string // the host of a door, as it was given before
	qr    drawQRs
	at    map[string]hosts.Host // how a door is reached, by its name
}

// linkFlags adds the flags of links to a verb, and returns what reads them.
func (s *session) linkFlags(cmd *cobra.Command) func() links {
	host := cmd.Flags().String("host", "", flagHost)
	qr := cmd.Flags().Bool("qr", false, flagUserQR)
	return func() links {
		l := links{host: *host, at: map[string]hosts.Host{}}
		switch {
		case *qr:
			l.qr = drawQR
		case !cmd.Flags().Changed("qr") && s.atTerminal():
			l.qr = drawQRIfSeen
		}
		return l
	}
}

// userAndDevice accepts the name of a user, and perhaps of a device.
func userAndDevice(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return &ui.UsageError{Err: errWhichUser, Cmd: cmd}
	}
	return exactly(2)(cmd, args)
}

// second returns the second argument, or "".
func second(args []string) string {
	if len(args) > 1 {
		return args[1]
	}
	return ""
}

func (s *session) userAdd() *cobra.Command {
	var doors, networks []string
	var until string
	cmd := &cobra.Command{
		Use:     "add NAME [DEVICE]",
		Short:   shortUserAdd,
		Long:    longUserAdd,
		Example: exampleUserAdd,
		Args:    userAndDevice,
	}
	cmd.Flags().StringSliceVar(&doors, "door", nil, flagUserDoor)
	cmd.Flags().StringSliceVar(&networks, "network", nil, flagNetwork)
	cmd.Flags().StringVar(&until, "until", "", flagUntil)
	cmd.RegisterFlagCompletionFunc("door", s.completeDoor)
	made := s.linkFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		w := enroll.Wish{User: args[0], Device: second(args), Doors: doors}
		for _, text := range networks {
			n, f := policy.ParseNetwork(text)
			if f != nil {
				return &ui.UsageError{Err: fmt.Errorf("--network: %w", f), Cmd: cmd}
			}
			w.Networks = append(w.Networks, n)
		}
		if until != "" {
			end, f := policy.ParseUntil(until)
			if f != nil {
				return &ui.UsageError{Err: fmt.Errorf("--until: %w", f), Cmd: cmd}
			}
			if !time.Now().Before(end) {
				return untilOver(args[0], end)
			}
			w.Until = end
		}
		return s.enroll(cmd.Context(), args[0], made(), func(f *enroll.Files) (*enroll.Result, error) { return f.Add(w) })
	}
	return cmd
}

func (s *session) userRotate() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rotate NAME [DEVICE]", Short: shortUserRotate, Long: longUserRotate, Example: exampleUserRotate,
		Args: userAndDevice, ValidArgsFunction: s.completeUser,
	}
	made := s.linkFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := s.editable(); err != nil {
			return oldKeyCounts(err, args)
		}
		return s.enroll(cmd.Context(), args[0], made(), func(f *enroll.Files) (*enroll.Result, error) {
			r, err := f.Rotate(args[0], second(args))
			return r, oldKeyCounts(err, args)
		})
	}
	return cmd
}

func (s *session) userShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show NAME [DEVICE]", Short: shortUserShow, Long: longUserShow, Example: exampleUserShow,
		Args: userAndDevice, ValidArgsFunction: s.completeUser,
	}
	made := s.linkFlags(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error { return s.showUser(args[0], second(args), made()) }
	return cmd
}

func (s *session) userRevoke() *cobra.Command {
	var cut bool
	cmd := &cobra.Command{
		Use: "revoke NAME [DEVICE]", SuggestFor: []string{"remove", "delete", "del", "rm"}, Short: shortUserRevoke, Long: longUserRevoke, Example: exampleUserRevoke,
		Args: userAndDevice, ValidArgsFunction: s.completeUser,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.revokeKeys(cmd.Context(), &enroll.Out{User: args[0], Device: second(args), Cut: cut})
		},
	}
	cmd.Flags().BoolVar(&cut, "cut", false, flagUserCut)
	return cmd
}

func (s *session) userList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: shortUserList, Long: longUserList, Args: exactly(0),
		RunE: func(*cobra.Command, []string) error { return s.listUsers() },
	}
}

// completeUser completes the names of users and of their devices.
func (s *session) completeUser(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var all []cobra.Completion
	if s.file != "-" {
		if p, err := s.policy(); err == nil {
			for i := range p.Users {
				switch u := &p.Users[i]; {
				case len(args) == 0:
					all = append(all, u.Name)
				case len(args) == 1 && u.Name == args[0]:
					all = append(all, u.Devices...)
				}
			}
		}
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

// enrolled is the answer of add, rotate and show to programs.
type enrolled struct {
	File     string         `json:"file"`
	Keys     string         `json:"keys"`
	Devices  []linkedDevice `json:"devices"`
	Loaded   *bool          `json:"loaded,omitempty"` // whether the kernel knows it already
	Warnings []ui.Remark    `json:"warnings"`
	Error    *ui.Failure    `json:"error,omitempty"` // what is not loaded, or not saved
}

type linkedDevice struct {
	User   string       `json:"user"`
	Device string       `json:"device"`
	Links  []deviceLink `json:"links"`
}

// A deviceLink leads to one service.
type deviceLink struct {
	Door string     `json:"door"`
	Link string     `json:"link"`
	Host hosts.JSON `json:"host"`

	of hosts.Host
}

// enroll changes the files, has the kernel know it, and prints the links of the devices
// with new keys.
func (s *session) enroll(ctx context.Context, user string, l links, do func(*enroll.Files) (*enroll.Result, error)) error {
	if _, err := s.editable(); err != nil {
		return err
	}
	if keys, err := keyfile.Read(s.keysFile()); err == nil { // otherwise nothing will be changed
		l.known = keys.Hosts
	}
	// Where clients find the doors is asked before anything is changed.
	found := func(p *policy.Policy) error {
		for i := range p.Doors {
			if d := &p.Doors[i]; slices.Contains(d.Knock.Users, user) {
				if _, err := s.reached(d, l); err != nil {
					return err
				}
			}
		}
		return nil
	}
	c, err := s.changeUsers(ctx, nil, found, func(f *enroll.Files) (*enroll.Result, error) {
		f.Host = l.host
		return do(f)
	})
	if err != nil {
		return err
	}
	loaded := c.Loaded != nil
	answer := enrolled{File: s.file, Keys: c.Keys.Path, Loaded: &loaded, Devices: []linkedDevice{}, Error: c.notTold()}
	for i := range c.New {
		d, err := s.linksOf(c.Policy, c.Keys, &c.New[i], l)
		if err != nil {
			return err
		}
		answer.Devices = append(answer.Devices, d)
	}
	if err := s.answerLinks(answer, l); err != nil {
		return err
	}
	if !s.JSON {
		s.sayEnrolled(c, answer.Devices)
		if len(c.New) == 0 && doorsOf(c.Policy, user) > doorsOf(c.Before, user) {
			s.Hint(hintNewDoor(user))
		}
	}
	if answer.Error != nil {
		answer.Error.Answered = s.JSON
		return answer.Error
	}
	return nil
}

// doorsOf returns how many doors a user's keys open.
func doorsOf(p *policy.Policy, user string) (n int) {
	for i := range p.Doors {
		if slices.Contains(p.Doors[i].Knock.Users, user) {
			n++
		}
	}
	return n
}

// reached returns how clients reach a door.
func (s *session) reached(d *policy.Door, l links) (hosts.Host, error) {
	h, known := l.at[d.Name]
	if known {
		return h, nil
	}
	h = hosts.New(d.Name)
	err := s.reach(d, &h, cmp.Or(l.host, l.known[d.Name]))
	l.at[d.Name] = h
	return h, err
}

// linksOf returns the links of a device.
func (s *session) linksOf(p *policy.Policy, keys *keyfile.File, k *keyfile.Device, l links) (linkedDevice, error) {
	user, device, _ := strings.Cut(k.Name, "/")
	d := linkedDevice{User: user, Device: device, Links: []deviceLink{}}
	for i := range p.Doors {
		door := &p.Doors[i]
		if !slices.Contains(door.Knock.Users, user) {
			continue
		}
		for _, service := range door.Services {
			h, err := s.reached(door, l)
			if err != nil {
				return d, err
			}
			if len(door.Services) > 1 {
				h.Name = fmt.Sprintf("%s-%d", door.Name, service.Number)
			}
			credential := keys.Credential(k, door.Name)
			h.Key, h.Token, h.Service = &credential, p.Keys.Port.Number, service
			link, f := h.Link()
			if f != nil {
				return d, &ui.Failure{Code: ui.CodeUsage, Message: f.Message, Hints: []string{f.Hint}}
			}
			d.Links = append(d.Links, deviceLink{door.Name, link, h.JSON(hosts.Disclosed), h})
		}
	}
	return d, nil
}

// answerLinks prints links.
func (s *session) answerLinks(answer enrolled, l links) error {
	if s.JSON {
		answer.Warnings = s.Remarks
		return s.Answer(answer)
	}
	count := 0
	for _, d := range answer.Devices {
		count += len(d.Links)
	}
	for _, d := range answer.Devices {
		for _, link := range d.Links {
			if count > 1 {
				s.sayLink(d, link)
			}
			if _, err := fmt.Fprintln(s.Out, link.Link); err != nil {
				return err
			}
			switch {
			case l.qr == drawQR || l.qr == drawQRIfSeen && count > 1:
				s.sayQR(drawing(link.Link, usualQuiet))
			case l.qr == drawQRIfSeen:
				s.drawOnScreen(link.Link, linesBelowLink, fmt.Sprintf("postern user show %s %s --qr", d.User, d.Device))
			}
		}
	}
	return nil
}

func (s *session) showUser(user, device string, l links) error {
	p, err := s.policy()
	if err != nil {
		return err
	}
	keys, err := s.readKeys()
	if err != nil {
		return err
	}
	u := p.User(user)
	if u == nil {
		return enroll.Unknown(p, user)
	}
	l.known = keys.Hosts
	answer := enrolled{File: s.file, Keys: keys.Path, Devices: []linkedDevice{}}
	for _, d := range u.Devices {
		k := keys.Find(user + "/" + d)
		if device != "" && d != device || k == nil && device == "" {
			continue
		}
		if k == nil {
			return noKey(user, d)
		}
		linked, err := s.linksOf(p, keys, k, l)
		if err != nil {
			return err
		}
		answer.Devices = append(answer.Devices, linked)
	}
	if len(answer.Devices) == 0 {
		return noDevice(u, device)
	}
	if err := s.answerLinks(answer, l); err != nil || s.JSON {
		return err
	}
	for _, d := range answer.Devices {
		s.sayEachLink(d)
	}
	return nil
}

// readKeys reads the keys of the policy file's users, and warns if others can.
func (s *session) readKeys() (*keyfile.File, error) {
	keys, err := keyfile.Read(s.keysFile())
	if err == nil && keys.Exposed {
		s.Warn(exposedKeys(keys.Path))
	}
	return keys, err
}

// editable reads the policy of a verb that changes it.
func (s *session) editable() (*policy.Policy, error) {
	if s.file == "-" {
		return nil, notEditable()
	}
	return s.policy()
}

// A usersChange is what has become of the users, and what the kernel knows of it.
type usersChange struct {
	*enroll.Result // nil if the files are as before
	enroll.Effect
	shut      enroll.Shut // what was done before
	unchanged error       // why the files are as before
	untold    error       // why the kernel does not know all of the change; if it does: why that is not saved
}

// changeUsers changes the policy and the keys, and has the kernel know it. Who is to be
// shut out is so before the files are changed, and if these cannot be, too: then the
// error is in the answer. out may be nil.
func (s *session) changeUsers(ctx context.Context, out *enroll.Out, check func(*policy.Policy) error,
	do func(*enroll.Files) (*enroll.Result, error)) (*usersChange, error) {
	c, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer c.End()
	k := enroll.Kernel{Kept: c.State, Survey: backends.Look(s.backends), Spare: host.WayIn()}
	var noSecret error
	k.Secret, noSecret = c.Secret()
	if k.Loaded, err = s.loaded(k.Survey); err != nil {
		return nil, err
	}
	u := &usersChange{}
	if out != nil {
		file, _ := s.machine(k.Loaded[0].Backend)
		u.shut = k.ShutOut(out, s.keysFile(), file)
	}
	r, err := do(&enroll.Files{Policy: s.file, Keys: s.keysFile(), Check: func(p *policy.Policy) error {
		if _, err := k.Survey.For(p).Machine(p); err != nil {
			return err
		}
		return check(p)
	}})
	switch {
	case err != nil && len(u.shut.Devices) == 0 && u.shut.Keys == nil:
		return nil, err
	case err != nil:
		u.unchanged = err
		return u, nil
	}
	u.Result = r
	u.Effect, u.untold = k.Tell(r)
	if u.Loaded != nil {
		if b := k.Loaded[0].Backend; noSecret != nil {
			if m, err := b.Machine(r.Policy); err == nil {
				s.report(preflight.Secret(m, b, noSecret), takeRisk)
			}
		}
		u.untold = s.keep(c, *u.Loaded)
	}
	return u, nil
}

// revokedUser is the answer of revoke to programs.
type revokedUser struct {
	File     string      `json:"file"`
	Keys     string      `json:"keys"`
	User     string      `json:"user"`
	Devices  []string    `json:"devices"`           // whose keys are gone
	Listed   bool        `json:"listed"`            // the policy lists the user still
	Grants   int         `json:"grants"`            // that were taken away
	Partial  bool        `json:"partial,omitempty"` // the keys may have opened more than was read
	Cut      *cut        `json:"cut,omitempty"`
	Loaded   bool        `json:"loaded"`
	Warnings []ui.Remark `json:"warnings"`
	Error    *ui.Failure `json:"error,omitempty"` // what could not be changed
}

func anyPolicy(*policy.Policy) error { return nil }

// revokeKeys shuts devices out: first in the kernel, and then in the files, if these can
// be changed.
func (s *session) revokeKeys(ctx context.Context, out *enroll.Out) error {
	if s.file == "-" {
		return notEditable()
	}
	_, unreadable := s.policy()
	u, err := s.changeUsers(ctx, out, anyPolicy, func(f *enroll.Files) (*enroll.Result, error) {
		r, err := f.Revoke(out.User, out.Device)
		if errors.Is(err, fs.ErrNotExist) && unreadable != nil {
			err = unreadable // which says what to do
		}
		return r, err
	})
	if err != nil {
		return err
	}
	took := &u.shut.Took
	answer := revokedUser{
		File: s.file, Keys: s.keysFile(), User: out.User, Devices: []string{}, Listed: true,
		Grants: took.Grants, Partial: took.Partial, Loaded: u.Loaded != nil, Warnings: s.Remarks, Error: u.failure(out),
	}
	if out.Cut {
		answer.Cut = cutBy(*took)
	}
	gone := u.shut.Devices
	if u.Result != nil {
		answer.Listed = u.Policy == nil || u.Policy.User(out.User) != nil
		for i := range u.Gone {
			gone = append(gone, u.Gone[i].Name)
		}
	}
	for _, name := range gone {
		if _, device, _ := strings.Cut(name, "/"); !slices.Contains(answer.Devices, device) {
			answer.Devices = append(answer.Devices, device)
		}
	}
	slices.Sort(answer.Devices)
	if s.JSON {
		if err := s.Answer(answer); err != nil || answer.Error == nil {
			return err
		}
		answer.Error.Answered = true
		return answer.Error
	}
	s.sayUserRevoked(answer, u)
	if answer.Error != nil {
		return answer.Error
	}
	return nil
}

// userListing is the answer of list to programs.
type userListing struct {
	File     string       `json:"file"`
	Keys     string       `json:"keys"`
	Users    []listedUser `json:"users"`
	Warnings []ui.Remark  `json:"warnings"`
}

type listedUser struct {
	User     string         `json:"user"`
	Devices  []listedDevice `json:"devices"`
	Doors    []string       `json:"doors"`
	Networks []string       `json:"networks"`
	Until    *time.Time     `json:"until"` // null: for ever
	Expired  bool           `json:"expired"`
}

type listedDevice struct {
	Device string `json:"device"`
	Key    bool   `json:"key"` // it has one
}

func (s *session) listUsers() error {
	p, err := s.policy()
	if err != nil {
		return err
	}
	keys, err := s.readKeys()
	if err != nil {
		return err
	}
	answer := userListing{File: s.file, Keys: keys.Path, Users: []listedUser{}, Warnings: s.Remarks}
	doors := map[string][]string{}
	for i := range p.Doors {
		for _, name := range p.Doors[i].Knock.Users {
			doors[name] = append(doors[name], p.Doors[i].Name)
		}
	}
	for i := range p.Users {
		u := &p.Users[i]
		row := listedUser{User: u.Name, Doors: doors[u.Name], Networks: []string{}}
		for _, d := range u.Devices {
			row.Devices = append(row.Devices, listedDevice{d, keys.Find(u.Name+"/"+d) != nil})
		}
		for _, n := range u.Networks {
			row.Networks = append(row.Networks, policy.FormatNetwork(n))
		}
		if !u.Until.IsZero() {
			row.Until, row.Expired = &u.Until, !time.Now().Before(u.Until)
		}
		answer.Users = append(answer.Users, row)
	}
	if s.JSON {
		return s.Answer(answer)
	}
	if len(answer.Users) == 0 {
		s.sayNoUsers()
		return nil
	}
	t := ui.Table{headUsers}
	for _, u := range answer.Users {
		for _, d := range u.Devices {
			t = append(t, []string{u.User, d.Device, d.text(), strings.Join(u.Doors, ", "), u.untilText()})
		}
	}
	var b strings.Builder
	t.Write(&b, s.OutTTY)
	_, err = io.WriteString(s.Out, b.String())
	return err
}
