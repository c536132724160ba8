package cli

const (
	shortCompletion = "print a script that completes postern's verbs in a shell"
)
