// Package console is what people see on a terminal: progress bars, tables, and
// numbers in the form people read.
//
// Its invariants: a log line written through a [Screen] never tears a bar, and
// no text that came from elsewhere reaches the terminal with control characters
// in it. It knows nothing of Polar or of the mirror.
package console
