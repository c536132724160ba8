package migrate

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"postern/internal/lazyregexp"
)

// A command is a simple command of a shell script.
type command struct {
	line    int
	words   []string // with variables filled in; the program first
	unset   string   // a variable, or more, that the script does not set to plain text
	depends bool     // on a condition, which only the host can answer
	never   string   // where it is, if it never runs
	input   []string // lines of a here-document
	toFile  bool     // it writes a file
}

// program is the name of what a command runs, without its folder.
func (c *command) program() string { return path.Base(c.words[0]) }

var iptablesName = lazyregexp.New(`^ip6?tables(-(nft|legacy))?$`)

func callsIptables(word string) bool { return iptablesName().MatchString(path.Base(word)) }

// Bounds of what loops, functions and expansions can make of a script.
const (
	maxSteps  = 100_000 // statements
	maxWords  = 1_000   // of one word
	maxBraces = 20      // in one word: the time to expand it grows faster than their number
	maxValue  = 1 << 14 // of a variable
	maxOpens  = 50_000  // words and brackets that can nest: the parser needs 2 kB of stack for each
)

// readShell returns the commands of a script, in the order in which they run:
// loops over words are unrolled, and functions run where they are called. Of
// conditions it knows nothing, and so takes every branch, but for those that end
// the script. It runs nothing.
func readShell(text string) ([]command, error) {
	s := &shell{values: map[string]string{}, functions: map[string]*syntax.Stmt{}, called: map[string]bool{}}
	if err := s.script(text); err != nil {
		return nil, err
	}
	for _, name := range s.declared {
		if !s.called[name] {
			s.unless("the function "+name+", which nothing calls", []*syntax.Stmt{s.functions[name]})
		}
	}
	return s.all, nil
}

// A shell is a script under way.
type shell struct {
	values    map[string]string // of variables and parameters
	functions map[string]*syntax.Stmt
	declared  []string // the functions, in order
	called    map[string]bool
	all       []command

	line     int // of a script within the script; 0: of none
	depth    int // of calls
	steps    int
	depends  int // of conditions
	never    string
	finished bool // by an exit
}

var opensShell = lazyregexp.New("[({[`!]|\\b(if|while|until|case|for|select|function|time|coproc)\\b")

func (s *shell) script(text string) error {
	if len(opensShell().FindAllStringIndex(text, maxOpens+1)) > maxOpens {
		return errTooLarge
	}
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), "")
	if err != nil {
		return err
	}
	s.statements(file.Stmts)
	return nil
}

func (s *shell) statements(list []*syntax.Stmt) {
	for _, st := range list {
		s.statement(st)
		if s.finished && s.never == "" {
			s.never = "what comes after an exit"
		}
	}
}

// under reads statements that run on a condition.
func (s *shell) under(list ...*syntax.Stmt) {
	if ends(list) {
		s.unless("a branch that ends the script", list)
		return
	}
	s.depends++
	s.statements(list)
	s.depends--
}

// unless reads statements that never run.
func (s *shell) unless(where string, list []*syntax.Stmt) {
	before := s.never
	s.never = where
	s.statements(list)
	s.never = before
}

// ends reports whether statements end the script.
func ends(list []*syntax.Stmt) bool {
	return slices.ContainsFunc(list, func(st *syntax.Stmt) bool {
		switch c := st.Cmd.(type) {
		case *syntax.CallExpr:
			return len(c.Args) > 0 && c.Args[0].Lit() == "exit"
		case *syntax.Block:
			return ends(c.Stmts)
		}
		return false
	})
}

func (s *shell) statement(st *syntax.Stmt) {
	if s.steps++; s.steps > maxSteps {
		return
	}
	switch c := st.Cmd.(type) {
	case *syntax.CallExpr:
		s.call(st, c)
	case *syntax.DeclClause:
		s.assign(c.Args)
	case *syntax.BinaryCmd:
		before := len(s.all)
		s.statement(c.X)
		switch {
		case c.Op == syntax.AndStmt && before < len(s.all) && !s.all[len(s.all)-1].asks(), c.Op == syntax.Pipe, c.Op == syntax.PipeAll:
			s.statement(c.Y)
		default:
			s.under(c.Y)
		}
	case *syntax.IfClause:
		for ; c != nil; c = c.Else {
			s.statements(c.Cond)
			s.under(c.Then...)
		}
	case *syntax.WhileClause:
		s.statements(c.Cond)
		s.under(c.Do...)
	case *syntax.ForClause:
		s.loop(c)
	case *syntax.CaseClause:
		s.choose(c)
	case *syntax.Block:
		s.statements(c.Stmts)
	case *syntax.Subshell:
		s.statements(c.Stmts)
	case *syntax.TimeClause:
		s.statement(c.Stmt)
	case *syntax.FuncDecl:
		if s.functions[c.Name.Value] == nil {
			s.declared = append(s.declared, c.Name.Value)
		}
		s.functions[c.Name.Value] = c.Body
	}
}

// asks reports whether a command answers a question by its exit code, rather
// than does anything.
func (c *command) asks() bool {
	return slices.Contains([]string{"[", "test", "command", "which", "type", "grep"}, c.program()) ||
		slices.ContainsFunc(c.words, func(w string) bool { return w == "-C" || w == "--check" || w == "-n" || w == "-L" })
}

// loop unrolls a loop over words.
func (s *shell) loop(c *syntax.ForClause) {
	words, over := c.Loop.(*syntax.WordIter)
	if !over || len(words.Items) == 0 {
		s.under(c.Do...)
		return
	}
	var values []string
	for _, w := range words.Items {
		fields, err := s.fields(w)
		if err != nil {
			delete(s.values, words.Name.Value)
			s.under(c.Do...)
			return
		}
		values = append(values, fields...)
	}
	for _, value := range values {
		s.values[words.Name.Value] = value
		s.statements(c.Do)
	}
}

// choose reads the branches of a case: of those of a service's script, start.
func (s *shell) choose(c *syntax.CaseClause) {
	start := slices.IndexFunc(c.Items, func(item *syntax.CaseItem) bool {
		return slices.ContainsFunc(item.Patterns, func(w *syntax.Word) bool { return w.Lit() == "start" })
	})
	for i, item := range c.Items {
		switch {
		case i == start:
			s.statements(item.Stmts)
		case start >= 0:
			s.unless("a branch beside \"start\"", item.Stmts)
		default:
			s.under(item.Stmts...)
		}
	}
}

func (s *shell) assign(all []*syntax.Assign) {
	for _, a := range all {
		switch {
		case a.Name == nil || a.Naked && a.Value == nil:
		case a.Append || a.Array != nil || a.Index != nil:
			delete(s.values, a.Name.Value)
		default:
			value, err := expand.Literal(s.expansion(), a.Value)
			if s.values[a.Name.Value] = value; err != nil || len(value) > maxValue {
				delete(s.values, a.Name.Value)
			}
		}
	}
}

// call reads a simple command.
func (s *shell) call(st *syntax.Stmt, c *syntax.CallExpr) {
	if len(c.Args) == 0 {
		s.assign(c.Assigns)
		return
	}
	cmd := command{line: s.line, depends: s.depends > 0, never: s.never}
	if s.line == 0 {
		cmd.line = int(st.Pos().Line())
	}
	for _, w := range c.Args {
		fields, err := s.fields(w)
		if err != nil {
			fields = []string{source(w)}
			if unset := (expand.UnsetParameterError{}); errors.As(err, &unset) {
				cmd.unset = "$" + unset.Node.Param.Value
			} else if cmd.unset == "" {
				cmd.unset = fields[0]
			}
		}
		cmd.words = append(cmd.words, fields...)
	}
	for _, r := range st.Redirs {
		if r.Hdoc != nil {
			text, err := expand.Document(s.expansion(), r.Hdoc)
			if err != nil {
				text = source(r.Hdoc)
			}
			cmd.input = strings.Split(text, "\n")
			cmd.line = int(r.Hdoc.Pos().Line()) - 1
		}
		cmd.toFile = cmd.toFile || r.Word != nil && r.Hdoc == nil && r.Op != syntax.DplOut && !strings.HasPrefix(r.Word.Lit(), "/dev/")
	}
	for len(cmd.words) > 1 && cmd.words[1] != "-v" && slices.Contains([]string{"sudo", "doas", "exec", "nice", "nohup", "env", "command"}, cmd.program()) {
		cmd.words = cmd.words[1:]
	}
	if len(cmd.words) == 0 {
		return
	}
	switch body, args := s.functions[cmd.words[0]], cmd.words[1:]; {
	case body != nil && s.depth < 20:
		s.called[cmd.words[0]] = true
		s.depth++
		for i := range 9 {
			delete(s.values, fmt.Sprint(i+1))
			if i < len(args) {
				s.values[fmt.Sprint(i+1)] = args[i]
			}
		}
		s.statement(body)
		s.depth--
	case cmd.words[0] == "exit":
		s.finished = s.finished || s.never == "" && s.depends == 0
	case len(args) > 1 && args[0] == "-c" && slices.Contains([]string{"sh", "bash", "dash", "ash"}, cmd.program()) && s.depth < 20:
		before := s.line
		s.line, s.depth = cmd.line, s.depth+1
		if s.script(args[1]) != nil {
			s.all = append(s.all, cmd)
		}
		s.line, s.depth = before, s.depth-1
	default:
		s.all = append(s.all, cmd)
	}
}

// expansion is how words are expanded: one of its own for each, as an expansion
// may have commands in it that need more.
func (s *shell) expansion() *expand.Config {
	return &expand.Config{Env: s, NoUnset: true, CmdSubst: s.substitute}
}

// fields expands a word, which may become none or several.
func (s *shell) fields(w *syntax.Word) ([]string, error) {
	if strings.Count(source(w), "{") > maxBraces {
		return nil, errors.New("too many braces")
	}
	n := 0
	for range expand.BracesSeq(s.expansion(), w) { // {1..1000000}
		if n++; n > maxWords {
			return nil, errors.New("too many words")
		}
	}
	return expand.Fields(s.expansion(), w)
}

// source is a word as it is written.
func source(w *syntax.Word) string {
	var b strings.Builder
	if syntax.NewPrinter().Print(&b, w) != nil {
		return "?"
	}
	return b.String()
}

// substitute answers $(which iptables) and its like, and fails for all else, but
// reads what it does.
func (s *shell) substitute(w io.Writer, c *syntax.CmdSubst) error {
	before := len(s.all)
	s.statements(c.Stmts)
	if len(s.all) > before {
		first := s.all[before]
		if slices.Contains([]string{"which", "command", "type", "whereis"}, first.words[0]) {
			_, err := io.WriteString(w, first.words[len(first.words)-1])
			return err
		}
	}
	return errors.New("what a command prints is not known")
}

// Get, Each and Set make the shell the environment that words are expanded in.
func (s *shell) Get(name string) expand.Variable {
	value, is := s.values[name]
	if name == "HOME" || strings.HasPrefix(name, "HOME ") { // or the users of this host would be asked for
		value, is = "~", true
	}
	return expand.Variable{Set: is, Kind: expand.String, Str: value}
}

func (s *shell) Each(func(string, expand.Variable) bool) {}

func (s *shell) Set(name string, v expand.Variable) error {
	s.values[name] = v.Str
	return nil
}
