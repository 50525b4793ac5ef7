package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"polarmirror/internal/config"
	"polarmirror/internal/console"
	"polarmirror/internal/store"
)

func (p *program) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how current the mirror of each organization is",
		Long: `Shows for each organization: rows, last success, lag behind Polar, how the last
full run proved that it saw every row (walk: by overlapping pages, sweep: by rank),
last error, and when the schedules next ask for a run. It may be called while the service runs.`,
		Example: "  syncd status\n  syncd status --json | jq '.[] | select(.lag_seconds > 300)'\n  syncd status --demo",
		Args:    cobra.NoArgs,
		RunE:    p.status,
	}
	p.jsonFlag(cmd)
	p.demoFlag(cmd, "of the demo's database")
	return cmd
}

func (p *program) status(cmd *cobra.Command, _ []string) error {
	cfg, err := p.begin(cmd.Context(), true)
	if err != nil {
		return err
	}
	list, err := p.readStatus(cmd.Context(), cfg)
	if err != nil {
		return err
	}
	now := time.Now()
	report := statusReport(cfg, list, now)
	if p.flags.json {
		return p.printJSON(report)
	}
	text := statusText(report, now)
	if !slices.ContainsFunc(list, func(s store.OrgStatus) bool { return s.OrganizationID != uuid.Nil }) {
		text += fmt.Sprintf("Nothing has been mirrored yet: run %[1]s, or %[1]s --backfill.\n", p.service())
	}
	return p.print(text)
}

// readStatus returns the status of the configured organizations, then, unless some
// were asked for by name, of those that only the database knows. A database that has
// no schema yet knows none.
func (p *program) readStatus(ctx context.Context, cfg *config.Config) ([]store.OrgStatus, error) {
	unknown := make([]store.OrgStatus, len(cfg.Organizations))
	if embeddedMissing(cfg) {
		return unknown, nil
	}
	db, _, err := p.openDatabase(ctx, cfg)
	if err != nil {
		return nil, err
	}
	query := store.OrgStatusQuery{Organizations: configured(cfg), Others: len(p.flags.organizations) == 0, CountRows: true}
	list, err := db.OrgStatus(ctx, query)
	if is[*store.SchemaError](err) {
		return unknown, obsolete(ctx, db)
	}
	return list, err
}

// obsolete returns an error if the schema is from before the first release: nothing
// that it says of itself is true of this syncd's.
func obsolete(ctx context.Context, db *store.Store) error {
	if schema, ok := errors.AsType[*store.SchemaError](db.Ready(ctx)); ok && schema.Obsolete {
		return schema
	}
	return nil
}

// An organizationStatus is one organization in syncd status --json. Null means
// that there is nothing to tell.
type organizationStatus struct {
	Organization    string     `json:"organization"`
	OrganizationID  *uuid.UUID `json:"organization_id"`
	Configured      bool       `json:"configured"`
	Rows            int64      `json:"rows"`
	LastSuccess     *time.Time `json:"last_success"`
	LastFull        *time.Time `json:"last_full"`
	LastFullExact   *bool      `json:"last_full_exact"`
	LastFullMethod  *string    `json:"last_full_method"` // by which it proved that; null if it did not
	LastIncremental *time.Time `json:"last_incremental"`
	LagSeconds      *float64   `json:"lag_seconds"`
	Undated         bool       `json:"undated,omitzero"` // the last success is dated later than now: the lag is unknown
	Running         *string    `json:"running"`
	RunningSince    *time.Time `json:"running_since"`
	LastError       *string    `json:"last_error"`
	LastErrorAt     *time.Time `json:"last_error_at"`
	NextRun         *time.Time `json:"next_run"`
	NextRunKind     *string    `json:"next_run_kind"`
}

// statusReport describes what readStatus returned.
func statusReport(cfg *config.Config, list []store.OrgStatus, now time.Time) (report []organizationStatus) {
	next, kind := nextRun(cfg.Schedule, now)
	for i, st := range list {
		one := describeStatus(st)
		if i < len(cfg.Organizations) {
			o := cfg.Organizations[i]
			one.Organization, one.OrganizationID = o.Name, orNil(cmp.Or(st.OrganizationID, o.ID))
			one.Configured, one.NextRun, one.NextRunKind = true, timeOrNil(next), orNil(kind)
		}
		report = append(report, one)
	}
	return report
}

func describeStatus(st store.OrgStatus) organizationStatus {
	one := organizationStatus{
		Organization:    st.Organization,
		OrganizationID:  orNil(st.OrganizationID),
		Rows:            st.LiveRows,
		LastSuccess:     timeOrNil(st.LastSuccess()),
		LastFull:        timeOrNil(st.LastFull.Finished),
		LastFullExact:   st.FullExact,
		LastFullMethod:  orNil(string(st.FullMethod)),
		Undated:         st.Undated(),
		LastIncremental: timeOrNil(st.LastIncremental.Finished),
		Running:         orNil(string(st.Running)),
		RunningSince:    timeOrNil(st.RunningSince),
		LastError:       orNil(st.Failed.Message),
		LastErrorAt:     timeOrNil(st.Failed.At),
	}
	if st.Age != nil {
		one.LagSeconds = new(float64(st.Age.Milliseconds()) / 1000)
	}
	return one
}

// nextRun is when the schedules next ask for a run, and of which kind; zero if
// they never do.
func nextRun(s config.Schedule, now time.Time) (at time.Time, kind string) {
	schedules := schedulesOf(s)
	full, tick := schedules.Full.Next(now), schedules.Incremental.Next(now)
	switch {
	case full.IsZero() && tick.IsZero():
		return time.Time{}, ""
	case full.IsZero() || !tick.IsZero() && tick.Before(full):
		return tick, string(store.Incremental)
	}
	return full, string(store.Full)
}

func statusText(report []organizationStatus, now time.Time) string {
	table := console.Table{Columns: []string{"organization", "rows", "last success", "lag", "proof", "last error", "next run"}}
	const day = "2006-01-02 15:04:05Z"
	clock := func(t time.Time) string { // with the date where it is not clear from the hour
		if t.Sub(now).Abs() < 24*time.Hour {
			return t.Format("15:04:05Z")
		}
		return t.Format(day)
	}
	for _, o := range report {
		success, lag, proof, failure, next := "never", any(""), "none", "none", "never"
		switch {
		case o.Undated:
			success, lag = "dated later than now", "unknown"
		case o.LastSuccess != nil:
			success = o.LastSuccess.Format(day)
		}
		if o.LagSeconds != nil {
			lag = time.Duration(*o.LagSeconds * float64(time.Second))
		}
		if o.Running != nil {
			success += ", " + *o.Running + " run under way"
		}
		switch {
		case o.LastFullMethod != nil:
			proof = *o.LastFullMethod
		case o.LastFullExact != nil:
			proof = "not exact"
		}
		if o.LastError != nil {
			failure = *o.LastError
		}
		if o.LastErrorAt != nil {
			failure = clock(*o.LastErrorAt) + " " + failure
		}
		switch {
		case !o.Configured:
			next = "not configured"
		case o.NextRun != nil:
			next = fmt.Sprintf("%s (%s)", clock(*o.NextRun), *o.NextRunKind)
		}
		table.Add(o.Organization, o.Rows, success, lag, proof, failure, next)
	}
	return table.String()
}

func timeOrNil(t time.Time) *time.Time { return orNil(t.UTC()) }

func orNil[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}
