// Package debian boots real Debian 12 machines, with systemd as their first
// process, on the hosts of a lab. It is for what only a booted system shows: the
// order of services at boot, what a reload of another firewall does, packages,
// logins.
//
// A test that uses it runs with the flag -systemd only, which `make systemd` gives;
// otherwise it is skipped:
//
//	func TestMain(m *testing.M) { lab.Main(m.Run) }
//
//	func TestBoot(t *testing.T) {
//		l := lab.NewT(t)
//		outside := l.Host("outside")
//		m := debian.New(t, l, debian.UFW, func(gw *lab.Host) {
//			l.Connect(outside, gw, "192.0.2.0/24", "2001:db8::/64")
//		})
//		debian.Postern(t, program)
//		m.Install(program, "/usr/bin/postern", 0o755)
//		m.Write("/etc/postern/policy.yaml", policy, 0o600)
//		m.On()
//		m.Run("postern up -f /etc/postern/policy.yaml")
//		m.Reboot()
//		…
//	}
//
// [Machine.Run] runs a command line in the machine, as root at its console, and
// ends the test if it fails; [Machine.Try] returns its error. [Machine.SSH] lets a
// host of the lab log in by the network.
//
// # What a machine is
//
// A system below systemd-nspawn, in the network namespace of a lab.Host: [Machine.Host],
// a new one at each boot. The function given to [New] lays its cables, before
// anything runs there. So packets arrive from the first moment, earlier than on a
// real machine, whose network starts after network-pre.target. Its disk is an
// overlay on a system that all tests share, and outlives a reboot and [Machine.Cut], which
// kills every process of the machine at once, as a power cut does. (What has been
// written is not lost by it, as it may be on a real disk.)
//
// The kernel is that of the machine that runs the tests, and so are its modules: what it
// does not have, no test can load.
//
// # What it needs
//
// Root of the whole machine, and systemd-nspawn and debootstrap, which
// `scripts/install-test-tools systemd` installs. The system is made once, from Debian's archive,
// in the user's cache directory (postern/debian-…, 1 GB); later runs need no
// network. Nothing is installed or started outside, and when the test process ends, however it ends,
// the kernel ends the machine with it. (A killed run leaves its disk in the directory for temporary files,
// as any test does, and empty cgroups, which the next run removes.)
package debian
