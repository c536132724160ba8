// Package lab builds throwaway networks: hosts, cables, bridges and routes in
// network namespaces of the running kernel. The demo, the tests and the
// benches send real packets through real rule sets in them, and the machine's
// own network is never touched.
//
//	func TestMain(m *testing.M) { lab.Main(m.Run) }
//
//	func TestKnock(t *testing.T) {
//		l := lab.NewT(t)
//		client, gw := l.Host("client"), l.Host("gw")
//		uplink, downlink := l.Connect(client, gw, "192.0.2.0/24", "2001:db8::/64")
//		ln, err := gw.Listen(t.Context(), "tcp", ":22")
//		…
//		conn, err := client.Dial(t.Context(), "tcp", netip.AddrPortFrom(downlink.Addr4(), 22))
//		…
//	}
//
// # Nothing is left behind
//
// A host is an anonymous network namespace: it has no name in /run/netns, only
// a file descriptor of this process. However the process ends, by a failed
// test, a panic, Ctrl-C or kill -9, the kernel closes the descriptor and takes
// down the namespace with its links and rules. A program started by
// [Host.Command] is killed by the kernel when this process dies, and with it
// everything that it has started.
//
// # Setting up, and errors
//
// Building a network is many small steps, and none is worth going on after one
// has failed. So the steps that build (Host, Connect, Bridge, Route, Sysctl …)
// return no error: the first one is kept, the later steps do nothing, and
// [Lab.Err] returns it. With [NewT] it ends the test at once. What a test asserts
// on (Do, Dial, Send, Next …) returns its errors, that first one among them.
//
// # Ordinary users
//
// [Enter] starts the program again in a user namespace when the user may not
// make network namespaces. Nearly everything works there. What does not, the
// kernel forbids: switching to other users (a login through sshd), TUN
// devices, receive buffers above net.core.rmem_max. [RealRoot] reports whether
// the process is root of the whole machine, and may do these.
package lab
