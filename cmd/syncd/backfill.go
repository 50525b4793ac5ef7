package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

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
	e, err := p.openMirror(ctx, false)
	if err != nil {
		return err
	}
	p.showProgress(true)
	failed := untilStopped(ctx, func() error { return e.mirror.Backfill(ctx) })
	if ctx.Err() != nil {
		return failed
	}
	// The heartbeat is of all organizations. Nothing fails for want of it.
	if failed == nil && !e.cfg.HeartbeatURL.IsZero() && len(p.flags.organizations) == 0 {
		if err := p.newPulse(e.cfg, e.db, func(bool) {}).Send(ctx); err != nil {
			p.log.Warn("no heartbeat", zap.Error(err))
		}
	}
	p.screen.Close()
	return errors.Join(failed, p.reportBackfill(ctx, e))
}

// reportBackfill prints what the backfill's runs did, for the demo
// some of what is now in the database, and how to open it.
func (p *program) reportBackfill(ctx context.Context, e *env) error {
	runs, err := e.db.BackfillRuns(ctx)
	if err != nil {
		return err
	}
	text := runsText(e.cfg.Organizations, runs)
	if e.demo != nil {
		shown, err := e.demoQueries(ctx)
		if err != nil {
			return err
		}
		text += shown
	}
	if e.psql != "" {
		text += fmt.Sprintf("\nOpen the database while %s runs, which keeps it current:\n\n  %s\n", p.service(), e.psql)
	}
	return p.print(text)
}

// runsText is a row for each organization and, if it is so, that nothing
// had changed, and where to look for rows that could not be mirrored.
func runsText(organizations []config.Organization, runs []store.FullRun) string {
	byName := map[string]store.FullRun{}
	for _, r := range runs {
		byName[r.Organization] = r
	}
	table := console.Table{Columns: []string{"organization", "rows", "inserted", "updated", "deleted", "rejected", "requests", "exact", "duration", "result"}}
	written, rejected, complete := int64(0), int64(0), true
	for _, o := range organizations {
		r, ok := byName[o.Name]
		if !ok {
			complete = false
			table.Add(o.Name, "", "", "", "", "", "", "", "", "failed")
			continue
		}
		complete = complete && r.Status == "succeeded"
		written += r.RowsInserted + r.RowsUpdated + r.RowsDeleted
		rejected += r.RowsRejected
		exact := ""
		if r.Exact != nil {
			exact = map[bool]string{true: "yes", false: "no"}[*r.Exact]
		}
		table.Add(o.Name, r.LiveRows, r.RowsInserted, r.RowsUpdated, r.RowsDeleted, r.RowsRejected, r.Requests, exact, max(cmp.Or(r.FinishedAt, time.Now()).Sub(r.StartedAt), 0), r.Status)
	}
	text := table.String()
	if complete && written == 0 {
		text += "Nothing had changed at Polar since the last run: 0 rows inserted, 0 updated.\n"
	}
	if rejected > 0 {
		text += console.Plural(rejected, "row", "rows") + " could not be mirrored, so the run is not exact; see why: SELECT customer_meter_id, reason FROM polar.rejected_rows;\n"
	}
	return text
}
