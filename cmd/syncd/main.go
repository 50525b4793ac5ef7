// Command syncd mirrors the customer meters of Polar organizations into
// Postgres.
//
// Its invariant: everything it opened is closed in reverse order before it
// exits, also when it is told to stop, within ten seconds. What goes wrong is
// one line on standard error that names the cure, and an exit code:
// 0 done, 1 the work failed, 2 wrong usage or configuration, 3 no usable
// database. Logic lives in the packages below; here are flags and wiring.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
	_ "time/tzdata" // schedule.timezone works in an image without zone files
)

func main() {
	shareProcessors(os.LookupEnv)
	ctx, stop := interruptible(context.Background())
	code := run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// shareProcessors leaves half of the processors to others: Postgres often runs
// on the same machine, has most of the work, and waits where the collector of
// this program takes what looks idle. One processor keeps up with several times
// what Polar's limit lets through. The environment's GOMAXPROCS decides if it is
// set.
func shareProcessors(lookupEnv func(string) (string, bool)) {
	if _, set := lookupEnv("GOMAXPROCS"); set {
		return
	}
	runtime.GOMAXPROCS(max(1, min(4, runtime.GOMAXPROCS(0)/2)))
}

// oneSignal is how long after the first signal others still belong to it: a
// supervisor may send one to the process and one to its group.
const oneSignal = time.Second

// interruptible returns a context that the first signal to stop ends. A later
// one aborts the program at once: what was being written is rolled back by
// Postgres, and the embedded database is adopted by the next start.
//
// A closed pipe behind standard output is a failed write and no signal, so that
// "syncd status | head" too ends in order.
func interruptible(parent context.Context) (context.Context, context.CancelFunc) {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	stopping := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as it is under nohup
		stopping = append(stopping, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(parent, stopping...)
	context.AfterFunc(ctx, func() {
		time.Sleep(oneSignal)
		again := make(chan os.Signal, 1)
		signal.Notify(again, stopping...)
		<-again
		os.Exit(exitFailed)
	})
	return ctx, stop
}
