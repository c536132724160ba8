package cli

const (
	shortUninstall = "undo what postern install has done"
	longUninstall  = `Disables and removes the units that "postern install" has written. Units that a
package has brought are disabled, and stay. The policy stays, and so do the rules
that are loaded, until the next boot: "postern down" removes those.`
	sayNothingInstalled = "nothing was installed"
)
