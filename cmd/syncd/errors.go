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
	default:
		joined := joinedErrors(err)
		for _, one := range joined {
			lines = append(lines, errorLines(one)...)
		}
		if joined == nil {
			lines = append(lines, oneLine(err.Error()))
		}
	}
	return lines
}

// joinedErrors are the errors that errors.Join made one of. An error that wraps several
// in a sentence of its own, which may hold the cure, is none of those.
func joinedErrors(err error) []error {
	several, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	if joined := errors.Join(several.Unwrap()...); joined == nil || joined.Error() != err.Error() {
		return nil
	}
	return several.Unwrap()
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
	if joined := joinedErrors(err); joined != nil {
		var rest []error
		for _, e := range joined {
			rest = append(rest, besidesStops(e))
		}
		return errors.Join(rest...)
	}
	if errors.Is(err, mirror.ErrStopped) || errors.Is(err, context.Canceled) || errors.Is(err, errInterrupted) {
		return nil
	}
	return err
}
