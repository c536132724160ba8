// Package ui is how the command line speaks: to a person, on standard error and
// in colour where a terminal shows it, or to a program, in JSON. What a verb
// says is in the verb's own file; how it is said, and which exit code goes with
// it, is here.
package ui
