package store

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
)

// An Organization is one that is asked about.
type Organization struct {
	Name string    // label
	ID   uuid.UUID // zero: the one of that label that was mirrored last
}

// An OrgStatus is the status of one organization by the runs of every replica: a
// row of the view polar.sync_status, which has the rules. Times are by the
// database's clock, and zero where there is none.
//
// A time later than now is zero too: the clock that gave it was ahead and has
// been corrected since, so nobody knows when it was, and nothing may wait
// because of it.
type OrgStatus struct {
	OrganizationID uuid.UUID // zero if the database does not know the organization
	Organization   string    // label

	// DataFrom is the start of the last successful run, the oldest time that the
	// data may be from, and Age the time since then. Age is nil if no run ever
	// succeeded, or if it is unknown when one did; see Undated.
	DataFrom time.Time
	Age      *time.Duration

	LastFull, LastIncremental LastRun // that succeeded
	FullExact                 *bool   // whether the last full run proved that it saw every customer meter; nil if there was none
	FullMethod                Method  // by which it did; "" if it did not
	FullRejected              int64   // rows that run could not mirror
	LastExact                 LastRun // of any kind, that proved that it saw everything

	Failed       Failure
	FullFailures int       // full runs that have failed since the last successful one, up to 10
	FullFailedAt time.Time // when the last of them ended

	Running      Kind // of the run under way; "" if there is none
	RunningSince time.Time

	// WebhooksSilentSince is when, by Polar's clock, a change was made that a run
	// found and that no webhook has announced, nor any other since; zero if webhooks
	// arrive, or if nothing changed. LastWebhook is when the last one that arrived was
	// sent, by the same clock.
	WebhooksSilentSince, LastWebhook time.Time

	// Counted only if asked for:
	LiveRows     int64 // customer meters that Polar has and the filter matches
	Suspects     int64 // of them, those that the full run under way has not found
	RejectedRows int64 // rows from Polar that could not be mirrored, of the last 30 days
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

// Failing reports whether a run failed and no later one has succeeded instead.
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

// Undated reports whether a run succeeded but it is unknown when, because it is
// dated later than now. The data then counts as stale.
func (s *OrgStatus) Undated() bool { return s.Age == nil && s.LastSuccessID() != 0 }

// An OrgStatusQuery says whose status to look up.
type OrgStatusQuery struct {
	// Organizations are those asked about; nil means all that the database knows.
	Organizations []Organization
	// Others asks for what else the database knows as well, after these.
	Others bool
	// CountRows asks for the counts of rows, which read an index entry of every
	// customer meter: ask seldom. The rest costs a few index look-ups an
	// organization, however many rows and runs there are.
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
    coalesce(last_full_method, ''),
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
    webhooks_silent_since,
    last_webhook_sent_at,
    CASE WHEN $1::boolean THEN live_rows ELSE 0 END,
    CASE WHEN $1::boolean THEN (SELECT count(*) FROM polar.suspects w WHERE w.organization_id = s.organization_id AND w.answer IS NULL) ELSE 0 END,
    CASE WHEN $1::boolean THEN (SELECT count(*) FROM polar.rejected_rows j WHERE j.organization_id = s.organization_id) ELSE 0 END
  FROM polar.sync_status s
 WHERE $2::uuid[] IS NULL
    OR organization_id = ANY ($2)
 ORDER BY
    organization,
    greatest(last_full_id, last_incremental_id) NULLS FIRST,
    organization_id`

// OrgStatus returns the status of each of the organizations asked about, in their
// order. All that the database knows come by label; of two with one label, which
// a changed id leaves behind, the one mirrored last comes last. Others are those with
// labels of their own, one each, by label.
func (s *Store) OrgStatus(ctx context.Context, q OrgStatusQuery) ([]OrgStatus, error) {
	return orgStatus(ctx, s.pool, q)
}

// OrgStatus is [Store.OrgStatus] in the view's snapshot.
func (v *View) OrgStatus(ctx context.Context, q OrgStatusQuery) ([]OrgStatus, error) {
	return orgStatus(ctx, v.tx, q)
}

func orgStatus(ctx context.Context, db querier, q OrgStatusQuery) ([]OrgStatus, error) {
	var ids []uuid.UUID // nil: all
	if byLabel := func(o Organization) bool { return o.ID == uuid.Nil }; !q.Others && !slices.ContainsFunc(q.Organizations, byLabel) {
		for _, o := range q.Organizations {
			ids = append(ids, o.ID)
		}
	}
	all, err := collect(ctx, db, "read status", scanOrgStatus, orgStatusSQL, q.CountRows, ids)
	if state := sqlState(err); state == pgerrcode.UndefinedTable || state == pgerrcode.InvalidSchemaName {
		return nil, &SchemaError{Problem: "nothing has been mirrored here yet; run syncd, or syncd migrate up"}
	}
	if err != nil || q.Organizations == nil && !q.Others {
		return all, err
	}
	asked := make([]OrgStatus, len(q.Organizations))
	for i, o := range q.Organizations {
		for _, s := range all {
			if s.OrganizationID == o.ID || o.ID == uuid.Nil && s.Organization == o.Name {
				asked[i] = s // the last of them counts
			}
		}
		asked[i].Organization = o.Name
	}
	for _, s := range slices.Backward(all) { // the last of a label counts here too
		same := func(a OrgStatus) bool {
			return a.Organization == s.Organization || a.OrganizationID == s.OrganizationID
		}
		if q.Others && !slices.ContainsFunc(asked, same) {
			asked = slices.Insert(asked, len(q.Organizations), s)
		}
	}
	return asked, nil
}

func scanOrgStatus(row pgx.CollectableRow) (OrgStatus, error) {
	var s OrgStatus
	err := row.Scan(&s.OrganizationID, &s.Organization, &s.DataFrom, &s.Age,
		&s.LastFull.ID, &s.LastFull.Started, &s.LastFull.Finished, &s.FullExact, &s.FullMethod, &s.FullRejected,
		&s.LastIncremental.ID, &s.LastIncremental.Started, &s.LastIncremental.Finished,
		&s.LastExact.ID, &s.LastExact.Started, &s.LastExact.Finished,
		&s.Failed.Kind, &s.Failed.At, &s.Failed.Message, &s.FullFailures, &s.FullFailedAt,
		&s.Running, &s.RunningSince, &s.WebhooksSilentSince, &s.LastWebhook, &s.LiveRows, &s.Suspects, &s.RejectedRows)
	return s, err
}
