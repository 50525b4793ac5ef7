package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"polarmirror/internal/config"
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

// A usageError is a command line that cannot be understood.
type usageError struct {
	command string // whose help tells more
	problem string
}

func (e *usageError) Error() string {
	return fmt.Sprintf("%s; see %s --help", strings.TrimSuffix(e.problem, "."), e.command)
}

// A databaseError is a database that cannot be used.
type databaseError struct{ err error }

func (e *databaseError) Error() string { return e.err.Error() }
func (e *databaseError) Unwrap() error { return e.err }

// An exitError ends the program with a code after everything has been said.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

func exitCode(err error) int {
	var (
		usage       *usageError
		cfg         *config.Error
		database    *databaseError
		unreachable *store.UnreachableError
		session     *store.SessionError
		unsuitable  *store.UnsuitableError
		schema      *store.SchemaError
		exit        *exitError
		listen      *web.ListenError
	)
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &usage), errors.As(err, &cfg), errors.As(err, &listen):
		return exitUsage
	case errors.As(err, &database), errors.As(err, &unreachable), errors.As(err, &session), errors.As(err, &unsuitable), errors.As(err, &schema):
		return exitDatabase
	default:
		return exitFailed
	}
}

// errorLines is what to tell of an error: a line for each problem of the
// configuration or organization that failed.
func errorLines(err error) []string {
	var exit *exitError
	var cfg *config.Error
	switch {
	case err == nil, errors.As(err, &exit):
		return nil
	case errors.As(err, &cfg):
		lines := make([]string, len(cfg.Problems))
		for i, p := range cfg.Problems {
			lines[i] = oneLine(p.String())
		}
		return lines
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var lines []string
		for _, e := range joined.Unwrap() {
			lines = append(lines, errorLines(e)...)
		}
		return lines
	}
	return []string{namedOnce(oneLine(err.Error()))}
}

// namedOnce leaves out the further times that the layers below name the
// organization which a line begins with.
func namedOnce(line string) string {
	name, rest, found := strings.Cut(line, ": ")
	if !found || !strings.HasPrefix(name, "organization ") {
		return line
	}
	name += ": "
	return name + strings.ReplaceAll(rest, name, "")
}

func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
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
