package main

import (
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

const rootLong = `syncd-bench measures syncd: the real binary against a private Postgres (fsync on,
settings as Postgres has them) and a simulated Polar in a process of its own,
whose rows are rendered beforehand.

For each size it runs these phases of syncd, each a process of its own,
  first      syncd --backfill into a freshly migrated database
  unchanged  the same again, after VACUUM (ANALYZE) and CHECKPOINT
  changed    the same again, after 1 % of the customer meters changed
  tick       syncd as the service, with nothing new: the worst of three ticks
  cost       what a first load, a full run, and one that walks (--walk) cost Polar's
             database, by the simulation's cost model, and how long they take at 500
             requests a minute; computed, not waited for; beside them a loop over the
             pages of Polar's SDK
  paced      a first load of --paced-rows customer meters with 150 ms a request, on
             top of what its statements take, and 500 requests a minute; takes
             minutes, so only when asked for
and beside them, against the same servers, these baselines:
  download   every page over 8 connections, thrown away
  copy       COPY of the rows that the first phase left, into the same tables with
             their keys and indexes
  plain      what a script around Polar's SDK does: page after page, encoding/json,
             one batch of upserts a page; eight columns, no customers, no history

Rows a second are those of the whole process, and beside that of the run as
polar.sync_runs has it; "others" is the part of the machine's CPUs that programs
besides the benchmark took meanwhile, and should be near 0. Of several --runs the medians of times, CPU and log are
shown, and the worst of memory and of what is counted. Results go to standard
output, progress to standard error.

Exit codes: 0 measured (whether or not the targets are met), 1 not, 2 wrong usage.`

const rootExample = `  go run ./cmd/syncd-bench                                       everything, about a quarter of an hour
  go run ./cmd/syncd-bench --runs 3                              likewise three times, for numbers to publish
  go run ./cmd/syncd-bench --sizes 10000,100000                  without the million
  go run ./cmd/syncd-bench --sizes 100000 --only first,copy      one ratio, while working on it
  go run ./cmd/syncd-bench --only cost
  go run ./cmd/syncd-bench --only paced
  go run ./cmd/syncd-bench --runs 3 --json > bench.json`

func rootCommand(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:           "syncd-bench",
		Short:         "Measure syncd beside what bounds it and what it replaces",
		Long:          rootLong,
		Example:       rootExample,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{"unexpected argument " + args[0]}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			plan, err := o.plan()
			if err != nil {
				return err
			}
			report, err := runBench(cmd.Context(), plan, stderr)
			if report == nil || report.empty() {
				return err
			}
			// What was measured before something failed is worth showing.
			if o.json {
				return errors.Join(err, report.printJSON(stdout))
			}
			return errors.Join(err, report.print(stdout))
		},
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	f := root.Flags()
	f.StringSliceVar(&o.sizes, "sizes", []string{"10000", "100000", "1000000"}, "`NUMBERS` of customer meters")
	f.StringSliceVar(&o.phases, "phases", []string{phaseFirst, phaseUnchanged, phaseChanged, phaseTick, phaseCost}, "`NAMES` of phases: "+strings.Join(phaseNames(), ", "))
	f.StringSliceVar(&o.baselines, "baselines", baselineNames(), "`NAMES` of baselines")
	f.StringSliceVar(&o.only, "only", nil, "`NAMES` of phases and baselines: these and no others")
	f.IntVar(&o.runs, "runs", 1, "measure each phase `N` times")
	f.IntVar(&o.pacedRows, "paced-rows", 100_000, "customer meters of the phase paced")
	f.StringVar(&o.syncd, "syncd", "", "measure the binary at `PATH` (default: built from this checkout)")
	f.StringArrayVar(&o.settings, "postgres-setting", nil, "`NAME=VALUE` of a Postgres setting; may be repeated")
	f.BoolVar(&o.json, "json", false, "print JSON")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err.Error()} })
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		hidden(rolePolar, func(cmd *cobra.Command, _ []string) error { return playPolar(cmd.Context(), stdin, stdout) }),
		hidden(roleWorker, func(cmd *cobra.Command, _ []string) error { return work(cmd.Context(), stdin, stdout) }),
	)
	return root
}

// hidden is a command for the processes that this program starts itself.
func hidden(role string, run func(*cobra.Command, []string) error) *cobra.Command {
	return &cobra.Command{Use: role, Hidden: true, RunE: run}
}
