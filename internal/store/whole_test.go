package store_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/polar"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// TestBlockIsSavedWholeOrNotAtAll saves a block that writes to every table while
// one of them refuses: no other table may keep anything of the block.
func TestBlockIsSavedWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	const everything = `
SELECT concat_ws(' ',
    (SELECT count(*) FROM polar.customers),
    (SELECT count(*) FROM polar.meters),
    (SELECT concat_ws(' ', count(*), max(consumed_units)) FROM polar.customer_meters),
    (SELECT count(*) FROM polar.customer_meter_history),
    (SELECT count(*) FROM polar.suspects),
    (SELECT count(*) FROM polar.rejected_rows),
    (SELECT count(*) FROM polar.cursors),
    (SELECT sum(pages + rows_seen + rows_inserted + rows_updated + rows_unchanged + rows_rejected) FROM polar.sync_runs))`
	for name, n := range map[string]int{"few rows": 10, "many rows": 300} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, db := openOwn(t)
			run := start(t, s, store.Full)
			save(t, s, run, whole(samples(t, 4)))
			// Of a run only the counts of the pages behind the block are refused.
			exec(t, db, `
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'sync_runs' THEN
        IF NEW.pages = OLD.pages THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'refused';
END $$`)
			// Row 0 has changed, row 3 is missing, those from 4 on are new.
			block := func() *store.Block {
				list := append(rows(sample(t, 0, modified(time.Hour), consumed(t, "7"))), samples(t, n)[1:3]...)
				list = append(list, samples(t, n)[4:]...)
				last := list[len(list)-1]
				last.MeterID, last.Meter.ID = numbered('m', 9), numbered('m', 9)
				b := whole(list)
				b.Rejected = []store.RejectedRow{{RejectedRow: polar.RejectedRow{ID: numbered('x', 9999), Raw: []byte(`{}`), Reason: "no balance"}}}
				b.Cursor = &store.Cursor{Low: list[0].Key(), Fingerprint: "f"}
				b.Counts.Pages = 1
				return b
			}
			before := lookup(t, db, everything)
			for _, table := range []string{"customers", "meters", "customer_meters", "customer_meter_history", "suspects", "rejected_rows", "cursors", "sync_runs"} {
				exec(t, db, `CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON polar.`+table+` FOR EACH ROW EXECUTE FUNCTION public.refuse()`)
				if _, err := s.SaveBlock(t.Context(), run, block()); err == nil {
					t.Errorf("%s: the block wrote nothing to it", table)
				}
				if got := lookup(t, db, everything); got != before {
					t.Errorf("%s refused, and the database went from %s to %s", table, before, got)
				}
				exec(t, db, `DROP TRIGGER refuse ON polar.`+table)
			}
			save(t, s, run, block())
			want := fmt.Sprintf("%d 4 %d 7 %d 1 1 1 %d", n, n, n+1, 2*n+9)
			if got := lookup(t, db, everything); got != want {
				t.Errorf("saved at last: %s, want %s", got, want)
			}
		})
	}
}

// TestCursorOlderThanADayIsDropped together with its suspects.
func TestCursorOlderThanADayIsDropped(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	save(t, s, run, &store.Block{CustomerMeters: samples(t, 1), Cursor: &store.Cursor{Low: sample(t, 0).Key(), Fingerprint: "f"}})
	exec(t, db, `INSERT INTO polar.suspects VALUES ($1, $2, $3)`, organization, numbered('x', 1), numbered('m', 1))
	for _, step := range []struct {
		age  string
		want int
	}{{"23 hours", 1}, {"25 hours", 0}} {
		exec(t, db, `UPDATE polar.cursors SET saved_at = now() - $1::interval`, step.age)
		got, err := s.LoadCursor(t.Context(), "f")
		if err != nil || (got != nil) != (step.want == 1) {
			t.Errorf("a cursor saved %s ago gave %+v (%v)", step.age, got, err)
		}
		if got := lookup(t, db, `SELECT count(*)::text FROM polar.suspects`); got != fmt.Sprint(step.want) {
			t.Errorf("a cursor saved %s ago left %s suspects, want %d", step.age, got, step.want)
		}
	}
}

// waiting returns once a statement waits for another's lock.
func waiting(t testing.TB, db *pgtest.Database) {
	t.Helper()
	for lookup(t, db, `SELECT count(*)::text FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == "0" {
		time.Sleep(2 * time.Millisecond)
	}
}

// TestWebhookCommittedAfterTheComparisonStands: the block was compared with what
// was stored before the webhook, and must not overwrite what it brought.
func TestWebhookCommittedAfterTheComparisonStands(t *testing.T) {
	t.Parallel()
	hour := func(v int) time.Duration { return time.Duration(v) * time.Hour }
	for _, test := range []struct {
		name string
		at   func(v int) *polar.CustomerMeter // as it is v hours after it was created
		want string                           // units, the customer's name, and the units in the history
	}{
		{"customer meter", func(v int) *polar.CustomerMeter { return sample(t, 1, modified(hour(v)), consumed(t, fmt.Sprint(v))) }, "3, Customer 1, 0.1 3"},
		{"customer", func(v int) *polar.CustomerMeter {
			return edited(sample(t, 1), func(c *polar.Customer) {
				name := fmt.Sprint("Customer at ", v)
				c.Name, c.ModifiedAt = &name, epoch.Add(hour(v))
			})
		}, "0.1, Customer at 3, 0.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			st, db := pgtest.NewStore(t)
			s := openOn(t, st)
			run := start(t, s, store.Full)
			save(t, s, run, whole(rows(sample(t, 1))))
			keep(t, st, delivery(1, 1))
			saved := make(chan error, 1)
			err := st.ProcessDeliveries(t.Context(), organization, 1, func(c *store.Claim) ([]store.DeliveryResult, error) {
				if _, _, err := c.Apply(t.Context(), []*store.Change{told(test.at(3))}); err != nil {
					return nil, err
				}
				go func() {
					_, err := s.SaveBlock(t.Context(), run, whole(rows(test.at(2))))
					saved <- err
				}()
				waiting(t, db)
				return []store.DeliveryResult{{Status: store.DeliveryApplied}}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := <-saved; err != nil {
				t.Fatal(err)
			}
			got := lookup(t, db, `
SELECT concat_ws(', ', consumed_units, (SELECT name FROM polar.customers), (SELECT string_agg(consumed_units::text, ' ' ORDER BY observed_at) FROM polar.customer_meter_history))
  FROM polar.customer_meters`)
			if got != test.want {
				t.Errorf("units, customer and history: %s, want %s", got, test.want)
			}
		})
	}
}

// TestWritersLockRowsInTheOrderOfTheirIDs: two that do, and meet, wait one for the
// other and never each for the other. While somebody holds the row in the middle,
// a writer must have locked those below it and none above it.
func TestWritersLockRowsInTheOrderOfTheirIDs(t *testing.T) {
	t.Parallel()
	const middle, last = 4, 8
	st, db := pgtest.NewStore(t)
	s := openOn(t, st)
	run := start(t, s, store.Full)
	save(t, s, run, whole(samples(t, last+1)))
	order := []int{7, 2, 8, 0, 4, 6, 1, 3, 5}
	version := 0
	next := func() (list []*polar.CustomerMeter) {
		version++
		for _, n := range order {
			list = append(list, edited(sample(t, n, modified(time.Duration(version)*time.Hour)), func(c *polar.Customer) {
				c.ModifiedAt = epoch.Add(time.Duration(version) * time.Hour)
			}))
		}
		return list
	}
	block := func(list []*polar.CustomerMeter) error {
		_, err := s.SaveBlock(t.Context(), run, whole(list))
		return err
	}
	webhook := func(list []*polar.CustomerMeter) error { return applyOnce(t, st, uuid.NewString(), list) }
	deletion := func([]*polar.CustomerMeter) error {
		var ids []uuid.UUID
		for _, n := range order {
			ids = append(ids, numbered('x', n))
		}
		_, err := s.MarkDeleted(t.Context(), run, ids)
		return err
	}
	for _, writer := range []struct {
		name  string
		write func([]*polar.CustomerMeter) error
		table string
		kind  byte
	}{
		{"block", block, "customers", 'c'},
		{"block", block, "customer_meters", 'x'},
		{"webhook", webhook, "customers", 'c'},
		{"webhook", webhook, "customer_meters", 'x'},
		{"deletion", deletion, "customer_meters", 'x'},
	} {
		list := next()
		written := make(chan error, 1)
		holder, err := db.Pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := holder.Exec(t.Context(), `SELECT FROM polar.`+writer.table+` WHERE id = $1 FOR UPDATE`, numbered(writer.kind, middle)); err != nil {
			t.Fatal(err)
		}
		go func() { written <- writer.write(list) }()
		waiting(t, db)
		for n := range last + 1 {
			free := lookup(t, db, `SELECT count(*)::text FROM (SELECT FROM polar.`+writer.table+` WHERE id = $1 FOR UPDATE SKIP LOCKED) free`, numbered(writer.kind, n))
			if n < middle && free != "0" || n > middle && free != "1" {
				t.Errorf("%s, %s: row %d is free: %s, while row %d is waited for", writer.name, writer.table, n, free, middle)
			}
		}
		if err := holder.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-written; err != nil {
			t.Fatal(err)
		}
	}
}

// TestRowsAreInsertedWhereRowLevelSecurityForbidsCopying: Postgres refuses to COPY
// into tables whose policies bind their owner.
func TestRowsAreInsertedWhereRowLevelSecurityForbidsCopying(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := "role_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	exec(t, db, `CREATE ROLE `+role+` LOGIN PASSWORD 'pw'`)
	exec(t, db, `CREATE SCHEMA polar AUTHORIZATION `+role)
	address, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword(role, "pw")
	st, err := store.Open(t.Context(), store.Options{URL: secret.New(address.String())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	if _, err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"customers", "customer_meters", "customer_meter_history"} {
		exec(t, db, `ALTER TABLE polar.`+table+` ENABLE ROW LEVEL SECURITY`)
		exec(t, db, `ALTER TABLE polar.`+table+` FORCE ROW LEVEL SECURITY`)
		exec(t, db, `CREATE POLICY everything ON polar.`+table+` USING (true)`)
	}
	s := openOn(t, st)
	if saved := save(t, s, start(t, s, store.Full), whole(samples(t, 300))); saved.Counts.RowsInserted != 300 {
		t.Errorf("counts %+v, want 300 inserted", saved.Counts)
	}
}
