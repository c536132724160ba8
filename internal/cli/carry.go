package cli

import "io"

// load is how much of a stream is taken at a time.
const load = 256 << 10

// carry copies from one stream to another until the first has ended.
//
// It is not io.Copy, because that leaves the work to the kernel where both are files, by
// splice(2): which takes an urgent byte, and what comes after it, for the end.
func carry(to io.Writer, from io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, load))
}
