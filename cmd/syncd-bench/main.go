// Command syncd-bench measures syncd: the real binary against a real Postgres
// and a simulated Polar, beside what bounds it from above (a plain download,
// plain COPYs), what it replaces (a script around the SDK), and with what the
// requests of each would cost Polar's database.
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
	"slices"
	"syscall"

	"github.com/spf13/pflag"
)

const help = `syncd-bench measures syncd: the real binary against a private Postgres (fsync on,
settings as Postgres has them) and a simulated Polar whose rows are rendered beforehand.
For each size it runs, each as a process of its own:

  plain download            every page over 8 connections, thrown away
  first load                syncd --backfill into a freshly migrated database
  COPY of the same rows     into the same tables with their keys and indexes
  full run, unchanged       syncd --backfill again, after VACUUM (ANALYZE) and CHECKPOINT
  full run, --walk          likewise, proven by overlapping pages
  full run, 1 % changed     likewise, after 1 % of the customer meters changed
  plain script              what one writes around Polar's SDK: page after page,
                            encoding/json, one batch of upserts a page; eight columns,
                            no customers, no history

Requests, skipped rows and statements are the cost at Polar, which no other program's
load changes. "Takes" is how long the requests take at 500 a minute; it is computed,
not waited for. Times, CPU and memory are those of whole processes, on an otherwise
idle machine. The table goes to standard output, progress to standard error.
1,000,000 customer meters take some 4 GB of memory.

Exit codes: 0 measured, 1 not, 2 wrong usage, 130 interrupted.

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if job := os.Getenv(workerEnv); job != "" {
		if err := work(ctx, job, stdout); err != nil {
			fmt.Fprintln(stderr, err)
			return 1
		}
		return 0
	}
	b := &bench{stderr: stderr}
	flags := pflag.NewFlagSet("syncd-bench", pflag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(stdout, help+flags.FlagUsages()) }
	flags.IntSliceVar(&b.sizes, "sizes", []int{10_000, 100_000, 1_000_000}, "`numbers` of customer meters, from 1000 on")
	flags.IntSliceVar(&b.meters, "meters", []int{usualMeters}, "`numbers` of meters")
	flags.BoolVar(&b.paced, "paced", false, "instead, a first load at Polar's limit and latency; takes minutes")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err == nil && flags.NArg() > 0:
		err = errors.New("unexpected argument " + flags.Arg(0))
	case err == nil && (slices.Min(b.sizes) < 1000 || slices.Min(b.meters) < 1):
		err = errors.New("--sizes begin at 1000, --meters at 1")
	}
	if err != nil {
		fmt.Fprintf(stderr, "syncd-bench: %v; see syncd-bench --help\n", err)
		return 2
	}
	// What was measured before something failed is worth showing.
	err = b.run(ctx)
	err = errors.Join(err, b.print(stdout))
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "syncd-bench: interrupted; everything it started has ended")
		return 130
	case err != nil:
		fmt.Fprintf(stderr, "syncd-bench: %v\n", err)
		return 1
	}
	return 0
}
