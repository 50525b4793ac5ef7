package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// errInterrupted is what a signal ends work with.
var errInterrupted = errors.New("interrupted")

// An interruption is the cause of a context that a signal ended.
type interruption struct {
	signal os.Signal
	at     time.Time
}

func (i *interruption) Error() string   { return "interrupted by " + i.signal.String() }
func (i *interruption) Is(e error) bool { return e == errInterrupted }

// oneSignal is how long after the first signal others still belong to it: a
// supervisor may send one to the process and one to its group.
const oneSignal = time.Second

// interruptible returns a context that the first signal to stop ends. A later
// one aborts the program at once: what was being written is rolled back by
// Postgres, and the embedded database is adopted by the next start.
//
// A closed pipe behind standard output is a failed write and no signal, so that
// "syncd status | head" too ends in order.
func interruptible(parent context.Context, exit func(int)) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, stopSignals()...)
	done := make(chan struct{})
	go func() {
		var first time.Time
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				if first.IsZero() {
					first = time.Now()
					cancel(&interruption{signal: s, at: first})
				} else if time.Since(first) > oneSignal {
					exit(exitFailed)
					return
				}
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}

// stopSignals are the signals that end the program. Under nohup, SIGHUP is ignored
// and stays so.
func stopSignals() []os.Signal {
	list := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		list = append(list, syscall.SIGHUP)
	}
	return list
}
