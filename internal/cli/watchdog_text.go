package cli

const (
	shortWatchdog = "load the rules again when other programs remove them"
	longWatchdog  = `Keeps the policy that "postern up" loaded last loaded: when another program removes
or modifies its rules (nft flush ruleset, systemctl reload nftables), they are
loaded again within milliseconds. Grants that clients had are lost, open
connections are not. Where the kernel can keep a table for one process (Linux 6.9,
and nft 1.1 if nft is installed), the rules are not removed in the first place:
"nft flush ruleset" skips them, and "nft delete table inet postern" is refused.

No packet passes through it. Without it, and when it is stopped, the rules work as
they are. "postern up" and "postern down" work as ever: the watchdog lets go of the
rules for them, and keeps what they leave. It runs until it is stopped; "postern
install" makes a service of it.

It says on standard error what it does, at most once a minute if it does the same
again and again.`
	flagOnce     = "load the rules if they are not as they should be, and exit"
	flagOnlyLook = "do not hold the rules: only load them again"
)
