package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"polarmirror/internal/config"
	"polarmirror/internal/console"
	"polarmirror/internal/mirror"
	"polarmirror/internal/store"
	"polarmirror/internal/web"
)

// The exit codes.
const (
	exitDone     = 0
	exitFailed   = 1 // the work failed
	exitUsage    = 2 // wrong usage or configuration
	exitDatabase = 3 // database unreachable, unsuitable or not migratable
)

// An exitError is an error with an exit code of its own. Without err everything has
// been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d: %v", e.code, e.err) }
func (e *exitError) Unwrap() error { return e.err }

func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	if exit, ok := errors.AsType[*exitError](err); ok {
		return exit.code
	}
	switch {
	case is[*config.Error](err), is[*web.ListenError](err):
		return exitUsage
	case is[*store.UnusableError](err), is[*store.SchemaError](err):
		return exitDatabase
	}
	return exitFailed
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// errorLines is what to tell of an error: a line for each problem of the
// configuration or organization that failed.
func errorLines(err error) []string {
	var lines []string
	switch e := err.(type) {
	case nil:
	case *exitError:
		return errorLines(e.err)
	case *config.Error:
		for _, p := range e.Problems {
			lines = append(lines, oneLine(p.String()))
		}
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			lines = append(lines, errorLines(one)...)
		}
	default:
		lines = append(lines, oneLine(err.Error()))
	}
	return lines
}

// oneLine makes one line of what is to be told, fit for a terminal. Further times
// that the layers below name the organization which it begins with are left out.
func oneLine(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	if name, rest, found := strings.Cut(text, ": "); found && strings.HasPrefix(name, "organization ") {
		text = name + ": " + strings.ReplaceAll(rest, name+": ", "")
	}
	return console.Clean(text)
}

// besidesStops leaves out of an error what only says that work was stopped.
func besidesStops(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var rest []error
		for _, e := range joined.Unwrap() {
			rest = append(rest, besidesStops(e))
		}
		return errors.Join(rest...)
	}
	if errors.Is(err, mirror.ErrStopped) || errors.Is(err, context.Canceled) || errors.Is(err, errInterrupted) {
		return nil
	}
	return err
}
