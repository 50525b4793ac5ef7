// Package docstest holds tests of the documents in docs against the program.
//
// Its invariant: what the troubleshooting tables quote is in the program's own
// text, so that whoever searches for the words on the screen finds them, and
// what the log warns of is in the tables.
package docstest
