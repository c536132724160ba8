// Package booted has no code of its own, only tests: they run Postern on booted
// Debian machines, beside the firewalls that Debian has, while a prober outside
// connects to a hidden port some twenty times a millisecond.
//
//	boot_test.go       from power-on to login, and after a power cut
//	firewall_test.go   the other firewalls, and what reloads, restarts and flushes them
//	event_test.go      while they do
//	init_test.go       a first policy, over ssh, beside ufw
//	keys_test.go       tokens that were recorded before a boot, and the next one
//	mark_test.go       another firewall that lets in what Postern has marked only
//	package_test.go    the package: installed, upgraded, removed, purged
//	replaced_test.go   another build in the place of the running watchdog's
//	rollback_test.go   up --confirm over ssh, and who takes the rules back
//	kills_test.go      the same, and everything that can die meanwhile
//	scene_test.go      what these have in common
//
// They run with -systemd only: make systemd. See package lab/debian.
package booted
