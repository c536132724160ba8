// Package kernels has no code of its own, only tests: they run the tests of other
// packages, and the program, on the kernels that Debian packages, each in a
// virtual machine with the Debian that the kernel belongs to.
//
//	kernels_test.go  which kernels, and what is run on them
//	machine_test.go  a virtual machine
//	system_test.go   Debian systems and kernels, made once
//	links_test.go    interfaces, tunnels and bad cables that take modules
//	missing_test.go  what "up" says where a kernel lacks a module
//	readers_test.go  the versions of nft that read what "show" prints
//
// They run with -kernels only: make kernels. docs/kernels.md has what was found.
//
// # What a machine is
//
// One processor, qemu's software emulation of it, and everything in memory: the
// archive that the kernel unpacks at boot holds the system, the modules, the
// tests and the first process, init.sh, which runs what the test wants and
// switches the machine off. It has no network and no disk.
//
// The processor is slow, ten to thirty times slower than the one that runs it, and
// no test needs to know: the machine's clock counts instructions (qemu's
// -icount), a nanosecond for each, and jumps to the next timer whenever the
// machine waits. So the tests have their own deadlines and see a machine of
// ordinary speed, whatever else runs beside it. What they report are the machine's
// seconds.
//
// # What it needs
//
// Root, qemu-system-x86_64 and debootstrap, which `scripts/install-test-tools
// kernels` installs. Systems and kernels are made once, from Debian's archive, in
// the user's cache directory (postern/kernels-…, half a gigabyte each); later runs
// need no network.
package kernels
