// Package verifier has the kernel verify the tokens of a machine. It is what backends have
// in common: they load rules that know the codes of the program of package bpf, each in
// its own way.
package verifier
