package cli

const (
	shortDown = "take everything out of the kernel again"
	longDown  = `Removes Postern's own rules from the kernel, of whichever backend, and nothing
else. What the policy hid is then as open as without it.`
)
