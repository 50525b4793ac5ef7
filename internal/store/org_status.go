package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// An Organization is one that is asked about.
type Organization struct {
	Name string    // label
	ID   uuid.UUID // zero: the one of that label that was mirrored last
}

// An OrgStatus is how one organization stands, by the runs of every replica: a
// row of the view polar.sync_status, which holds the rules. Times are by the
// database's clock, and zero where there is nothing to tell.
//
// A time that is later than now is zero too. The clock that gave it was ahead
// and has been corrected since, so that nobody knows when it was, and nothing
// may be put off because of it.
type OrgStatus struct {
	OrganizationID uuid.UUID // zero if the database does not know the organization
	Organization   string    // label

	// DataFrom is the start of the last successful run, which is the oldest
	// moment that the data may be from, and Age the time since then. Age is nil
	// if no run ever succeeded, or if it is unknown when; see Undated.
	DataFrom time.Time
	Age      *time.Duration

	LastFull, LastIncremental LastRun // that succeeded
	FullExact                 *bool   // whether the last full run proved that it saw every customer meter; nil if there was none
	FullRejected              int64   // rows that run could not mirror
	LastExact                 LastRun // of any kind, that proved that it saw everything

	Failed       Failure
	FullFailures int       // full runs that have failed since the last successful one, up to 10
	FullFailedAt time.Time // when the last of them ended

	Running      Kind // of the run under way; "" if there is none
	RunningSince time.Time

	LiveRows int64 // counted only if asked for
}

// A LastRun is the last run of some sort; its ID is 0 if there was none.
type LastRun struct {
	ID                int64
	Started, Finished time.Time
}

// Duration is how long the run took; 0 if that is unknown.
func (r LastRun) Duration() time.Duration {
	if r.Started.IsZero() || r.Finished.IsZero() {
		return 0
	}
	return max(r.Finished.Sub(r.Started), 0) // a clock may have been set back meanwhile
}

// A Failure is a run that failed, with no later success of its kind or of a full
// run; its Kind is "" if there is none.
type Failure struct {
	Kind    Kind
	At      time.Time
	Message string
}

// Failing reports whether a run failed and nothing has made up for it.
func (s *OrgStatus) Failing() bool { return s.Failed.Kind != "" }

// LastSuccessID is the number of the last successful run; 0 if there was none.
// Unlike times, the numbers of an organization's runs only ever grow.
func (s *OrgStatus) LastSuccessID() int64 { return max(s.LastFull.ID, s.LastIncremental.ID) }

// LastSuccess is when the last successful run ended.
func (s *OrgStatus) LastSuccess() time.Time {
	if s.LastIncremental.Finished.After(s.LastFull.Finished) {
		return s.LastIncremental.Finished
	}
	return s.LastFull.Finished
}

// Undated reports whether a run succeeded and it is unknown when, since it is
// dated later than now. The data counts as stale then.
func (s *OrgStatus) Undated() bool { return s.Age == nil && s.LastSuccessID() != 0 }

// An OrgStatusQuery says whose status to look up.
type OrgStatusQuery struct {
	// Organizations are those asked about; nil stands for all that the database
	// knows.
	Organizations []Organization
	// CountRows asks for LiveRows, which costs a look at every customer meter;
	// the rest costs a few index look-ups an organization, however many rows and
	// runs there are.
	CountRows bool
}

const orgStatusSQL = `
SELECT
    organization_id,
    organization,
    now() - lag,
    lag,
    coalesce(last_full_id, 0),
    last_full_started_at,
    last_full_finished_at,
    last_full_exact,
    coalesce(last_full_rejected, 0),
    coalesce(last_incremental_id, 0),
    last_incremental_started_at,
    last_incremental_finished_at,
    coalesce(last_exact_id, 0),
    last_exact_started_at,
    last_exact_finished_at,
    coalesce(last_error_kind, ''),
    last_error_at,
    coalesce(last_error, ''),
    full_failures,
    full_failed_at,
    coalesce(running, ''),
    running_since,
    CASE WHEN $1::boolean THEN live_rows ELSE 0 END
  FROM polar.sync_status
 WHERE $2::uuid[] IS NULL
    OR organization_id = ANY ($2)
 ORDER BY
    organization,
    greatest(last_full_id, last_incremental_id) NULLS FIRST,
    organization_id`

// OrgStatus returns how each of the organizations asked about stands, in their
// order; all that the database knows come by label and, of two with one label, as
// a changed id leaves them, the one mirrored last comes last.
func (s *Store) OrgStatus(ctx context.Context, q OrgStatusQuery) ([]OrgStatus, error) {
	return orgStatus(ctx, s.pool, q)
}

// OrgStatus is [Store.OrgStatus] in the view's snapshot.
func (v *View) OrgStatus(ctx context.Context, q OrgStatusQuery) ([]OrgStatus, error) {
	return orgStatus(ctx, v.tx, q)
}

func orgStatus(ctx context.Context, db interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}, q OrgStatusQuery) ([]OrgStatus, error) {
	var ids []uuid.UUID // nil: all
	if byLabel := func(o Organization) bool { return o.ID == uuid.Nil }; !slices.ContainsFunc(q.Organizations, byLabel) {
		for _, o := range q.Organizations {
			ids = append(ids, o.ID)
		}
	}
	rows, err := db.Query(ctx, orgStatusSQL, q.CountRows, ids)
	if err != nil {
		return nil, statusError(err)
	}
	all, err := pgx.CollectRows(rows, scanOrgStatus)
	if err != nil {
		return nil, statusError(err)
	}
	if q.Organizations == nil {
		return all, nil
	}
	asked := make([]OrgStatus, len(q.Organizations))
	for i, o := range q.Organizations {
		asked[i].Organization = o.Name
		for _, s := range all {
			if s.OrganizationID == o.ID || o.ID == uuid.Nil && s.Organization == o.Name {
				asked[i] = s // the last of them counts
				asked[i].Organization = o.Name
			}
		}
	}
	return asked, nil
}

func statusError(err error) error {
	if state := sqlState(err); state == "42P01" || state == "3F000" {
		return &SchemaError{Problem: "nothing has been mirrored here yet; run syncd, or syncd migrate up"}
	}
	return fmt.Errorf("read status: %w", err)
}

func scanOrgStatus(row pgx.CollectableRow) (OrgStatus, error) {
	var s OrgStatus
	var dataFrom, fullStarted, fullFinished, tickStarted, tickFinished, exactStarted, exactFinished, failedAt, fullFailedAt, since *time.Time
	var failed, running string
	err := row.Scan(&s.OrganizationID, &s.Organization, &dataFrom, &s.Age,
		&s.LastFull.ID, &fullStarted, &fullFinished, &s.FullExact, &s.FullRejected,
		&s.LastIncremental.ID, &tickStarted, &tickFinished,
		&s.LastExact.ID, &exactStarted, &exactFinished,
		&failed, &failedAt, &s.Failed.Message, &s.FullFailures, &fullFailedAt,
		&running, &since, &s.LiveRows)
	s.Failed.Kind, s.Running = Kind(failed), Kind(running)
	fill(&s.DataFrom, dataFrom)
	fill(&s.LastFull.Started, fullStarted)
	fill(&s.LastFull.Finished, fullFinished)
	fill(&s.LastIncremental.Started, tickStarted)
	fill(&s.LastIncremental.Finished, tickFinished)
	fill(&s.LastExact.Started, exactStarted)
	fill(&s.LastExact.Finished, exactFinished)
	fill(&s.Failed.At, failedAt)
	fill(&s.FullFailedAt, fullFailedAt)
	fill(&s.RunningSince, since)
	return s, err
}
