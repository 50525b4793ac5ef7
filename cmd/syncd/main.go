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

	_ "time/tzdata" // schedule.timezone works in an image without zone files
)

func main() {
	shareProcessors(os.LookupEnv)
	ctx, stop := interruptible(context.Background(), os.Exit)
	code := run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
