package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// connections is how many requests syncd, and the plain download, have in
// flight.
const connections = 8

// errNotMirrored means that syncd ended well and did not do what a benchmark of
// it has to count on.
var errNotMirrored = errors.New("syncd did not mirror what the simulated Polar holds")

// buildSyncd builds syncd into dir. It must be called in a checkout.
func buildSyncd(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "syncd")
	out, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", path, "polarmirror/cmd/syncd").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build syncd (or name a binary with --syncd): %w%s", err, tail(out))
	}
	return path, nil
}

// A syncd is the binary set up for one database and one Polar.
type syncd struct {
	binary string
	config string // path
	db     *database
}

// A syncdSetting is what differs between the phases' configurations.
type syncdSetting struct {
	requestsPerMinute int    // 0: no limit
	incremental       string // schedule of the service
}

// configure writes a configuration. The file holds the token and the database's
// password, and is for its owner only.
func (b *bench) configure(p *polar, db *database, set syncdSetting) (*syncd, error) {
	text := fmt.Sprintf(`
polar: {base_url: %q, requests_per_minute: %d, concurrency: %d}
organizations:
  - {name: bench, id: %s, access_token: %q}
database: {url: %q}
schedule: {incremental: %q, full: "", run_on_start: false}
http: {listen: ""}
`, p.URL, set.requestsPerMinute, connections, p.Organization, p.Token, db.url, set.incremental)
	path := filepath.Join(b.dir, db.name+".yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write a configuration: %w", err)
	}
	return &syncd{binary: b.opts.syncd, config: path, db: db}, nil
}

func (s *syncd) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.binary, append(args, "--config", s.config, "--log-level", "warn", "--no-progress")...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopTime
	return cmd
}

// migrate makes the schema, which is part of no phase.
func (s *syncd) migrate(ctx context.Context) error {
	_, err := measure(s.command(ctx, "migrate", "up"))
	return err
}

// backfill runs syncd --backfill and proves that it was one exact full run that
// leaves rows in the mirror.
func (s *syncd) backfill(ctx context.Context, rows int, args ...string) (sample, error) {
	before, err := s.db.lastRun(ctx)
	if err != nil {
		return sample{}, err
	}
	taken, err := s.db.sampled(ctx, rows, s.command(ctx, append(args, "--backfill")...))
	if err != nil {
		return sample{}, err
	}
	runs, err := s.db.ended(ctx, before)
	if err != nil {
		return sample{}, err
	}
	if len(runs) != 1 || runs[0].Kind != "full" || runs[0].Status != "succeeded" || runs[0].Exact == nil || !*runs[0].Exact {
		return sample{}, fmt.Errorf("%w: its runs are %+v", errNotMirrored, runs)
	}
	mirrored, err := s.db.mirrored(ctx)
	if err != nil {
		return sample{}, err
	}
	if mirrored != int64(rows) {
		return sample{}, fmt.Errorf("%w: %d rows of %d", errNotMirrored, mirrored, rows)
	}
	run := runs[0]
	taken.runWall = time.Duration(run.Seconds * float64(time.Second))
	taken.requests, taken.rateLimited, taken.updated, taken.method = run.Requests, run.RateLimited, run.RowsUpdated, run.Method
	return taken, nil
}

// sampled measures a process that works on the database with rows rows.
func (d *database) sampled(ctx context.Context, rows int, cmd *exec.Cmd) (sample, error) {
	before, err := d.mark(ctx)
	if err != nil {
		return sample{}, err
	}
	used, err := measure(cmd)
	if err != nil {
		return sample{}, err
	}
	grown, err := d.since(ctx, before)
	if err != nil {
		return sample{}, err
	}
	return sample{
		before: before, rows: rows,
		wall: used.wall, cpu: used.cpu, peak: used.peak, stdout: used.stdout,
		wal: grown.wal, serverCPU: grown.server, others: grown.others, cpuKnown: grown.ok,
	}, nil
}

// ticksWanted is how many idle ticks are measured.
const ticksWanted = 3

// idleTicks runs syncd as the service until it has done some ticks. The sample
// is of the worst of them; wall is the service's, with the waiting in between.
func (s *syncd) idleTicks(ctx context.Context) (sample, error) {
	before, err := s.db.lastRun(ctx)
	if err != nil {
		return sample{}, err
	}
	m, err := s.db.mark(ctx)
	if err != nil {
		return sample{}, err
	}
	serving, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := startChild(s.command(serving))
	if err != nil {
		return sample{}, err
	}
	ended := make(chan struct{})
	var used usage
	var failed error
	go func() {
		defer close(ended)
		used, failed = c.wait()
	}()
	runs, err := s.awaitTicks(ctx, before, ended)
	cancel()
	<-ended
	if err != nil {
		return sample{}, errors.Join(err, failed)
	}
	if failed != nil {
		return sample{}, failed
	}
	grown, err := s.db.since(ctx, m)
	if err != nil {
		return sample{}, err
	}
	taken := sample{before: m, peak: used.peak, wal: grown.wal / int64(len(runs))}
	for _, r := range runs {
		taken.requests = max(taken.requests, r.Requests)
		taken.updated = max(taken.updated, r.RowsUpdated+r.RowsInserted)
		taken.runWall = max(taken.runWall, time.Duration(r.Seconds*float64(time.Second)))
	}
	return taken, nil
}

// awaitTicks waits until there are enough ticks, or the service has ended.
func (s *syncd) awaitTicks(ctx context.Context, before int64, ended <-chan struct{}) ([]syncRun, error) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		runs, err := s.db.ended(ctx, before)
		if err != nil {
			return nil, err
		}
		for _, r := range runs {
			if r.Kind != "incremental" || r.Status != "succeeded" {
				return nil, fmt.Errorf("syncd as a service: a run that is no successful tick: %+v", r)
			}
		}
		if len(runs) >= ticksWanted {
			return runs, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ended:
			return nil, errors.New("syncd as a service ended by itself")
		case <-ticker.C:
		}
	}
}
