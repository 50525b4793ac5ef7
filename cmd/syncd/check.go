package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/robfig/cron/v3"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"polarmirror/internal/config"
	"polarmirror/internal/console"
	"polarmirror/internal/fetch"
	"polarmirror/internal/localpg"
	"polarmirror/internal/mirror"
	"polarmirror/internal/store"
	"polarmirror/internal/web"
)

func (p *program) configCommand() *cobra.Command {
	check := &cobra.Command{
		Use:   "check",
		Short: "Find out what is wrong with the configuration",
		Long: `Validates the configuration, shows when the next runs are due and, unless
--offline, tries every access token with one small request, looks at the database,
writes a row of each table and takes it back, and says how long a backfill will
take. Each failure names its cure.

Exit codes: 0 all is well, 1 Polar gave no usable answer, 2 the configuration or a
token is wrong, 3 the database cannot be used.`,
		Example: "  syncd config check\n  syncd config check --offline --config staging.yaml",
		Args:    cobra.NoArgs,
		RunE:    p.check,
	}
	check.Flags().BoolVar(&p.flags.offline, "offline", false, "ask neither Polar nor the database")
	return group(&cobra.Command{
		Use:     "config",
		Short:   "Look at the configuration",
		Example: "  syncd config check",
	}, check)
}

// check is the doctor. What keeps the configuration from being read at all is an
// error like everywhere; what comes after are findings.
func (p *program) check(cmd *cobra.Command, _ []string) error {
	ctx := cmd.Context()
	cfg, err := p.begin(ctx, true)
	if err != nil {
		return err
	}
	d := &doctor{cfg: cfg, out: p.stdout, failed: map[int]int{}}
	d.good("configuration: %s is valid; organizations: %s", cfg.Source, strings.Join(cfg.Names(), ", "))
	d.checkWebhooks()
	for _, w := range cfg.Warnings() {
		d.doubt("%s", w)
	}
	schedules, now := schedulesOf(cfg.Schedule), time.Now().In(cfg.Schedule.Location)
	d.checkSchedule("schedule.incremental", schedules.Incremental, now)
	d.checkSchedule("schedule.full", schedules.Full, now)
	if !p.flags.offline {
		seen := p.checkPolar(ctx, d)
		p.checkDatabase(ctx, d)
		d.estimate(seen)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return d.verdict()
}

// A doctor prints findings as it makes them.
type doctor struct {
	cfg    *config.Config
	out    io.Writer
	failed map[int]int // findings to cure, by the exit code they call for
	writes error       // the first failure to print
}

func (d *doctor) good(format string, args ...any)  { d.print("✓", format, args...) }
func (d *doctor) doubt(format string, args ...any) { d.print("!", format, args...) }

// bad prints a finding to cure.
func (d *doctor) bad(code int, format string, args ...any) {
	d.failed[code]++
	d.print("✗", format, args...)
}

func (d *doctor) print(mark, format string, args ...any) {
	_, err := fmt.Fprintf(d.out, "%s %s\n", mark, oneLine(fmt.Sprintf(format, args...)))
	d.writes = cmp.Or(d.writes, err)
}

// verdict is the error that carries the exit code; everything has been said.
func (d *doctor) verdict() error {
	for _, code := range []int{exitUsage, exitDatabase, exitFailed} {
		if d.failed[code] > 0 {
			return &exitError{code: code}
		}
	}
	return d.writes
}

// checkSchedule says when the next runs are, if there are any.
func (d *doctor) checkSchedule(key string, times cron.Schedule, now time.Time) {
	var next []string
	for at := times.Next(now); len(next) < 3 && !at.IsZero(); at = times.Next(at) {
		next = append(next, at.Format("2006-01-02 15:04:05 MST"))
	}
	if len(next) > 0 {
		d.good("%s: the next times are %s", key, strings.Join(next, ", "))
	}
}

// checkWebhooks says who receives webhooks, where, and how they may be signed.
// Without any secret there is nothing to say.
func (d *doctor) checkWebhooks() {
	var paths, without []string
	for _, o := range d.cfg.Organizations {
		if o.WebhookSecret.IsZero() {
			without = append(without, o.Name)
		} else {
			paths = append(paths, web.WebhookPath+o.Name)
			d.checkWebhookSecret(o)
		}
	}
	refused := ""
	if len(without) > 0 {
		refused = "; refused, for want of a webhook_secret: " + strings.Join(without, ", ")
	}
	if listen := cmp.Or(d.cfg.HTTP.WebhookListen, d.cfg.HTTP.Listen); len(paths) > 0 && listen != "" {
		d.good("webhooks: received on %s at %s%s", listen, strings.Join(paths, ", "), refused)
	}
}

// checkWebhookSecret says which of Polar's two rules for keys a secret can satisfy.
func (d *doctor) checkWebhookSecret(o config.Organization) {
	s, err := o.WebhookSecret.Read()
	if err != nil {
		d.bad(exitUsage, "organization %s: webhook secret: %v", o.Name, err)
		return
	}
	_, generated := web.GeneratedKey(s)
	switch prefixed := strings.HasPrefix(s.Reveal(), web.GeneratedSecretPrefix); {
	case generated:
		d.good("organization %s: its webhook secret satisfies both of Polar's key rules: the base64 behind %s (secrets that Polar generated since September 2026) and the whole text (older ones, and those you chose)", o.Name, web.GeneratedSecretPrefix)
	case prefixed:
		d.doubt("organization %s: its webhook secret begins with %s, but no key in base64 follows, so it satisfies one of Polar's key rules, the whole text: that is right for a secret you chose; if Polar generated it, copy it again in full", o.Name, web.GeneratedSecretPrefix)
	default:
		d.good("organization %s: its webhook secret satisfies one of Polar's key rules: the whole text (secrets that Polar generated before September 2026, and those you chose)", o.Name)
	}
}

// checkTime bounds the first attempt of one of the doctor's requests, which may be
// followed by one that waits twice as long: somebody waits for the doctor, and Polar
// being away for a moment is worth knowing.
const checkTime = 5 * time.Second

// A seenOrganization is one whose token is good.
type seenOrganization struct {
	mirror.Probe
	token [32]byte
}

// checkPolar tries each organization's token.
func (p *program) checkPolar(ctx context.Context, d *doctor) []seenOrganization {
	cfg := *d.cfg
	cfg.Polar.Timeout = min(cfg.Polar.Timeout, checkTime)
	cfg.Polar.Retry.MaxElapsedTime = checkTime
	cfg.Polar.Retry.RetryConnectionErrors = false
	organizations, err := p.organizations(&cfg, nil)
	if err != nil {
		d.bad(exitUsage, "%v", err)
		return nil
	}
	probes, errs := make([]mirror.Probe, len(organizations)), make([]error, len(organizations))
	var group errgroup.Group
	group.SetLimit(cfg.Sync.Concurrency)
	for i := range organizations {
		group.Go(func() error {
			probes[i], errs[i] = organizations[i].Probe(ctx)
			return nil
		})
	}
	_ = group.Wait() // the functions return nil
	var seen []seenOrganization
	for i, o := range cfg.Organizations {
		if d.tellToken(o, probes[i].Rows, errs[i]); errs[i] == nil {
			seen = append(seen, seenOrganization{probes[i], tokenSum(o)})
		}
	}
	return seen
}

// tellToken says how many customer meters the organization's token sees, or why it
// sees none.
func (d *doctor) tellToken(o config.Organization, rows int, err error) {
	proxy, _ := errors.AsType[*fetch.ProxyError](err)
	status, _ := errors.AsType[*fetch.StatusError](err)
	refused := proxy != nil && proxy.Refused()
	switch {
	case errors.Is(err, fetch.ErrNoAnswer) && !refused, errors.Is(err, fetch.ErrRateLimited), status != nil && status.Status >= 500:
		d.bad(exitFailed, "organization %s: Polar gave no usable answer: %v", o.Name, err)
	case err != nil:
		d.bad(exitUsage, "organization %s: %v", o.Name, err)
	case rows == 0 && o.ID == uuid.Nil:
		d.bad(exitUsage, "organization %s: its token sees no customer meters, so its id cannot be learned from them: set POLAR_ORGANIZATION_ID", o.Name)
	case rows == 0:
		d.doubt("organization %s: its token is valid and sees no customer meters: the organization has none, its id is another one, or the filter lets none in", o.Name)
	default:
		d.good("organization %s: its token is valid at %s and sees %s customer meters", o.Name, d.cfg.Polar.BaseURL, console.Count(int64(rows)))
	}
}

// estimate says how long a backfill takes: requests are what there is least of.
func (d *doctor) estimate(seen []seenOrganization) {
	if len(seen) == 0 {
		return
	}
	rows, requests, duration := backfillEstimate(seen, d.cfg.Polar, d.cfg.Sync.Concurrency)
	d.good("a backfill of %s customer meters takes about %s requests and %s",
		console.Count(int64(rows)), console.Count(int64(requests)), console.Span(max(duration.Round(time.Second), time.Second)))
}

// backfillEstimate is how many rows there are, and how many requests and how long a
// backfill takes if pages take what the one that was asked for took. A token paces
// all requests with it, and organizations wait for each other beyond so many at a time.
func backfillEstimate(seen []seenOrganization, polar config.Polar, atATime int) (rows, requests int, duration time.Duration) {
	perToken := map[[32]byte]time.Duration{}
	var longest, sum time.Duration
	for _, o := range seen {
		estimate := mirror.Estimate{
			InFlight: polar.Concurrency,
			Interval: fetch.NewLimiters(polar.RequestsPerMinute).Interval(),
			Start:    o.Start,
		}
		rows += o.Rows
		requests += estimate.Requests(o.Rows)
		t := estimate.Duration(o.Rows)
		sum += t
		perToken[o.token] += t
		longest = max(longest, perToken[o.token])
	}
	return rows, requests, max(longest, sum/time.Duration(atATime))
}

// checkDatabase looks at the database. What it writes it takes back.
func (p *program) checkDatabase(ctx context.Context, d *doctor) {
	if embeddedMissing(d.cfg) {
		d.checkPostgres(ctx)
		return
	}
	db, _, err := p.openDatabase(ctx, d.cfg)
	var in *store.Inspection
	if err == nil {
		in, err = db.Inspect(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		d.bad(exitDatabase, "%v", err)
		return
	}
	d.tellServer(in)
	d.tellRights(in)
	d.tellConnections(in)
	if in.ReadOnly || in.Pending > 0 || !in.SchemaExists || !in.MayMigrate {
		return
	}
	err = db.Rehearse(ctx)
	if err == nil {
		err = db.Serviceable(ctx) // a full disk takes a row that is rolled back
	}
	if err != nil {
		d.bad(exitDatabase, "database: a run could not write: %v", err)
		return
	}
	d.good("database: a row of each table was written, read back and rolled back")
}

// tellConnections compares what the pool may open with what may be opened. With
// fewer the pool waits; with fewer than the configuration asks for at least, work
// could wait for itself.
func (d *doctor) tellConnections(in *store.Inspection) {
	d.good("database: a connection keeps its session, and its advisory locks are exclusive") // or it could not have been opened
	want, least := d.cfg.Database.MaxConnections, d.cfg.Sync.Concurrency+config.SpareConnections
	for _, limit := range in.Limits {
		const text = "database: %s leaves %d connections to syncd, and database.max_connections is %d: %s, or lower %s"
		switch {
		case limit.Left < least:
			d.bad(exitDatabase, text, limit.Of, limit.Left, want, limit.Cure, "sync.concurrency and database.max_connections")
		case limit.Left < want:
			d.doubt(text, limit.Of, limit.Left, want, limit.Cure, "database.max_connections")
		}
	}
}

// checkPostgres looks whether the embedded database, never started yet, could
// be.
func (d *doctor) checkPostgres(ctx context.Context) {
	found, err := localpg.Find(ctx, "")
	switch {
	case err == nil:
		d.good("database: the embedded one will be made in %s with Postgres %s from %s", d.cfg.Database.DataDir, found.Version, found.Dir)
	case errors.Is(err, localpg.ErrNoPostgres):
		d.doubt("database: no Postgres is installed here; the first start will try to download one. %v", err)
	default:
		d.bad(exitDatabase, "database: %v", err)
	}
}

func (d *doctor) tellServer(in *store.Inspection) {
	switch {
	case in.Major < store.OldestPostgres:
		d.bad(exitDatabase, "database: Postgres %s is too old: use version %d or later", in.Version, store.OldestPostgres)
	case in.Major > store.NewestPostgres:
		d.doubt("database: Postgres %s is newer than any this syncd was tried with (%d to %d)", in.Version, store.OldestPostgres, store.NewestPostgres)
	default:
		d.good("database: reachable, Postgres %s", in.Version)
	}
	if in.ReadOnly {
		d.bad(exitDatabase, "database: it takes no writes: point database.url at the primary server or, if that is it, reset default_transaction_read_only for this role and database")
	}
}

func (d *doctor) tellRights(in *store.Inspection) {
	switch {
	case in.SchemaExists && in.MayMigrate:
		d.good("database: role %s may write schema polar", in.Role)
	case in.SchemaExists:
		d.bad(exitDatabase, "database: schema polar exists and role %s does not own it: let an administrator give it and what is in it to %s, or use the role that made it", in.Role, in.Role)
	case in.MayCreate:
		d.good("database: role %s may create schema polar", in.Role)
	default:
		d.bad(exitDatabase, "database: role %s may not create schema polar: let an administrator run CREATE SCHEMA polar AUTHORIZATION %s", in.Role, in.Role)
	}
	if in.Pending > 0 && in.SchemaExists {
		d.doubt("database: %s: the next start of syncd applies what is missing, or syncd migrate up", console.Plural(int64(in.Pending), "migration is pending", "migrations are pending"))
	}
}
