package cli

const (
	shortStatus = "show what is loaded, who knocks, who may enter"
	longStatus  = `Shows whether the kernel runs the policy, which sources are part-way through a
knock, which hold a grant and for how long, and what was counted. It ends with
exit code 1 if somebody else has changed the loaded rules: what they hide may
be open then, and "postern up" mends it.`
	flagAll = "show every source, not the first 20"
)
