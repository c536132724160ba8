package main

import "io"

// load is how much carry takes at a time.
const load = 256 << 10

// carry copies from one stream to another until the first has ended.
//
// It is not io.Copy, because that leaves the work to the kernel where both are files, and
// the kernel then moves a connection's bytes by way of another pipe, which holds
// sixteen packets.
func carry(to io.Writer, from io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, load))
}
