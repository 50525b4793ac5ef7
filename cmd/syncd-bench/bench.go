package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"polarmirror/internal/console"
	"polarmirror/internal/localpg"
	"polarmirror/internal/polarsim"
)

// A bench is one benchmark under way.
type bench struct {
	sizes, meters []int
	paced         bool
	syncd         string // the binary; empty to build it, which needs a checkout
	stderr        io.Writer

	dir      string // temporary
	postgres *postgres
	work     job // of the baselines, but for its kind and database
	results  []result
	pace     string // how a paced first load went
}

// A result is what one process did and took.
type result struct {
	rows, meters int
	name         string
	usage
	cost
	began    mark
	postgres time.Duration // CPU; 0 if unknown
	log      int64         // bytes of write-ahead log

	// Of syncd's.
	method      string // sweep or walk
	updated     int64
	newVersions int64
}

// The names of what is compared.
const (
	firstLoad   = "first load"
	unchanged   = "full run, unchanged"
	walked      = "full run, --walk"
	changed     = "full run, 1 % changed"
	downloaded  = "plain download"
	copied      = "COPY of the same rows"
	scriptFirst = "plain script, first load"
	scriptAgain = "plain script, unchanged"
)

// run measures everything. When it returns, everything it started has ended and
// everything it made is gone.
func (b *bench) run(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "syncd-bench-"); err != nil {
		return fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	fmt.Fprintln(b.stderr, "starting Postgres")
	server, err := localpg.Start(ctx, localpg.Options{DataDir: filepath.Join(b.dir, "postgres")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close(context.WithoutCancel(ctx))) }() // cuts connections off
	if b.postgres, err = openPostgres(ctx, server.URL()); err != nil {
		return err
	}
	if b.paced {
		return b.measurePaced(ctx)
	}
	for _, rows := range b.sizes {
		for _, meters := range b.meters {
			if err := b.measure(ctx, rows, meters); err != nil {
				return fmt.Errorf("%d customer meters of %d meters: %w", rows, meters, err)
			}
		}
	}
	return nil
}

// measure runs everything with so many customer meters.
func (b *bench) measure(ctx context.Context, rows, meters int) error {
	fmt.Fprintf(b.stderr, "rendering %d customer meters\n", rows)
	p := newPolar(rows, meters, polarsim.Options{})
	if err := p.prepare(ctx); err != nil {
		return err
	}
	serving := httptest.NewServer(p)
	defer serving.Close()
	b.work = job{Polar: serving.URL, Token: p.org.Token, Organization: p.org.ID.String(), Rows: rows, Files: b.dir}
	if err := b.baseline(ctx, p, b.postgres.admin, downloaded, "download", connections); err != nil {
		return err
	}
	mirror, config, err := b.migrated(ctx, "mirror", serving.URL, p.org, 0)
	if err != nil {
		return err
	}
	defer mirror.drop(ctx)
	script, err := b.postgres.create(ctx, "script")
	if err != nil {
		return err
	}
	defer script.drop(ctx)
	if _, err := script.conn.Exec(ctx, plainTable); err != nil {
		return fmt.Errorf("make the script's table: %w", err)
	}
	for _, step := range []func() error{
		func() error { return b.backfill(ctx, p, mirror, firstLoad, config) },
		func() error { return b.copy(ctx, p, mirror) },
		func() error { return b.backfill(ctx, p, mirror, unchanged, config) },
		func() error { return b.backfill(ctx, p, mirror, walked, config, "--walk") },
		func() error { return p.change(ctx, rows/100) },
		func() error { return b.backfill(ctx, p, mirror, changed, config) },
		func() error { return b.baseline(ctx, p, script, scriptFirst, "script", 1) },
		func() error { return b.baseline(ctx, p, script, scriptAgain, "script", 1) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// copy measures COPY of what a mirror holds into another database of the same schema.
func (b *bench) copy(ctx context.Context, p *polar, from *database) error {
	if err := from.dump(ctx, b.dir); err != nil {
		return err
	}
	into, _, err := b.migrated(ctx, "copied", b.work.Polar, p.org, 0)
	if err != nil {
		return err
	}
	defer into.drop(ctx)
	return b.baseline(ctx, p, into, copied, "copy", 1)
}

// migrated makes a database with syncd's schema, and a configuration for it. That
// file holds the token and the database's password, and is for its owner only.
func (b *bench) migrated(ctx context.Context, name, polarURL string, org polarsim.Organization, perMinute int) (*database, string, error) {
	if b.syncd == "" {
		fmt.Fprintln(b.stderr, "building syncd")
		path := filepath.Join(b.dir, "syncd")
		out, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", path, "polarmirror/cmd/syncd").CombinedOutput()
		if err != nil {
			return nil, "", fmt.Errorf("build syncd: %w: %s", err, out)
		}
		b.syncd = path
	}
	db, err := b.postgres.create(ctx, name)
	if err != nil {
		return nil, "", err
	}
	config := filepath.Join(b.dir, name+".yaml")
	text := fmt.Sprintf(`
polar: {base_url: %q, requests_per_minute: %d, concurrency: %d}
organizations:
  - {name: bench, id: %s, access_token: %q}
database: {url: %q}
http: {listen: ""}
`, polarURL, perMinute, connections, org.ID, org.Token, db.url)
	err = os.WriteFile(config, []byte(text), 0o600)
	if err == nil {
		_, err = measure(command(ctx, b.syncd, "migrate", "up", "--config", config))
	}
	if err != nil {
		db.drop(ctx)
		return nil, "", fmt.Errorf("make a database with syncd's schema: %w", err)
	}
	return db, config, nil
}

// baseline measures another process of this program, and proves that it handled
// every row.
func (b *bench) baseline(ctx context.Context, p *polar, db *database, name, kind string, inFlight int) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	work := b.work
	work.Kind, work.Database = kind, db.url
	text, err := json.Marshal(work)
	if err != nil {
		return err
	}
	cmd := command(ctx, self)
	cmd.Env = append(os.Environ(), workerEnv+"="+string(text))
	p.ForgetRequests()
	r, err := db.measure(ctx, cmd)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if said := strings.TrimSpace(r.stdout); said != strconv.Itoa(p.rows) {
		return fmt.Errorf("%s: %s rows of %d", name, said, p.rows)
	}
	b.add(p, name, r, inFlight)
	return nil
}

// errNotMirrored means that syncd ended well and did not do what a benchmark of
// it has to count on.
var errNotMirrored = errors.New("syncd did not mirror what the simulated Polar holds")

// backfill measures syncd --backfill, and proves that it was one exact full run that
// leaves every row in the mirror.
func (b *bench) backfill(ctx context.Context, p *polar, db *database, name, config string, args ...string) error {
	p.ForgetRequests()
	r, err := b.fullRun(ctx, db, p.rows, config, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	b.add(p, name, r, connections)
	return nil
}

func (b *bench) fullRun(ctx context.Context, db *database, rows int, config string, args ...string) (result, error) {
	args = append(args, "--backfill", "--config", config, "--log-level", "warn", "--no-progress")
	r, err := db.measure(ctx, command(ctx, b.syncd, args...))
	if err != nil {
		return r, err
	}
	const sql = `
SELECT
    coalesce(method, ''),
    rows_updated,
    kind = 'full' AND status = 'succeeded' AND exact IS TRUE,
    (SELECT count(*) FROM polar.customer_meters WHERE deleted_at IS NULL)
  FROM polar.sync_runs
 WHERE started_at >= $1`
	var exact bool
	var mirrored int
	err = db.conn.QueryRow(ctx, sql, r.began.at).Scan(&r.method, &r.updated, &exact, &mirrored)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return r, fmt.Errorf("read the run: %w", err)
	}
	if !exact || mirrored != rows {
		return r, fmt.Errorf("%w: exact: %v, %d rows of %d", errNotMirrored, exact, mirrored, rows)
	}
	r.newVersions, err = db.newVersions(ctx, r.began)
	return r, err
}

func (b *bench) add(p *polar, name string, r result, inFlight int) {
	r.rows, r.meters, r.name, r.cost = p.rows, p.meters, name, costOf(p.Requests(), inFlight)
	b.results = append(b.results, r)
	fmt.Fprintf(b.stderr, "%d customer meters, %s: %.2f s\n", r.rows, name, r.wall.Seconds())
}

// The pace at which Polar answers a paced first load: the latency of an ordinary
// request, and on top of it what its statements take.
const (
	pacedRows    = 100_000
	pacedLatency = 150 * time.Millisecond
)

// measurePaced measures how well a first load uses its budget of requests.
func (b *bench) measurePaced(ctx context.Context) error {
	p := newPolar(pacedRows, usualMeters, polarsim.Options{RequestsPerMinute: polarLimit, Latency: pacedLatency, CostScale: 1})
	serving := httptest.NewServer(p)
	defer serving.Close()
	db, config, err := b.migrated(ctx, "paced", serving.URL, p.org, polarLimit)
	if err != nil {
		return err
	}
	defer db.drop(ctx)
	fmt.Fprintf(b.stderr, "%d customer meters, paced: this takes some three minutes\n", pacedRows)
	r, err := b.fullRun(ctx, db, pacedRows, config)
	if err != nil {
		return err
	}
	requests, refused := p.Requests(), 0
	for _, request := range requests {
		if request.Status == http.StatusTooManyRequests {
			refused++
		}
	}
	limit := time.Duration(len(requests)) * dictated
	b.pace = fmt.Sprintf("first load of %d customer meters with %v of latency: %d requests in %.1f s, %.3f of what %d a minute dictate; %d answers 429\n",
		pacedRows, pacedLatency, len(requests), r.wall.Seconds(), r.wall.Seconds()/limit.Seconds(), polarLimit, refused)
	return nil
}

// print writes what was measured.
func (b *bench) print(w io.Writer) error {
	if b.pace != "" {
		_, err := io.WriteString(w, b.pace)
		return err
	}
	if len(b.results) == 0 {
		return nil
	}
	fmt.Fprintf(w, "%s/%s, %d CPUs, %s, Postgres %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), b.postgres.version)
	table := console.Table{Columns: append([]string{"rows", "meters", ""}, numbers...), Right: numbers}
	for _, r := range b.results {
		table.Add(b.cells(r)...)
	}
	_, err := io.WriteString(w, table.String())
	return err
}

// numbers are the columns of what was measured.
var numbers = []string{"rows/s", "/ COPY", "/ script", "client µs/row", "Postgres µs/row", "peak MiB", "log B/row", "new versions", "requests", "skipped rows", "statements", "takes"}

// cells are a result's line; what it has no notion of stays empty.
func (b *bench) cells(r result) []any {
	perRow := func(v float64, digits int) string { return strconv.FormatFloat(v/float64(r.rows), 'f', digits, 64) }
	when := func(known bool, cell any) any {
		if known {
			return cell
		}
		return ""
	}
	script := scriptAgain
	if r.name == firstLoad || r.name == copied || r.name == downloaded {
		script = scriptFirst
	}
	asked, written := r.requests > 0, r.name != downloaded
	return []any{
		r.rows, r.meters, r.name,
		int(float64(r.rows) / r.wall.Seconds()),
		when(r.name == firstLoad, b.ratio(r, copied)),
		b.ratio(r, script),
		perRow(float64(r.cpu.Microseconds()), 1),
		when(written && r.postgres > 0, perRow(float64(r.postgres.Microseconds()), 1)),
		when(r.peak > 0, r.peak>>20),
		when(written, perRow(float64(r.log), 2)),
		when(r.method != "", r.newVersions),
		when(asked, r.requests),
		when(asked, r.skippedRows),
		when(asked, fmt.Sprintf("%.1f s", r.statements.Seconds())),
		when(asked, r.takes.Round(time.Second).String()),
	}
}

// ratio is how many times as fast as another a process was, with the same rows.
func (b *bench) ratio(r result, name string) string {
	for _, other := range b.results {
		if other.name == name && other.rows == r.rows && other.meters == r.meters && name != r.name {
			return fmt.Sprintf("%.2f", other.wall.Seconds()/r.wall.Seconds())
		}
	}
	return ""
}
