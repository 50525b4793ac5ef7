package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Problem is one thing to mend.
type Problem struct {
	File    string // path of the file, or "environment"; may be ""
	Line    int    // from 1; 0 = not about one place
	Column  int    // from 1, in characters
	Message string // what is wrong and what to do, one line, no secret
}

// String is "file:line:column: message", without the parts that are not known.
func (p Problem) String() string {
	switch {
	case p.Line > 0:
		return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
	case p.File != "":
		return p.File + ": " + p.Message
	default:
		return p.Message
	}
}

// An Error is why there is no configuration: all problems, in file order.
type Error struct {
	Problems []Problem // at least one
}

// Error is a line for each problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// errorOf returns the problems as an error in file order, nil if there are none.
func errorOf(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return &Error{Problems: problems}
}

// problemOf returns an error of one problem that is about file as a whole.
func problemOf(file, format string, args ...any) error {
	return &Error{Problems: []Problem{{File: file, Message: fmt.Sprintf(format, args...)}}}
}
