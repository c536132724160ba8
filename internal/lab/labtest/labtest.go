// Package labtest is the scene that tests of packets share: a client, a gateway
// that runs a policy with some backend, and optionally a host behind the gateway,
// in a lab. It serves, sends, knocks and reports what a sender sees.
//
// The test of a backend starts like this:
//
//	func TestMain(m *testing.M) { lab.Main(m.Run) }
//
//	func TestKnock(t *testing.T) {
//		s := labtest.NewScene(t, Backend{})
//		labtest.Greet(t, s.Gateway, 22, "hello")
//		s.Up(labtest.Closed + "doors: {ssh: {service: tcp/22, knock: {sequence: [1234]}}}\n")
//		labtest.Each(t, func(t *testing.T, f labtest.Family) {
//			src := s.NewAddress(f)
//			s.Expect(t, src, labtest.TCP(22), labtest.Silence, "before the knock")
//			s.Knock(src, labtest.TCP(1234))
//			s.Expect(t, src, labtest.TCP(22), labtest.SYNACK, "after the knock")
//		})
//	}
//
// Tests that every backend must pass are in package conformance, which uses this
// scene. A backend joins them with one line. Its own tests are about what only it
// does: how it loads, lists and replaces its rules.
//
// For a network of another shape, build it with package lab: Serve, Greet, Dial,
// Compile, Apply and Inspect work on any host.
package labtest
