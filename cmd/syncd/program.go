package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/term"

	"polarmirror/internal/console"
	"polarmirror/internal/mirror"
	"polarmirror/internal/store"
)

const (
	// stopTime is how long work may go on after the first signal: the block in
	// hand is saved meanwhile.
	stopTime = 6 * time.Second
	// exitTime is when after the first signal the program ends at the latest.
	exitTime = 9500 * time.Millisecond
	// closeTime bounds closing when nobody waits for it.
	closeTime = 15 * time.Second
)

// A program is one call of syncd: what it was told, where it writes, and what
// undoes what it opened.
type program struct {
	flags     flags
	lookupEnv func(string) (string, bool)
	stdout    io.Writer
	screen    *console.Screen // stderr
	terminal  bool            // stderr is one that can show bars
	log       *zap.Logger
	started   bool                 // the command line was understood
	all       []store.Organization // configured, whatever --organization says
	closers   []func(context.Context) error
}

// run is syncd: it does what args ask for and returns the exit code. It stops in
// an orderly way when ctx ends.
func run(ctx context.Context, args []string, lookupEnv func(string) (string, bool), stdout, stderr io.Writer) int {
	p := &program{
		lookupEnv: lookupEnv,
		stdout:    stdout,
		screen:    console.NewScreen(stderr),
		terminal:  isTerminal(stderr, lookupEnv),
		log:       zap.NewNop(),
	}
	exit, cancel := withGrace(ctx, exitTime)
	defer cancel()
	err := p.execute(ctx, args)
	if err != nil && ctx.Err() != nil && besidesStops(err) == nil && !errors.Is(err, mirror.ErrStopped) {
		err = errInterrupted
	}
	p.screen.Close()
	err = errors.Join(err, p.close(exit))
	for _, line := range errorLines(err) {
		fmt.Fprintf(p.screen, "syncd: %s\n", line)
	}
	return exitCode(err)
}

// isTerminal reports whether w is a terminal that understands more than text.
func isTerminal(w io.Writer, lookupEnv func(string) (string, bool)) bool {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return false
	}
	kind, _ := lookupEnv("TERM")
	return kind != "dumb"
}

// execute parses the command line and runs the command.
func (p *program) execute(ctx context.Context, args []string) error {
	root := p.rootCommand()
	root.SetArgs(args)
	root.SetOut(p.stdout)
	root.SetErr(p.screen)
	command, err := root.ExecuteContextC(ctx)
	if err != nil && !p.started {
		said := strings.Replace(strings.TrimRight(err.Error(), ".\n"), "\n\nDid you mean this?\n\t", "; did you mean ", 1)
		return &exitError{exitUsage, fmt.Errorf("%s; see %s --help", said, command.CommandPath())}
	}
	return err
}

// onClose has something closed at the end, before all that was opened earlier.
func (p *program) onClose(closeIt func(context.Context) error) {
	p.closers = append(p.closers, closeIt)
}

// background runs f until the program ends.
func (p *program) background(f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	p.onClose(func(context.Context) error {
		cancel()
		return <-done
	})
}

// every calls f again and again until ctx ends.
func every(ctx context.Context, interval time.Duration, f func()) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			f()
		}
	}
}

// close closes everything. When time is up it leaves the rest to the end of the
// process, which costs nothing but a recovery at the next start.
func (p *program) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	err := within(ctx, func() error {
		var errs []error
		for i := len(p.closers) - 1; i >= 0; i-- {
			errs = append(errs, p.closers[i](ctx))
		}
		return errors.Join(errs...)
	})
	if errors.Is(err, errInterrupted) {
		return nil
	}
	return err
}

// errInterrupted means that a signal came before there was anything to end in order, or
// that work did not end in time after it.
var errInterrupted = errors.New("interrupted")

// untilStopped calls work, which ends soon after ctx does. Should it not, it is
// left alone, and may still use what it was given.
func untilStopped(ctx context.Context, work func() error) error {
	ctx, cancel := withGrace(ctx, stopTime)
	defer cancel()
	return within(ctx, work)
}

// within calls work and waits for it until ctx ends.
func within(ctx context.Context, work func() error) error {
	done := make(chan error, 1)
	go func() { done <- work() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errInterrupted
	}
}

// withGrace returns a context that ends some time after ctx does.
func withGrace(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return longer, func() {
		stop()
		cancel()
	}
}
