package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"
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
// A hang-up is a signal to stop unless hangUps has a taker for it.
//
// A closed pipe behind standard output is a failed write and no signal, so that
// "syncd status | head" too ends in order.
func interruptible(parent context.Context, hangUps *hangUps, exit func(int)) (context.Context, func()) {
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
				switch {
				case s == syscall.SIGHUP && first.IsZero() && hangUps.deliver():
				case first.IsZero():
					first = time.Now()
					cancel(&interruption{signal: s, at: first})
				case time.Since(first) > oneSignal:
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

// stopSignals leaves out a hang-up that nohup told us to ignore.
func stopSignals() []os.Signal {
	list := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		list = append(list, syscall.SIGHUP)
	}
	return list
}

// hangUps are the hang-ups that this process gets. They end it, until the service
// takes them for orders.
type hangUps struct {
	terminals []*os.File // of the program's own files, those that were one at the start
	orders    chan struct{}

	mu    sync.Mutex
	taken bool
}

func newHangUps(files ...*os.File) *hangUps {
	h := &hangUps{orders: make(chan struct{}, 1)}
	for _, f := range files {
		if term.IsTerminal(int(f.Fd())) {
			h.terminals = append(h.terminals, f)
		}
	}
	return h
}

// take makes hang-ups orders from now on, which come on the channel; several
// that come at once are one. A nil h has none.
func (h *hangUps) take() <-chan struct{} {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.taken = true
	return h.orders
}

// deliver passes a hang-up on as an order. It reports false if nobody takes it,
// or if it means what its name says: the terminal that the program was started
// from is gone.
func (h *hangUps) deliver() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.taken {
		return false
	}
	for _, f := range h.terminals {
		if !term.IsTerminal(int(f.Fd())) {
			return false
		}
	}
	select {
	case h.orders <- struct{}{}:
	default:
	}
	return true
}
