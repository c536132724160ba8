package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/document"
	"postern/internal/hosts"
	"postern/internal/keystore"
	"postern/internal/rewrite"
)

// settingFlags are the flags that are settings of a host.
var settingFlags = []struct{ key, usage string }{
	{hosts.KeyAddress, flagAddress},
	{hosts.KeyPort, flagPort},
	{hosts.KeyKnock, flagKnock},
	{hosts.KeyClose, flagClose},
	{hosts.KeyToken, flagToken}, // the key itself comes by a link, which has a check
	{hosts.KeyStepTimeout, flagStepTimeout},
	{hosts.KeyGap, flagGap},
	{hosts.KeyTimeout, flagTimeout},
	{hosts.KeyFamily, flagFamily},
	{hosts.KeyUser, flagUser},
}

func flagOf(key string) string { return strings.ReplaceAll(key, "_", "-") }

func (s *session) addCommand() *cobra.Command {
	var force, keyring bool
	cmd := &cobra.Command{
		Use:     "add NAME | [NAME] LINK",
		Short:   shortAdd,
		Long:    longAdd,
		Example: exampleAdd,
		// A new name cannot be completed, and a name to change can.
		ValidArgsFunction: func(cmd *cobra.Command, args []string, text string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if !force {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return completeHost(cmd, args, text)
		},
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return &ui.UsageError{Err: errors.New(sayNothingToAdd), Cmd: cmd}
			case len(args) == 1 && unwrapped(args[0]) == "":
				return &ui.UsageError{Err: errors.New(sayNoName), Cmd: cmd}
			}
			for _, arg := range args {
				if !isLink(arg) && strings.Contains(arg, "/") {
					return &ui.UsageError{Err: neither(arg), Cmd: cmd}
				}
			}
			if len(args) > 1 && isLink(args[0]) == isLink(args[1]) {
				return &ui.UsageError{Err: surplus(args[1]), Cmd: cmd}
			}
			return exactly(2)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := hosts.Own()
			if err != nil {
				return err
			}
			on := hosts.FailIfExists
			if force {
				on = hosts.ReplaceIfExists
			}
			n, err := s.newcomer(args, file, on)
			if err != nil {
				return err
			}
			if err := settings(cmd, &n.Host); err != nil {
				if force && n.from == fromNothing && !whole(&n.Host) {
					return &hosts.NotFoundError{Name: n.Name, File: file}
				}
				return &ui.UsageError{Err: err, Cmd: cmd}
			}
			n.toStore = keyring
			if old := file.Find(n.Name); !cmd.Flags().Changed("keyring") && old != nil && on == hosts.ReplaceIfExists {
				n.toStore = old.Stored && n.Key != nil
			}
			if n.toStore && n.Key == nil {
				return &ui.UsageError{Err: errors.New(sayNoKey), Cmd: cmd}
			}
			return s.add(cmd.Context(), n, file, on)
		},
	}
	for _, f := range settingFlags {
		cmd.Flags().String(flagOf(f.key), "", f.usage)
	}
	cmd.Flags().BoolVar(&force, "force", false, flagForce)
	cmd.Flags().BoolVar(&keyring, "keyring", false, flagKeyring)
	families := []cobra.Completion{"4", "6"}
	cmd.RegisterFlagCompletionFunc(flagOf(hosts.KeyFamily), cobra.FixedCompletions(families, cobra.ShellCompDirectiveNoFileComp))
	ui.WithoutPolicy(cmd)
	return cmd
}

// whole reports whether a host has all that a new one needs.
func whole(h *hosts.Host) bool { return h.Address != "" && (len(h.Knock) > 0 || h.Key != nil) }

// isLink reports whether an argument stands for a link.
func isLink(arg string) bool { return arg == "-" || hosts.IsLink(unwrapped(arg)) }

// unwrapped removes what is often copied with a link: spaces, line ends and quotes.
func unwrapped(text string) string {
	text = strings.TrimSpace(text)
	for _, quote := range []string{`"`, "'"} {
		if inner, found := strings.CutPrefix(text, quote); found && strings.HasSuffix(inner, quote) {
			return strings.TrimSpace(strings.TrimSuffix(inner, quote))
		}
	}
	return text
}

// A newcomer is a host to be added, and what it was made from before the flags.
type newcomer struct {
	hosts.Host
	from    origin
	toStore bool // the key is to be in the system's key store, and not in the file
}

type origin int

const (
	fromNothing origin = iota
	fromLink
	fromEntry // the one that has its name
)

// newcomer returns the host that the arguments name: as a link says, or the saved one
// that is to be changed, or one that has only a name.
func (s *session) newcomer(args []string, file *hosts.File, on hosts.IfExists) (newcomer, error) {
	name, link := "", ""
	for _, arg := range args { // in either order
		if isLink(arg) {
			link = unwrapped(arg)
		} else {
			name = arg
		}
	}
	if link == "" {
		if old := file.Find(name); old != nil && on == hosts.ReplaceIfExists {
			return newcomer{Host: *old, from: fromEntry}, nil
		}
		return newcomer{Host: hosts.New(name)}, nil
	}
	if link == "-" {
		// One byte more than any link has; a link that is too long is not read whole.
		text, err := io.ReadAll(io.LimitReader(s.stdin, hosts.MaxLink+1))
		if err != nil {
			return newcomer{}, notRead("stdin", err)
		}
		link = unwrapped(string(text))
	}
	h, err := hosts.ParseLink(link)
	if err != nil {
		return newcomer{}, badLink(err)
	}
	h.Name = cmp.Or(name, h.Name)
	return newcomer{Host: h, from: fromLink}, nil
}

// settings applies the flags to a host, and checks the result.
func settings(cmd *cobra.Command, h *hosts.Host) error {
	if f := hosts.CheckName(h.Name); f != nil {
		return f
	}
	for _, flag := range settingFlags {
		given := cmd.Flags().Lookup(flagOf(flag.key))
		if text := given.Value.String(); given.Changed && (text != "" || !h.Unset(flag.key)) {
			if f := setting(h, flag.key, text); f != nil {
				return fmt.Errorf("--%s: %w", given.Name, f)
			}
		}
	}
	if key, f := h.Check(); f != nil {
		if name := flagOf(key); key == hosts.KeyFamily && !cmd.Flags().Changed(name) {
			f = document.NewFault(f.Message, hintNoFamily)
		}
		return fmt.Errorf("--%s: %w", flagOf(key), f)
	}
	return nil
}

// setting sets one setting from the command line, where spaces may separate knocks,
// and the user and the port of an address have flags of their own.
func setting(h *hosts.Host, key, text string) *document.Fault {
	if key == hosts.KeyKnock || key == hosts.KeyClose {
		text = withCommas(text)
	}
	f := h.Set(key, text)
	if p := hosts.SplitDestination(text); f != nil && key == hosts.KeyAddress && (p.User != "" || p.Port != "") {
		f = document.NewFault(f.Message, inFlags(p))
	}
	return f
}

// withCommas puts commas between knocks that are written with spaces, or in the
// brackets of the hosts file. A comma too many stays, and is refused later.
func withCommas(text string) string {
	text = strings.TrimSpace(text)
	if inner, found := strings.CutPrefix(text, "["); found && strings.HasSuffix(inner, "]") {
		text = strings.TrimSuffix(inner, "]")
	}
	var words []string
	for part := range strings.SplitSeq(text, ",") {
		words = append(words, strings.Join(strings.Fields(part), ","))
	}
	return strings.Join(words, ",")
}

// added is the answer of add to programs.
type added struct {
	File     string      `json:"file"`
	Replaced bool        `json:"replaced"`
	Host     hosts.JSON  `json:"host"`
	Warnings []ui.Remark `json:"warnings"`
}

func (s *session) add(ctx context.Context, n newcomer, file *hosts.File, on hosts.IfExists) error {
	if err := s.save(ctx, &n, file, on); err != nil {
		if file.Exposed {
			s.Warn(exposed(file.Path))
		}
		return notAdded(n.from, file.Path, err)
	}
	if file.Exposed {
		s.Warn(wasExposed(file.Path))
	}
	replaced := file.Find(n.Name) != nil
	if s.JSON {
		return s.Answer(added{File: file.Path, Replaced: replaced, Host: n.JSON(hosts.Counted), Warnings: s.Remarks})
	}
	s.sayAdded(&n, file, on)
	return nil
}

// save saves a host in the file, and its key there or in the system's key store. If one
// fails, the other is as before.
func (s *session) save(ctx context.Context, n *newcomer, file *hosts.File, on hosts.IfExists) error {
	save := func() error { return hosts.Add(file.Path, n.Host, on) }
	old := file.Find(n.Name)
	switch replaces := old != nil && on == hosts.ReplaceIfExists; {
	case old != nil && !replaces: // which fails
	case n.toStore && !n.Stored:
		n.Stored = true
		if n.Entry = n.NewEntry(); old != nil && old.Stored && !file.Shares(old) {
			n.Entry = old.Entry
		}
		return keystore.Change(ctx, n.Name, n.StoreEntry(), n.Key, save)
	case n.toStore:
	case n.Stored:
		key, err := keystore.Get(ctx, n.Name, n.StoreEntry())
		if err != nil {
			return err
		}
		stored := n.Host
		n.Key, n.Stored, n.Entry = &key, false, ""
		return withoutKey(ctx, file, &stored, save)
	case replaces:
		return withoutKey(ctx, file, old, save)
	}
	return save()
}

// withoutKey saves a file in which a host's key is not in the key store any more, and deletes
// it there, but for one that another host of the file has, too.
func withoutKey(ctx context.Context, file *hosts.File, h *hosts.Host, save func() error) error {
	if !h.Stored || file.Shares(h) {
		return save()
	}
	return keystore.Change(ctx, h.Name, h.StoreEntry(), nil, save)
}

// badLink explains what is wrong with a link.
func badLink(err error) *ui.Failure {
	if _, ok := errors.AsType[*hosts.NewerError](err); ok {
		return &ui.Failure{Code: ui.CodeUnsupported, Message: err.Error(), Hints: []string{hintNewerLink}, Err: err}
	}
	f := &ui.Failure{Code: ui.CodeUsage, Message: err.Error(), Err: err}
	if fault, ok := errors.AsType[*document.Fault](err); ok {
		f.Message, f.Hints = fault.Message, []string{fault.Hint}
	}
	return f
}

// notAdded explains why a host was not added.
func notAdded(from origin, path string, err error) error {
	exists, _ := errors.AsType[*hosts.ExistsError](err)
	uneditable, _ := errors.AsType[*hosts.UneditableError](err)
	busy, _ := errors.AsType[*rewrite.BusyError](err)
	switch {
	case exists != nil:
		hints := []string{hintExists}
		if from == fromLink {
			hints = []string{hintOtherName, hintReplace}
		}
		return &ui.Failure{Code: ui.CodeFailed, Message: sayExists(exists, path), Hints: hints, Err: err}
	case uneditable != nil:
		return &ui.Failure{Code: ui.CodeFailed, Message: sayUneditable(path), Hints: []string{hintByHand + uneditable.Entry}, Err: err}
	case busy != nil:
		return &ui.Failure{Code: ui.CodeFailed, Message: err.Error(), Hints: []string{hintBusyHosts}, Err: err}
	}
	return err
}
