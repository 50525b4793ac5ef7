package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"polarmirror/internal/config"
	"polarmirror/internal/console"
	"polarmirror/internal/store"
)

// errBackfillStopped says what a backfill that was told to stop leaves.
var errBackfillStopped = errors.New("stopped before the end: what was saved stands, and the next --backfill goes on from there")

// backfill walks every organization once and prints what came of it.
func (p *program) backfill(ctx context.Context) error {
	err := p.backfillUntilStopped(ctx)
	if err == nil || ctx.Err() == nil {
		return err
	}
	return errors.Join(errBackfillStopped, besidesStops(err))
}

func (p *program) backfillUntilStopped(ctx context.Context) error {
	cfg, err := p.loadConfig()
	if err != nil {
		return err
	}
	p.openLog(cfg.Log, false)
	defer p.announceStop(ctx)()
	p.warn(cfg)
	if err := p.openProfiles(ctx); err != nil {
		return err
	}
	env, err := p.openEnv(ctx, cfg)
	if err != nil {
		return err
	}
	before, err := env.db.NewestRun(ctx)
	if err != nil {
		return err
	}
	m, err := p.newMirror(env.cfg, env.db, env.source, p.newProgress(true))
	if err != nil {
		return err
	}
	failed := untilStopped(ctx, func() error { return m.Backfill(ctx) })
	if ctx.Err() != nil {
		return failed
	}
	if failed == nil {
		p.beatOnce(ctx, env.cfg, env.db)
	}
	p.screen.Close()
	return errors.Join(failed, p.reportBackfill(ctx, env, before))
}

// reportBackfill prints what the runs after run number before did, for the demo
// some of what is now in the database, and how to open it.
func (p *program) reportBackfill(ctx context.Context, e *env, before int64) error {
	runs, err := e.db.FullRunsSince(ctx, before)
	if err != nil {
		return err
	}
	if err := printRuns(p.stdout, e.cfg.Organizations, runs); err != nil {
		return err
	}
	if err := printRejected(p.stdout, runs); err != nil {
		return err
	}
	if e.demo != nil {
		if err := e.show(ctx, p.stdout); err != nil {
			return err
		}
	}
	if e.db.psql == "" {
		return nil
	}
	service := "syncd"
	if e.demo != nil {
		service = "syncd --demo"
	}
	_, err = fmt.Fprintf(p.stdout, "\nOpen the database while %s runs, which keeps it current:\n\n  %s\n", service, e.db.psql)
	return err
}

// printRuns prints a row for each organization and, if it is so, that nothing
// had changed.
func printRuns(out io.Writer, organizations []config.Organization, runs []store.FullRun) error {
	byName := map[string]store.FullRun{}
	for _, r := range runs {
		byName[r.Organization] = r
	}
	table := console.Table{
		Columns: []string{"organization", "rows", "inserted", "updated", "deleted", "rejected", "requests", "exact", "duration", "result"},
		Right:   []string{"rows", "inserted", "updated", "deleted", "rejected", "requests", "duration"},
	}
	written, complete := int64(0), true
	for _, o := range organizations {
		r, ok := byName[o.Name]
		if !ok {
			complete = false
			table.Rows = append(table.Rows, []string{o.Name, "", "", "", "", "", "", "", "", "failed"})
			continue
		}
		complete = complete && r.Status == "succeeded"
		written += r.Counts.RowsInserted + r.Counts.RowsUpdated + r.Counts.RowsDeleted
		table.Rows = append(table.Rows, []string{
			o.Name,
			console.Count(r.LiveRows),
			console.Count(r.Counts.RowsInserted),
			console.Count(r.Counts.RowsUpdated),
			console.Count(r.Counts.RowsDeleted),
			console.Count(r.Counts.RowsRejected),
			console.Count(r.Counts.Requests),
			yesNo(r.Exact),
			console.Span(r.Duration),
			r.Status,
		})
	}
	if err := table.Print(out); err != nil {
		return err
	}
	if !complete || written > 0 {
		return nil
	}
	_, err := fmt.Fprintln(out, "Nothing had changed at Polar since the last run: 0 rows inserted, 0 updated.")
	return err
}

// printRejected says where to look for rows that could not be mirrored.
func printRejected(out io.Writer, runs []store.FullRun) error {
	var rejected int64
	for _, r := range runs {
		rejected += r.Counts.RowsRejected
	}
	if rejected == 0 {
		return nil
	}
	_, err := fmt.Fprintf(out, "%s rows could not be mirrored, so the run is not exact; see why: SELECT customer_meter_id, reason FROM polar.rejected_rows;\n", console.Count(rejected))
	return err
}

func yesNo(b *bool) string {
	switch {
	case b == nil:
		return ""
	case *b:
		return "yes"
	default:
		return "no"
	}
}
