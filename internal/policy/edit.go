package policy

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"postern/internal/document"
)

// An UneditableError reports that a policy is valid, but that its text could not be
// changed as was asked: it is written in another layout than people use.
type UneditableError struct {
	Lines []string // what to write by hand
}

func (e *UneditableError) Error() string {
	return "the policy is written in a way that postern cannot edit"
}

// Hints returns what to write by hand.
func (e *UneditableError) Hints() []string { return e.Lines }

// Clone returns a copy whose users, and the doors' lists of users, can be changed.
func (p *Policy) Clone() *Policy {
	c := *p
	c.Users = slices.Clone(p.Users)
	for i := range c.Users {
		c.Users[i].Devices = slices.Clone(c.Users[i].Devices)
	}
	c.Doors = slices.Clone(p.Doors)
	for i := range c.Doors {
		c.Doors[i].Knock.Users = slices.Clone(c.Doors[i].Knock.Users)
	}
	return &c
}

// User returns the user of a name, or nil.
func (p *Policy) User(name string) *User {
	if i := slices.IndexFunc(p.Users, func(u User) bool { return u.Name == name }); i >= 0 {
		return &p.Users[i]
	}
	return nil
}

// Edit returns the text that a policy was parsed from, changed so that it has the keys,
// the users and the doors' lists of users of another policy, and the policy that it now
// is. Nothing else of these two may differ. Comments and layout stay. The error is an
// *InvalidError of what became of it, or an *UneditableError.
func Edit(name string, text []byte, old, want *Policy) ([]byte, *Policy, error) {
	e := document.NewEditor(string(text))
	editUsers(e, old, want)
	editDoors(e, old, want)
	switch {
	case !old.HasKeys() && want.HasKeys():
		before := "doors"
		if e.Has("users") {
			before = "users"
		}
		e.AddBefore(before, "keys", want.keysText())
	case old.HasKeys() && !want.HasKeys():
		e.Remove("keys")
	}
	edited, err := e.Text()
	if err == nil {
		var got *Policy
		if got, err = Parse(name, []byte(edited)); err == nil && Format(got) == Format(want) {
			return []byte(edited), got, nil
		}
	}
	// Was it the editor's doing, or is the policy that was asked for none?
	if _, err := Parse(name, []byte(Format(want))); err != nil {
		return nil, nil, err
	}
	return nil, nil, &UneditableError{byHand(old, want)}
}

// keysText returns the value of "keys" on one line.
func (p *Policy) keysText() string {
	text := "{port: " + p.Keys.Port.String()
	if p.Keys.Bound != DefaultBound {
		text += ", address: " + string(p.Keys.Bound)
	}
	return text + "}"
}

// text returns the user's value on one line.
func (u *User) text() string {
	text := "{devices: " + wordList(u.Devices)
	if len(u.Networks) > 0 {
		text += ", networks: " + u.networksText()
	}
	if !u.Until.IsZero() {
		text += ", until: " + FormatUntil(u.Until)
	}
	return text + "}"
}

func (u *User) networksText() string {
	var all []string
	for _, n := range u.Networks {
		text := FormatNetwork(n)
		if n.Addr().Is6() { // YAML takes some colons for those of a mapping
			text = `"` + text + `"`
		}
		all = append(all, text)
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// wordList returns names as a list.
func wordList(names []string) string {
	words := make([]string, len(names))
	for i, name := range names {
		words[i] = wordText(name)
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// wordText returns a name in quotes if YAML takes it for anything else.
func wordText(name string) string {
	text, err := yaml.Marshal(name)
	if err != nil {
		return `"` + name + `"`
	}
	return strings.TrimSpace(string(text))
}

// byName returns the users by their names: there may be ten thousand.
func byName(p *Policy) map[string]*User {
	all := make(map[string]*User, len(p.Users))
	for i := range p.Users {
		all[p.Users[i].Name] = &p.Users[i]
	}
	return all
}

func editUsers(e *document.Editor, old, want *Policy) {
	were, are := byName(old), byName(want)
	for i := range old.Users {
		if name := old.Users[i].Name; are[name] == nil && len(want.Users) > 0 {
			e.Remove("users", name)
		}
	}
	if len(want.Users) == 0 {
		e.Remove("users")
		return
	}
	if !e.Has("users") {
		var inner, words []string
		for i := range want.Users {
			line := wordText(want.Users[i].Name) + ": " + want.Users[i].text()
			inner, words = append(inner, line), append(words, line)
		}
		e.AddBefore("doors", "users", "{"+strings.Join(words, ", ")+"}", inner...)
		return
	}
	for i := range want.Users {
		now := &want.Users[i]
		was, path := were[now.Name], []string{"users", now.Name}
		if was == nil {
			e.Add([]string{"users"}, wordText(now.Name), now.text())
			continue
		}
		editList(e, was.Devices, now.Devices, append(slices.Clone(path), "devices")...)
		switch {
		case slices.Equal(was.Networks, now.Networks):
		case len(now.Networks) == 0:
			e.Remove("users", now.Name, "networks")
		default:
			e.Set(path, "networks", now.networksText())
		}
		switch {
		case was.Until.Equal(now.Until):
		case now.Until.IsZero():
			e.Remove("users", now.Name, "until")
		default:
			e.Set(path, "until", FormatUntil(now.Until))
		}
	}
}

func editDoors(e *document.Editor, old, want *Policy) {
	for i := range min(len(old.Doors), len(want.Doors)) {
		was, now := old.Doors[i].Knock.Users, want.Doors[i].Knock.Users
		knock := []string{"doors", want.Doors[i].Name, "knock"}
		switch {
		case slices.Equal(was, now):
		case len(was) == 0:
			e.Add(knock, "key", wordList(now))
		case len(now) == 0:
			e.Remove(append(knock, "key")...)
		default:
			editList(e, was, now, append(knock, "key")...)
		}
	}
}

// editList changes the items of a list. Those that come are the last.
func editList(e *document.Editor, was, now []string, path ...string) {
	had, has := map[string]bool{}, map[string]bool{}
	for _, item := range was {
		had[item] = true
	}
	for _, item := range now {
		if has[item] = true; !had[item] {
			e.Append(wordText(item), path...)
		}
	}
	for _, item := range was {
		if !has[item] {
			e.Delete(item, path...)
		}
	}
}

// byHand returns what a policy has that another has not, for a person to write.
func byHand(old, want *Policy) []string {
	var lines []string
	if !old.HasKeys() && want.HasKeys() {
		lines = append(lines, "write \"keys: "+want.keysText()+"\" at the top of the file")
	}
	were, are := byName(old), byName(want)
	for i := range want.Users {
		u := &want.Users[i]
		if was := were[u.Name]; was == nil || was.text() != u.text() {
			lines = append(lines, "write \""+wordText(u.Name)+": "+u.text()+"\" under \"users:\"")
		}
	}
	for i := range old.Users {
		if are[old.Users[i].Name] == nil {
			lines = append(lines, "remove "+old.Users[i].Name+" from \"users:\"")
		}
	}
	for i := range min(len(old.Doors), len(want.Doors)) {
		if now := want.Doors[i].Knock.Users; !slices.Equal(old.Doors[i].Knock.Users, now) {
			text := "remove \"key\" from"
			if len(now) > 0 {
				text = "write \"key: " + wordList(now) + "\" under"
			}
			lines = append(lines, text+" the knock of door "+want.Doors[i].Name)
		}
	}
	return lines
}
