package mirror

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/fetch"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// polarsTimes are the columns of schema polar that hold times of Polar's objects:
// they are data, whatever they say.
func polarsTimes() []string {
	return []string{
		"customer_meter_history.modified_at",
		"customer_meters.created_at", "customer_meters.modified_at",
		"customers.created_at", "customers.deleted_at", "customers.modified_at",
		"meters.archived_at", "meters.created_at", "meters.modified_at",
		"organizations.found_change_at",
		"rejected_rows.created_at",
		"cursors.low_created_at",
		"webhook_events.sent_at",
	}
}

// clockTimes are the columns whose times come from the clock of the database, of
// a syncd, or of Polar's servers. A column of neither list makes a test fail.
func clockTimes() []string {
	return []string{
		"backfills.finished_at", "backfills.started_at",
		"customer_meter_history.observed_at",
		"customer_meters.deleted_at", "customer_meters.first_seen_at", "customer_meters.last_changed_at", "customer_meters.out_of_scope_at",
		"customers.last_changed_at", "meters.last_changed_at",
		"notifications.sent_at",
		"organizations.created_at",
		"rejected_rows.seen_at",
		"sync_runs.finished_at", "sync_runs.slot", "sync_runs.started_at",
		"tick_floors.floor_at",
		"cursors.polar_began_at", "cursors.saved_at",
		"webhook_events.applied_at", "webhook_events.next_attempt_at", "webhook_events.received_at",
	}
}

func TestEveryStoredTimeIsKnownAsPolarsOrAsAClocks(t *testing.T) {
	t.Parallel()
	w := small(t, 1)
	rows, err := w.db.Pool.Query(t.Context(), `
SELECT c.relname || '.' || a.attname
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
 WHERE c.relnamespace = 'polar'::regnamespace
   AND c.relkind IN ('r', 'p')
   AND NOT c.relispartition
   AND NOT a.attisdropped
   AND a.atttypid = 'timestamptz'::regtype`)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	sorted := func(in []string) map[string]bool {
		set := map[string]bool{}
		for _, name := range in {
			set[name] = true
		}
		return set
	}
	if d := cmp.Diff(sorted(append(polarsTimes(), clockTimes()...)), sorted(stored)); d != "" {
		t.Errorf("columns (-in the test's lists +in the database):\n%s", d)
	}
}

// move moves the times of one column.
func (w *env) move(name, by string) {
	w.Helper()
	table, column, _ := strings.Cut(name, ".")
	if _, err := w.db.Pool.Exec(w.Context(), `UPDATE polar.`+table+` SET `+column+` = `+column+` + $1::text::interval`, by); err != nil {
		w.Fatalf("move %s: %v", name, err)
	}
}

func (w *env) status() store.OrgStatus {
	w.Helper()
	list := must1(w.store.OrgStatus(w.Context(), store.OrgStatusQuery{}))
	return list[0]
}

// TestTimesToComeStopNothing moves the times of one table after the other into the
// future, as a clock leaves them that was a day ahead and is corrected, and asks for
// everything that a mirror has to do.
func TestTimesToComeStopNothing(t *testing.T) {
	t.Parallel()
	large(t)
	columns := map[string][]string{}
	for _, name := range clockTimes() {
		table, _, _ := strings.Cut(name, ".")
		if name == "sync_runs.slot" {
			table = name // with the run's other times it would be the slot that is due
		}
		columns[table] = append(columns[table], name)
	}
	for table, columns := range columns {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			w := quiet(t, 130, 0.3)
			org := w.orgs[0].ID
			must1(w.sim.DeleteCustomerMeter(w.sim.Listed(org)[0].ID))
			w.backfill()
			if err := w.tick(); err != nil {
				t.Fatal(err)
			}
			inbox, heard := w.inbox()
			now := time.Now()
			s := w.scheduler(Schedules{Incremental: every(time.Minute), Full: every(time.Hour)})
			fullSlot, tickSlot := previous(s.full.schedule, now), previous(s.incremental.schedule, now)
			for _, sql := range []string{
				`INSERT INTO polar.backfills (started_at) VALUES (now())`,
				`INSERT INTO polar.rejected_rows (organization_id, run_id, page, seen_at, digest, reason, raw) SELECT id, 1, 0, now(), 'x', 'no', '{}' FROM polar.organizations`,
			} {
				w.exec(sql)
			}
			w.exec(`UPDATE polar.sync_runs SET slot = CASE kind WHEN 'full' THEN $1::timestamptz ELSE $2::timestamptz END - interval '1 day'`, fullSlot, tickSlot)
			if table == "cursors" {
				half := w.sim.Listed(org)[60]
				w.exec(`
INSERT INTO polar.cursors (organization_id, polar_began_at, saved_at, low_created_at, low_customer_id, low_meter_id, low_offset, total_count, rows_rejected, method, fingerprint)
VALUES ($1, now(), now(), $2, $3, $4, 60, 130, 0, 'walk', $5)`, org, half.CreatedAt, half.CustomerID, half.MeterID, s.worker.fingerprint())
			}
			w.deliver(inbox, w.sim.Listed(org)[3].CustomerID, "customer.state_changed")
			for _, each := range clockTimes() { // all is two hours old
				if each != "customer_meter_history.observed_at" && each != "sync_runs.slot" {
					w.move(each, "-2 hours")
				}
			}
			for _, name := range columns {
				w.move(name, "1 day")
			}

			if st := w.status(); st.Age != nil && *st.Age < 0 || st.Undated() != (table == "sync_runs") || st.LastFull.Duration() > time.Hour {
				t.Errorf("status %+v", st)
			}
			listed := w.sim.Listed(org)
			gone, alsoGone := listed[5].ID, listed[120].ID
			must1(w.sim.DeleteCustomerMeter(gone))
			if table == "cursors" { // too old to be gone on from, so that all is read again
				must1(w.sim.DeleteCustomerMeter(alsoGone))
			}
			must1(w.sim.Consume(listed[50].ID, "0.5"))
			must1(w.sim.AddCustomerMeter(org, polarsim.NewCustomerMeter{}))

			stop := w.applying(inbox)
			if got := heard.first(w, 1)[0]; got.Status != store.DeliveryApplied {
				t.Errorf("webhook %+v", got)
			}
			stop()

			s.fullDue, s.fullSlot, s.incremental.next = true, fullSlot, tickSlot
			s.runDue(t.Context())
			if d := cmp.Diff([]string{"full succeeded true", "incremental succeeded -", "full succeeded true", "incremental succeeded -"}, w.runs()); d != "" {
				t.Errorf("runs (-want +got):\n%s", d)
			}
			w.same()
			if got := w.value(`SELECT (deleted_at <= clock_timestamp())::text FROM polar.customer_meters WHERE id = $1`, gone); got != "true" {
				t.Errorf("row that is gone from Polar: marked before now: %s", got)
			}
			if st := w.status(); st.Age == nil || *st.Age < 0 || *st.Age > time.Hour || st.Failing() {
				t.Errorf("status after the runs %+v", st)
			}

			must1(w.sim.Consume(listed[70].ID, "0.5"))
			if err := w.tick(); err != nil {
				t.Fatal(err)
			}
			w.same()
			if err := w.store.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := w.value(`SELECT (greatest((SELECT max(seen_at) FROM polar.rejected_rows), (SELECT max(received_at) FROM polar.webhook_events)) <= now())::text`); got != "true" {
				t.Error("what is kept for some days is dated later than now")
			}
			w.backfill()
			w.same()
			if got := w.value(`SELECT count(*)::text FROM polar.sync_runs WHERE kind = 'full' AND status = 'succeeded'`); got != "3" {
				t.Errorf("%s full runs, want 3 with the backfill's", got)
			}
		})
	}
}

// TestTickReachesBackToTheLastRunWhateverTheFloorSays changes a row between the
// last run and now, much earlier than a tick overlaps.
func TestTickReachesBackToTheLastRunWhateverTheFloorSays(t *testing.T) {
	t.Parallel()
	for name, undated := range map[string]bool{"last run known": false, "last run unknown": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := quiet(t, 300, 0.3)
			w.backfill()
			w.exec(`UPDATE polar.sync_runs SET started_at = started_at - interval '2 hours'`)
			w.move("tick_floors.floor_at", "90 minutes")
			if undated {
				w.move("sync_runs.started_at", "1 day")
			}
			row := w.sim.Listed(w.orgs[0].ID)[123]
			must1(w.sim.SetState(row.ID, polarsim.Units{Consumed: "7", Credited: "0", Balance: "-7"}, time.Now().Add(-30*time.Minute)))
			if err := w.tick(); err != nil {
				t.Fatal(err)
			}
			w.same()
			if got := w.value(`SELECT (floor_at <= now() + interval '1 minute')::text FROM polar.tick_floors`); got != "true" {
				t.Error("the floor is still later than now")
			}
		})
	}
}

func TestSlotsPlannedByAClockThatWasAheadAreTakenBack(t *testing.T) {
	t.Parallel()
	w := small(t, 1)
	s := w.scheduler(Schedules{Incremental: every(time.Minute), Full: every(time.Hour)})
	now := time.Date(2026, 10, 1, 12, 0, 30, 0, time.UTC)
	past := now.Add(-10 * time.Minute)
	for _, c := range []struct{ tick, full, wantTick, wantFull time.Time }{
		{now.Add(90 * time.Minute), now.Add(3 * time.Hour), now.Truncate(time.Minute).Add(time.Minute), now.Truncate(time.Hour).Add(time.Hour)},
		{past, past, past, past}, // overdue, and stay so
	} {
		s.incremental.next, s.full.next = c.tick, c.full
		s.incremental.followClock(now)
		s.full.followClock(now)
		if !s.incremental.next.Equal(c.wantTick) || !s.full.next.Equal(c.wantFull) {
			t.Errorf("slots at %v and %v, want %v and %v", s.incremental.next, s.full.next, c.wantTick, c.wantFull)
		}
	}
}

// TestAnswersWithoutADate: as behind a proxy that removes the header. Full runs sweep,
// incremental runs bring what changed, and verify compares.
func TestAnswersWithoutADate(t *testing.T) {
	t.Parallel()
	w := newEnv(t, polarsim.Options{Seed: 13, Epoch: time.Now().UTC().Add(-24 * time.Hour),
		Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: 400, Meters: 4, EveryMeter: true}}})
	m := w.mirror(sweeping, func(o *Options) {
		o.Organizations[0].Client = must1(fetch.New(fetch.Options{BaseURL: "https://polar.test", Token: fetch.StaticToken(secret.New(w.orgs[0].Token)), Transport: dateless{w.sim}}))
	})
	if err := m.Backfill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.lastRun(); got != "full succeeded t sweep" {
		t.Errorf("run %q", got)
	}
	must1(w.sim.Consume(w.sim.Listed(w.orgs[0].ID)[3].ID, "1"))
	wk := m.worker(m.opts.Organizations[0])
	if err := wk.withSession(t.Context(), false, func(s *store.Session) error { return wk.tick(t.Context(), s, time.Time{}, false) }); err != nil {
		t.Fatal(err)
	}
	w.same()
	if reports, err := m.Verify(t.Context(), false); err != nil || !reports[0].Equal() {
		t.Errorf("verify: %+v, %v", reports, err)
	}
}

// dateless is a Polar whose answers carry no date.
type dateless struct{ *polarsim.Server }

func (d dateless) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := d.Server.RoundTrip(request)
	if err == nil {
		response.Header.Del("Date")
	}
	return response, err
}
