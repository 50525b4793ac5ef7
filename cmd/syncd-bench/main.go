// Command syncd-bench measures syncd: the real binary against a real Postgres
// and a simulated Polar in another process, beside what bounds it from above
// (a plain download, plain COPYs) and what it replaces (a script around the
// SDK).
//
// Its invariant: whatever is compared was measured in the same run, on the same
// rows, against the same Polar and the same Postgres, as the time and the CPU
// of a whole process; and whatever was started is ended, whatever was made is
// removed, also after Ctrl-C. A run of syncd that fails, or that did not see
// every row, is an error and never a number.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run returns the exit code: 0 done, 1 something could not be measured, 2 wrong
// usage, 130 interrupted. A target that is not met is no failure.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := rootCommand(stdin, stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "syncd-bench: %v; see syncd-bench --help\n", err)
		return 2
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "syncd-bench: interrupted; everything it started has ended")
		return 130
	}
	fmt.Fprintf(stderr, "syncd-bench: %v\n", err)
	return 1
}

// A usageError is a mistake on the command line.
type usageError struct{ problem string }

func (e *usageError) Error() string { return e.problem }
