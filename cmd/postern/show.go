package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"postern/internal/firewall/nftables"
)

func (s *session) showCommand() *cobra.Command {
	var format string
	var comments bool
	cmd := &cobra.Command{
		Use:     "show",
		Short:   shortShow,
		Long:    longShow,
		Example: exampleShow,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "nft" {
				return &usageError{err: unknownFormat(format), cmd: cmd}
			}
			style := nftables.Plain
			if comments {
				style = nftables.Commented
			}
			return s.show(style)
		},
	}
	cmd.Flags().StringVar(&format, "format", "nft", flagFormat)
	cmd.Flags().BoolVar(&comments, "comments", true, flagComments)
	return cmd
}

// shown is the answer of show to programs.
type shown struct {
	File    string `json:"file"`
	Format  string `json:"format"`
	RuleSet string `json:"rule_set"`
	Text    string `json:"text"`
}

func (s *session) show(style nftables.Style) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	rules := nftables.Compile(m)
	text := rules.Render(style)
	if s.json {
		return s.answer(shown{s.file, "nft", rules.Digest(), text})
	}
	_, err = fmt.Fprint(s.out, text)
	return err
}
