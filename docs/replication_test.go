package docs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/robfig/cron/v3"

	"polarmirror/internal/doctest"
	"polarmirror/internal/localpg"
	"polarmirror/internal/mirror"
	"polarmirror/internal/pgtest"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// TestStandbyAnswersAndLogicalCopyStaysEqual makes a streaming standby and a logical
// copy as scaling.md says, each a server of its own, and lets everything happen on
// the primary that writes: full and incremental runs, deletions, the end of a month,
// erasure. The standby is asked all the while.
func TestStandbyAnswersAndLogicalCopyStaysEqual(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "primary")
	primary := startPostgres(t, dir, map[string]string{"wal_level": "logical"})
	st := openMirror(t, primary)
	if _, err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := envOn(t, st, primary)
	served, err := w.sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = served.Close() })
	w.url = served.URL
	w.look(w.clock)

	mustExec(t, primary.Pool, scaling(t, "Readers", "sql")[0])
	mustExec(t, primary.Pool, `ALTER ROLE replicator PASSWORD '`+testPassword+`'`)
	queries := queriesFor(t, primary)
	standby := w.makeStandby(dir)
	addMonth(t, primary, "2024-01")
	w.age("2024-01", 0)
	second := w.makeCopy()
	defer askUntilStopped(t, standby, queries)()

	w.tick()
	w.look(w.clock) // dates what the ticks found
	w.untilReplicated()
	// As before an update of syncd. It must make and drop no month there.
	if _, err := openMirror(t, second).Migrate(t.Context()); err != nil {
		t.Errorf("migrate the copy: %v", err)
	}
	addMonth(t, primary, "2024-03")
	w.age("2024-03", 1)
	person := w.person()
	w.anonymize(person.ID)
	for _, row := range w.sim.Listed(w.sim.Organizations()[0].ID)[10:13] {
		if _, err := w.sim.DeleteCustomerMeter(row.ID); err != nil {
			t.Fatal(err)
		}
	}
	w.look(w.clock.AddDate(0, 0, 5))
	if err := st.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.erase("Erasing a person", person.ID)
	w.erase("Erasing the usage as well", person.ID)
	mustExec(t, primary.Pool, `VACUUM`)
	w.look(w.clock.AddDate(0, 0, 1))
	if _, err := st.Exclude(t.Context(), []string{"email", "name", "metadata"}); err != nil {
		t.Fatal(err)
	}
	const happened = `
SELECT concat_ws(' ',
    (SELECT count(*) FROM polar.customer_meters WHERE deleted_at IS NOT NULL),
    (SELECT string_agg(DISTINCT source, ' ' ORDER BY source) FROM polar.customer_meter_history),
    (SELECT count(*) FROM polar.customers WHERE email IS NOT NULL),
    to_regclass('polar.customer_meter_history_2024_01'),
    to_regclass('polar.customer_meter_history_2024_03'))`
	if got := w.text(primary, happened); got != "3 carried full incremental 0" {
		t.Errorf("rows deleted, sources, e-mail addresses, months that should be gone: %s", got)
	}

	w.untilReplicated()
	if got := w.text(second, `SELECT string_agg(DISTINCT to_char(observed_at, 'YYYY-MM'), ' ') FROM polar.customer_meter_history WHERE observed_at < '2025-01-01'`); got != "2024-01 2024-03" {
		t.Errorf("of the months that the primary dropped, the copy has %s", got)
	}
	for _, sql := range scaling(t, "A logical copy", "sql") {
		if strings.HasPrefix(sql, "DELETE") {
			mustExec(t, second.Pool, sql)
		}
	}
	const tables = `
SELECT relname::text
  FROM pg_class
 WHERE relnamespace = 'polar'::regnamespace
   AND relkind IN ('r', 'p')
   AND NOT relispartition
   AND relname NOT IN ('goose_db_version', 'schema_compatibility')
 ORDER BY relname`
	published := readAll(t, primary, `SELECT tablename::text FROM pg_publication_tables ORDER BY tablename`)
	if diff := cmp.Diff(readAll(t, primary, tables), published); diff != "" {
		t.Errorf("scaling.md publishes other tables than there are (-there are +published):\n%s", diff)
	}
	for _, table := range published {
		sql := `SELECT t::text FROM polar.` + table + ` t ORDER BY 1`
		if diff := cmp.Diff(readAll(t, primary, sql), readAll(t, second, sql)); diff != "" {
			t.Errorf("polar.%s (-primary +copy):\n%s", table, diff)
		}
	}
}

// startPostgres starts a server of its own on the files in dir, made if missing.
func startPostgres(t testing.TB, dir string, settings map[string]string) *pgtest.Database {
	t.Helper()
	all := map[string]string{"fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB", "max_connections": "40", "autovacuum": "off", "jit": "off"}
	maps.Copy(all, settings)
	server, err := localpg.Start(t.Context(), localpg.Options{DataDir: dir, BinDir: programs(t), Settings: all})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	pool, err := pgxpool.New(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &pgtest.Database{Name: "syncd", URL: server.URL(), Pool: pool}
}

// programs is the folder of Postgres's programs.
func programs(t testing.TB) string {
	t.Helper()
	postgres, err := localpg.Find(t.Context(), os.Getenv("SYNCD_TEST_POSTGRES"))
	if err != nil {
		t.Fatal(err)
	}
	return postgres.Dir
}

// openMirror opens a mirror whose history is kept from January 2025 on.
func openMirror(t testing.TB, db *pgtest.Database) *store.Store {
	t.Helper()
	keep := time.Since(time.Date(2025, 1, 15, 0, 0, 0, 0, time.UTC))
	st, err := store.Open(t.Context(), store.Options{URL: secret.New(db.URL), MaxConnections: 6, HistoryKeep: keep})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	return st
}

// scaling returns the blocks of a language under a heading of scaling.md.
func scaling(t testing.TB, heading, language string) (blocks []string) {
	t.Helper()
	for _, b := range doctest.Blocks(t, "scaling.md") {
		if b.Heading == heading && b.Language == language {
			blocks = append(blocks, b.Text)
		}
	}
	if len(blocks) == 0 {
		t.Fatalf("scaling.md has no %s under %q", language, heading)
	}
	return blocks
}

// atPrimary replaces the address of the primary in a block of scaling.md.
func (w *env) atPrimary(block string) string {
	c := w.db.Pool.Config().ConnConfig
	address := fmt.Sprintf("host=%s port=%d password=%s", c.Host, c.Port, testPassword)
	return strings.NewReplacer("host=primary", address, "dbname=mirror", "dbname=syncd").Replace(block)
}

// makeStandby starts a server on a copy of the files in the primary's folder.
func (w *env) makeStandby(primary string) *pgtest.Database {
	w.Helper()
	dir := filepath.Join(w.TempDir(), "standby")
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		w.Fatal(err)
	}
	// localpg knows a folder of its own by these.
	for _, name := range []string{"start.lock", "users.lock", "password"} {
		text, err := os.ReadFile(filepath.Join(primary, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			w.Fatal(err)
		}
	}
	command := w.atPrimary(scaling(w, "A streaming standby", "sh")[0])
	cmd := exec.CommandContext(w.Context(), "sh", "-c", strings.Replace(command, "/var/lib/postgresql/15/main", "'"+data+"' --no-sync", 1))
	cmd.Env = append(os.Environ(), "PATH="+programs(w)+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		w.Fatalf("%s: %v: %s", command, err, out)
	}
	if os.Geteuid() == 0 {
		giveToOwnerOf(w, data, filepath.Join(primary, "data"))
	}
	settings := map[string]string{}
	for line := range strings.Lines(scaling(w, "A streaming standby", "ini")[0]) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
		settings[name] = value
	}
	return startPostgres(w, dir, settings)
}

// giveToOwnerOf gives files that root made to the account that runs Postgres.
func giveToOwnerOf(t testing.TB, dir, other string) {
	t.Helper()
	info, err := os.Stat(other)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// makeCopy makes a logical copy like one that was made in January 2024: it has a
// partition for that month and none for the present one.
func (w *env) makeCopy() *pgtest.Database {
	w.Helper()
	second := startPostgres(w, filepath.Join(w.TempDir(), "copy"), map[string]string{"wal_retrieve_retry_interval": "100ms"})
	if _, err := openMirror(w, second).Migrate(w.Context()); err != nil {
		w.Fatal(err)
	}
	for _, month := range readAll(w, second, `SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'polar.customer_meter_history'::regclass`) {
		mustExec(w, second.Pool, `DROP TABLE `+month)
	}
	addMonth(w, second, "2024-01")
	for _, sql := range scaling(w, "A logical copy", "sql") {
		switch db := second; {
		case strings.HasPrefix(sql, "CREATE PUBLICATION"):
			db = w.db
			fallthrough
		case strings.HasPrefix(sql, "CREATE"):
			mustExec(w, db.Pool, w.atPrimary(sql))
		}
	}
	w.until("the copy has every table", func() bool {
		return w.text(second, `SELECT bool_and(srsubstate = 'r')::text FROM pg_subscription_rel`) == "true"
	})
	return second
}

// untilReplicated waits until the standby and the copy have what the primary has.
func (w *env) untilReplicated() {
	w.Helper()
	at := w.text(w.db, `SELECT pg_current_wal_lsn()::text`)
	const arrived = `
SELECT count(*)::text
  FROM pg_stat_replication
 WHERE application_name IN ('walreceiver', 'polar')
   AND replay_lsn >= $1::pg_lsn`
	w.until("the standby and the copy have caught up", func() bool { return w.text(w.db, arrived, at) == "2" })
}

func (w *env) until(what string, happened func() bool) {
	w.Helper()
	for began := time.Now(); !happened(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > 2*time.Minute {
			w.Fatalf("%s: not within two minutes", what)
		}
	}
}

// addMonth makes the partition of a month, as syncd would have done at that time.
func addMonth(t testing.TB, db *pgtest.Database, month string) {
	t.Helper()
	from, err := time.Parse("2006-01", month)
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, db.Pool, fmt.Sprintf(`
CREATE TABLE polar.customer_meter_history_%s PARTITION OF polar.customer_meter_history
FOR VALUES FROM ('%s-01 00:00+00') TO ('%s 00:00+00')`, from.Format("2006_01"), month, from.AddDate(0, 1, 0).Format(time.DateOnly)))
}

// age dates what was seen first of an organization in another month.
func (w *env) age(month string, organization int) {
	w.Helper()
	const sql = `UPDATE polar.customer_meter_history SET observed_at = $1::timestamptz WHERE observed_at = $2 AND organization_id = $3`
	if err := w.exec(sql, month+"-02 12:00+00", epoch(), w.sim.Organizations()[organization].ID); err != nil {
		w.Fatal(err)
	}
}

// tick changes rows and has incremental runs find them.
func (w *env) tick() {
	w.Helper()
	for _, row := range w.sim.Listed(w.sim.Organizations()[0].ID)[:5] {
		if _, err := w.sim.Consume(row.ID, "0.125"); err != nil {
			w.Fatal(err)
		}
	}
	second, err := cron.ParseStandard("@every 1s")
	if err != nil {
		w.Fatal(err)
	}
	m := w.mirror()
	ctx, stop := context.WithCancel(w.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := m.Serve(ctx, mirror.Schedules{Incremental: second}); err != nil {
			w.Error(err)
		}
	})
	defer serving.Wait()
	defer stop()
	const found = `SELECT count(*)::text FROM polar.customer_meter_history WHERE source = 'incremental'`
	w.until("ticks have found the changes", func() bool { return w.text(w.db, found) == "5" })
}

// queriesFor makes the tables that queries.md has an administrator make, and returns
// its queries.
func queriesFor(t testing.TB, primary *pgtest.Database) (queries []doctest.Block) {
	t.Helper()
	for _, b := range doctest.Blocks(t, "queries.md") {
		switch {
		case b.Language != "sql":
		case strings.HasPrefix(b.Text, "CREATE "):
			mustExec(t, primary.Pool, strings.ReplaceAll(b.Text, " analyst;", " CURRENT_USER;"))
		default:
			queries = append(queries, b)
		}
	}
	return queries
}

// askUntilStopped asks the standby what the status page and queries.md ask, again
// and again, until the returned function is called.
func askUntilStopped(t testing.TB, standby *pgtest.Database, queries []doctest.Block) (stop func()) {
	t.Helper()
	st := openMirror(t, standby)
	if err := st.Ready(t.Context()); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("a standby is taken for a primary: %v", err)
	}
	var asking sync.WaitGroup
	stopped := make(chan struct{})
	asking.Go(func() {
		for rounds := 1; ; rounds++ {
			if err := st.View(t.Context(), time.Minute, func(v *store.View) error { return askForPage(t.Context(), v) }); err != nil {
				t.Errorf("the page's queries on the standby: %v", err)
			}
			for _, b := range queries {
				if _, err := standby.Pool.Exec(t.Context(), b.Text); err != nil {
					t.Errorf("queries.md:%d on the standby: %v", b.Line, err)
				}
			}
			select {
			case <-stopped:
				t.Logf("the standby was asked everything %d times", rounds)
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	return func() {
		close(stopped)
		asking.Wait()
	}
}

// askForPage calls all that the status page calls.
func askForPage(ctx context.Context, v *store.View) error {
	now := time.Now()
	customers, err := v.Customers(ctx, store.CustomersQuery{Limit: 3})
	if err != nil {
		return err
	}
	customer, _, err := v.Customer(ctx, customers[0].ID)
	if err != nil {
		return err
	}
	meters, err := v.Meters(ctx)
	if err != nil {
		return err
	}
	var ids []uuid.UUID
	for _, m := range customer.Meters {
		ids = append(ids, m.ID)
	}
	var errs []error
	note := func(_ any, err error) { errs = append(errs, err) }
	note(v.Customers(ctx, store.CustomersQuery{Text: "a", After: customer.ID, Limit: 3}))
	note(v.OrgStatus(ctx, store.OrgStatusQuery{CountRows: true}))
	note(v.Activity(ctx))
	note(v.Balances(ctx, ids, now.AddDate(0, 0, -30), now, 30))
	note(v.Changes(ctx, ids, now, 50))
	note(v.CountCustomers(ctx, uuid.Nil))
	note(v.Ranking(ctx, meters[0].ID, 20))
	note(v.Runs(ctx, store.RunsQuery{Limit: 50}))
	note(v.Usage(ctx, uuid.Nil, now.AddDate(0, 0, -30), now))
	return errors.Join(errs...)
}

// text runs a query that returns one text, "" for null.
func (w *env) text(db *pgtest.Database, sql string, args ...any) string {
	w.Helper()
	var value *string
	if err := db.Pool.QueryRow(w.Context(), sql, args...).Scan(&value); err != nil {
		w.Fatalf("%s: %v", sql, err)
	}
	if value == nil {
		return ""
	}
	return *value
}

// readAll runs a query that returns one column of text.
func readAll(t testing.TB, db *pgtest.Database, sql string) []string {
	t.Helper()
	rows, err := db.Pool.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return values
}
