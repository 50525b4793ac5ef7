package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

func rows(m ...*polar.CustomerMeter) []*polar.CustomerMeter { return m }

func TestSaveBlockKeepsEveryDigit(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	for n, digits := range []struct{ sent, stored string }{
		{"0.1", "0.1"},
		{"1e-7", "0.0000001"},
		{"12345678901234.123456", "12345678901234.123456"},
		{"-0.30000000000000004", "-0.30000000000000004"},
		{"9007199254740993", "9007199254740993"},
	} {
		m := sample(t, n, consumed(t, digits.sent))
		m.CreditedUnits = 1<<63 - 1
		save(t, s, run, &store.Block{CustomerMeters: rows(m)})
		got := lookup(t, db, `SELECT consumed_units::text FROM polar.customer_meters WHERE id = $1`, m.ID)
		if got != digits.stored {
			t.Errorf("%s is stored as %s, want %s", digits.sent, got, digits.stored)
		}
		if got := lookup(t, db, `SELECT credited_units::text FROM polar.customer_meter_history WHERE customer_meter_id = $1`, m.ID); got != "9223372036854775807" {
			t.Errorf("credited units in the history are %s", got)
		}
	}
}

func TestSaveBlockWritesNothingForUnchangedRows(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	var block store.Block
	for n := range 300 {
		block.CustomerMeters = append(block.CustomerMeters, sample(t, n))
	}
	save(t, s, run, &block)
	const versions = `
SELECT string_agg(v, ' ' ORDER BY v) FROM (
    SELECT xmin::text || ctid::text FROM polar.customer_meters
    UNION ALL SELECT xmin::text || ctid::text FROM polar.customers
    UNION ALL SELECT xmin::text || ctid::text FROM polar.meters
    UNION ALL SELECT xmin::text || ctid::text FROM polar.customer_meter_history
) AS t (v)`
	before := lookup(t, db, versions)
	saved := save(t, s, run, &store.Block{CustomerMeters: block.CustomerMeters})
	if want := (store.Counts{RowsSeen: 300, RowsUnchanged: 300}); saved.Counts != want {
		t.Errorf("counts %+v, want %+v", saved.Counts, want)
	}
	if lookup(t, db, versions) != before {
		t.Error("row versions were written for rows that had not changed")
	}
}

func TestNewerWinsAndOlderIsReported(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	newer := sample(t, 1, modified(2*time.Hour), consumed(t, "20"))
	older := sample(t, 1, modified(time.Hour), consumed(t, "10"))
	save(t, s, run, &store.Block{CustomerMeters: rows(newer)})
	saved := save(t, s, run, &store.Block{CustomerMeters: rows(older)})
	if diff := cmp.Diff([]uuid.UUID{older.ID}, saved.Older); diff != "" {
		t.Errorf("older rows (-want +got):\n%s", diff)
	}
	const units = `SELECT consumed_units::text FROM polar.customer_meters WHERE id = $1`
	if got := lookup(t, db, units, newer.ID); got != "20" {
		t.Errorf("an older state replaced a newer one: %s units", got)
	}
	save(t, s, run, &store.Block{CustomerMeters: rows(older), Force: true, RequestedAt: time.Now().Add(-time.Minute)})
	if got := lookup(t, db, units, newer.ID); got != "20" {
		t.Errorf("what Polar said before the newer state was written replaced it: %s units", got)
	}
	exec(t, db, `UPDATE polar.customer_meters SET last_changed_at = last_changed_at - interval '1 minute'`)
	save(t, s, run, &store.Block{CustomerMeters: rows(older), Force: true, RequestedAt: time.Now()})
	if got := lookup(t, db, units, newer.ID); got != "10" {
		t.Errorf("the state that Polar insists on was not written: %s units", got)
	}
}

func TestForcedAnswerLeavesACustomerAndAMeterThatChangedAfterTheRequest(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	state := func(name string, age time.Duration) *polar.CustomerMeter {
		m := sample(t, 1)
		customer, meter := *m.Customer, *m.Meter
		customer.Name, meter.Name = &name, name
		customer.ModifiedAt, meter.ModifiedAt = epoch.Add(-age), epoch.Add(-age)
		customer.Raw, meter.Raw = fmt.Appendf(nil, `{"name":%q}`, name), fmt.Appendf(nil, `{"name":%q}`, name)
		m.Customer, m.Meter = &customer, &meter
		return m
	}
	const names = `SELECT c.name || ' ' || t.name FROM polar.customers c, polar.meters t`
	save(t, s, run, &store.Block{CustomerMeters: rows(state("new", time.Hour))})
	older := &store.Block{CustomerMeters: rows(state("old", 2*time.Hour)), Force: true, RequestedAt: time.Now().Add(-time.Minute)}
	save(t, s, run, older)
	if got := lookup(t, db, names); got != "new new" {
		t.Errorf("an answer to a request from before replaced the newer states: %s", got)
	}
	older.RequestedAt = time.Now()
	for _, table := range []string{"customers", "meters"} {
		exec(t, db, `UPDATE polar.`+table+` SET last_changed_at = last_changed_at - interval '1 minute'`)
	}
	save(t, s, run, older)
	if got := lookup(t, db, names); got != "old old" {
		t.Errorf("the states that Polar insists on were not written: %s", got)
	}
}

func TestEquallyOldButDifferentIsWritten(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	save(t, s, run, &store.Block{CustomerMeters: rows(sample(t, 1))})
	save(t, s, run, &store.Block{CustomerMeters: rows(sample(t, 1, consumed(t, "5")))})
	if got := lookup(t, db, `SELECT count(*)::text || ' ' || max(consumed_units) FROM polar.customer_meter_history`); got != "2 5" {
		t.Errorf("history has %s, want both states", got)
	}
}

func TestRowOnTwoPagesIsWrittenOnceWithItsNewestState(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	old, recent := sample(t, 1, modified(time.Hour)), sample(t, 1, modified(2*time.Hour), consumed(t, "7"))
	saved := save(t, s, run, &store.Block{CustomerMeters: rows(recent, old, recent, old)})
	if saved.Counts.RowsInserted != 1 || saved.Counts.RowsSeen != 1 {
		t.Errorf("counts %+v, want one row", saved.Counts)
	}
	if got := lookup(t, db, `SELECT string_agg(consumed_units::text, ' ') FROM polar.customer_meter_history`); got != "7" {
		t.Errorf("history has %s, want the newest state alone", got)
	}
}

func TestRefusedValueIsFoundAndRejectedAlone(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	block := &store.Block{Region: &store.Region{FromStart: true, ToEnd: true}}
	for n := range 50 {
		block.CustomerMeters = append(block.CustomerMeters, sample(t, n))
	}
	bad := block.CustomerMeters[31]
	bad.Customer.Raw = []byte(`{"score":1e400000}`) // JSON, and no jsonb
	saved := save(t, s, run, block)
	if saved.Counts.RowsInserted != 49 || saved.Counts.RowsRejected != 1 {
		t.Errorf("counts %+v, want 49 inserted and 1 rejected", saved.Counts)
	}
	got := lookup(t, db, `SELECT customer_meter_id::text || ' ' || reason FROM polar.rejected_rows`)
	if !strings.HasPrefix(got, bad.ID.String()) {
		t.Errorf("rejected %s, want %s", got, bad.ID)
	}
	if got := lookup(t, db, `SELECT concat_ws(' ', rows_inserted, rows_rejected, rows_seen) FROM polar.sync_runs`); got != "49 1 50" {
		t.Errorf("run has inserted, rejected, seen = %s, want 49 1 50", got)
	}
	if got := lookup(t, db, `SELECT count(*)::text FROM polar.suspects`); got != "0" {
		t.Errorf("%s suspects, want none: a rejected row is on the page", got)
	}
}

func TestSuspectsAreTheLiveRowsOfTheStretchThatAreMissing(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	var all []*polar.CustomerMeter
	for n := range 10 {
		all = append(all, sample(t, n))
	}
	save(t, s, run, &store.Block{CustomerMeters: all})
	save(t, s, run, &store.Block{
		CustomerMeters: rows(all[3], all[5], all[7]),
		Region:         &store.Region{Low: all[3].Key(), High: all[7].Key()},
	})
	const suspects = `SELECT string_agg(customer_meter_id::text, ' ' ORDER BY customer_meter_id) FROM polar.suspects`
	if got, want := lookup(t, db, suspects), all[4].ID.String()+" "+all[6].ID.String(); got != want {
		t.Errorf("suspects %s, want %s", got, want)
	}
}

func TestMarkDeletedIsWrittenIntoTheHistoryOnce(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	m := sample(t, 1)
	save(t, s, run, &store.Block{CustomerMeters: rows(m)})
	for i, want := range []int{1, 0} {
		customers, err := s.MarkDeleted(t.Context(), run, []uuid.UUID{m.ID})
		if err != nil || len(customers) != want {
			t.Fatalf("call %d marked rows of customers %v, want %d (%v)", i+1, customers, want, err)
		}
	}
	if got := lookup(t, db, `SELECT string_agg(deleted::text, ' ' ORDER BY observed_at) FROM polar.customer_meter_history`); got != "false true" {
		t.Errorf("history says deleted: %s", got)
	}
	if got := lookup(t, db, `SELECT rows_deleted::text FROM polar.sync_runs`); got != "1" {
		t.Errorf("run counts %s deleted rows", got)
	}
}

func TestOnlyARequestBegunAfterTheDeletionRevives(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	m := sample(t, 1)
	save(t, s, run, &store.Block{CustomerMeters: rows(m)})
	if _, err := s.MarkDeleted(t.Context(), run, []uuid.UUID{m.ID}); err != nil {
		t.Fatal(err)
	}
	const deleted = `SELECT (deleted_at IS NOT NULL)::text FROM polar.customer_meters`
	save(t, s, run, &store.Block{CustomerMeters: rows(sample(t, 1, modified(time.Hour))), RequestedAt: time.Now().Add(-time.Hour)})
	if got := lookup(t, db, deleted); got != "true" {
		t.Error("a page read before the deletion revived the row")
	}
	// A request that begins within the time that an answer of the database takes
	// counts as one from before: to be sure it is not.
	exec(t, db, `UPDATE polar.customer_meters SET deleted_at = deleted_at - interval '1 minute'`)
	save(t, s, run, &store.Block{CustomerMeters: rows(m)})
	if got := lookup(t, db, deleted); got != "true" {
		t.Error("an answer to a request begun at an unknown time revived the row")
	}
	exec(t, db, `UPDATE polar.customer_meters SET deleted_at = now() + interval '1 day'`)
	save(t, s, run, &store.Block{CustomerMeters: rows(m)})
	if got := lookup(t, db, deleted); got != "true" {
		t.Error("an answer to a request begun at an unknown time revived a row that is dated later than now")
	}
	for _, since := range []string{"1 minute", "-1 day"} { // later than now: unknown
		exec(t, db, `UPDATE polar.customer_meters SET deleted_at = now() - $1::text::interval`, since)
		save(t, s, run, &store.Block{CustomerMeters: rows(m), RequestedAt: time.Now()})
		if got := lookup(t, db, deleted); got != "false" {
			t.Errorf("a page read after the deletion, %s ago, did not revive the row", since)
		}
	}
}

// TestRejectedRowIsStoredWhateverItHolds: what can't be mirrored must not stop the
// run that met it.
func TestRejectedRowIsStoredWhateverItHolds(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	long := strings.Repeat("x", 64<<10-1)
	block := &store.Block{}
	for _, tt := range []struct{ raw, want string }{
		{"", ""},
		{"plain", "plain"},
		{"\xff{\xc3", "\ufffd{\ufffd"},
		{"a\x00b", "a\ufffdb"},
		{"\xed\xa0\x80", "\ufffd"}, // a surrogate, encoded
		{`"\ud800"`, `"\ud800"`},   // and escaped
		{long + "x", long + "x"},
		{long + "é", long + "… (65537 bytes)"},
		{long + "\xff", long + "… (65536 bytes)"}, // U+FFFD takes three bytes
		{strings.Repeat("\x00", 3<<20), strings.Repeat("\ufffd", 64<<10/3) + "… (3145728 bytes)"},
	} {
		block.Rejected = append(block.Rejected, store.RejectedRow{RejectedRow: polar.RejectedRow{Raw: []byte(tt.raw), Reason: tt.raw}})
		saved := save(t, s, run, &store.Block{Rejected: block.Rejected[len(block.Rejected)-1:]})
		got := lookup(t, db, `SELECT raw FROM polar.rejected_rows ORDER BY id DESC LIMIT 1`)
		if got != tt.want || saved.Counts.RowsRejected != 1 {
			t.Errorf("%.20q of %d bytes is stored as %.20q … %q of %d bytes", tt.raw, len(tt.raw), got, got[max(0, len(got)-30):], len(got))
		}
	}
	run = start(t, s, store.Full)
	save(t, s, run, block) // all at once, and again
	if got := lookup(t, db, `SELECT concat_ws(' ', count(*), max(octet_length(reason)) < 5000, max(octet_length(raw)) < 66000) FROM polar.rejected_rows`); got != "10 t t" {
		t.Errorf("rows, whether reasons and texts are bounded: %s, want 10 t t", got)
	}
	failed := errors.New(strings.Repeat("\xff\x00", 1<<20))
	if err := s.FinishRun(t.Context(), run, store.Outcome{Err: failed}); err != nil {
		t.Error(err)
	}
	if got := lookup(t, db, `SELECT (octet_length(error) < 5000)::text FROM polar.sync_runs WHERE id = $1`, run.ID); got != "true" {
		t.Errorf("the run's error is bounded: %s", got)
	}
}
