package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"go.uber.org/zap"
	"golang.org/x/term"

	"polarmirror/internal/console"
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
// it opened.
type program struct {
	flags         flags
	lookupEnv     func(string) (string, bool)
	stdout        io.Writer
	screen        *console.Screen // stderr
	terminal      bool            // stderr is one that can show bars
	log           *zap.Logger
	started       bool           // the command line was understood
	observability *observability // nil but for the service
	closers       []closer
}

// A closer undoes an opening.
type closer struct {
	name  string
	close func(context.Context) error
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
	err := p.execute(ctx, args)
	err = errors.Join(err, p.close(ctx))
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

// announceStop says, once ctx has ended, that the end may take a moment. The
// returned function takes that back, or waits until it has been said.
func (p *program) announceStop(ctx context.Context) (forget func()) {
	log := p.log
	said := make(chan struct{})
	forgotten := context.AfterFunc(ctx, func() {
		defer close(said)
		if p.terminal {
			fmt.Fprintln(p.screen, "stopping, press Ctrl-C again to abort")
			return
		}
		log.Info("stopping")
	})
	return func() {
		if !forgotten() {
			<-said
		}
	}
}

// execute parses the command line and runs the command.
func (p *program) execute(ctx context.Context, args []string) error {
	root := p.rootCommand()
	root.SetArgs(args)
	root.SetOut(p.stdout)
	root.SetErr(p.screen)
	command, err := root.ExecuteContextC(ctx)
	var usage *usageError
	if err != nil && !p.started && !errors.As(err, &usage) {
		return &usageError{command: command.CommandPath(), problem: oneLine(err.Error())}
	}
	return err
}

// onClose has something closed at the end, before all that was opened earlier.
func (p *program) onClose(name string, closeIt func(context.Context) error) {
	p.closers = append(p.closers, closer{name, closeIt})
}

// close closes everything. When time is up it leaves the rest to the end of the
// process, which costs nothing but a recovery at the next start.
func (p *program) close(ctx context.Context) error {
	limit := closeTime
	if ctx.Err() != nil {
		limit = max(time.Until(stoppedAt(ctx).Add(exitTime)), 100*time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		var errs []error
		for i := len(p.closers) - 1; i >= 0; i-- {
			c := p.closers[i]
			if err := c.close(ctx); err != nil {
				errs = append(errs, fmt.Errorf("close %s: %w", c.name, err))
			}
		}
		done <- errors.Join(errs...)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return nil
	}
}

// stoppedAt is when ctx was ended by a signal.
func stoppedAt(ctx context.Context) time.Time {
	var i *interruption
	if errors.As(context.Cause(ctx), &i) {
		return i.at
	}
	return time.Now()
}

// untilStopped calls work, which ends soon after ctx does. Should it not, it is
// left alone.
func untilStopped(ctx context.Context, work func() error) error {
	done := make(chan error, 1)
	go func() { done <- work() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(stopTime)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return errInterrupted
	}
}
