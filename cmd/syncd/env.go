package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"polarmirror/internal/config"
	"polarmirror/internal/fetch"
	"polarmirror/internal/localpg"
	"polarmirror/internal/mirror"
	"polarmirror/internal/polar"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// loadConfig reads the configuration that the flags ask for.
func (p *program) loadConfig() (*config.Config, error) {
	if p.flags.demo {
		return demoConfig().Only(p.flags.organizations...)
	}
	cfg, err := config.Load(p.flags.config, p.lookupEnv)
	if err != nil {
		return nil, err
	}
	p.all = configured(cfg)
	return cfg.Only(p.flags.organizations...)
}

// begin is how a command begins: with the configuration and the log. Commands whose
// result is on stdout are quiet; the others warn of what is allowed and probably not
// meant, and can be profiled.
func (p *program) begin(ctx context.Context, quiet bool) (*config.Config, error) {
	cfg, err := p.loadConfig()
	if err != nil {
		return nil, err
	}
	p.openLog(cfg.Log, quiet)
	p.announceStop(ctx)
	if quiet {
		return cfg, nil
	}
	for _, w := range cfg.Warnings() {
		p.log.Warn("configuration", zap.String("warning", w))
	}
	if p.flags.acceptDeletions && !p.flags.backfill {
		p.log.Warn("deletions are accepted whatever their number as long as this process runs; for one run use --backfill --accept-deletions")
	}
	return cfg, p.openProfiles(ctx)
}

// openDatabase connects to the configured database, or runs the embedded one, of which
// psql is the line that opens it. Both are closed when the program ends.
func (p *program) openDatabase(ctx context.Context, cfg *config.Config) (st *store.Store, psql string, err error) {
	url := cfg.Database.URL
	if cfg.Database.Embedded() {
		server, err := localpg.Start(ctx, localpg.Options{DataDir: cfg.Database.DataDir, Log: p.log})
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, "", errInterrupted
		case err != nil:
			return nil, "", &exitError{exitDatabase, err}
		}
		p.onClose(server.Close)
		url, psql = secret.New(server.URL()), server.PSQL()
	}
	st, err = store.Open(ctx, store.Options{URL: url, MaxConnections: cfg.Database.MaxConnections, HistoryKeep: cfg.History.Keep})
	switch {
	case err != nil && ctx.Err() != nil: // nothing is wrong with the database
		return nil, "", errInterrupted
	case err != nil:
		return nil, "", err
	}
	p.onClose(func(context.Context) error {
		st.Close()
		return nil
	})
	return st, psql, nil
}

// embeddedMissing reports whether the database is the embedded one and has
// never been started: looking at it would make it.
func embeddedMissing(cfg *config.Config) bool {
	return cfg.Database.Embedded() && localpg.Missing(cfg.Database.DataDir)
}

// prepare brings the schema up to date, and removes personal data that is excluded.
func (p *program) prepare(ctx context.Context, db *store.Store, cfg *config.Config) error {
	err := db.Ready(ctx)
	if schema, ok := errors.AsType[*store.SchemaError](err); ok && schema.Obsolete && p.flags.demo {
		p.log.Info("the database of an earlier demo is made anew")
		err = db.Drop(ctx)
	}
	if err != nil {
		return err
	}
	applied, err := db.Migrate(ctx)
	if err != nil {
		return err
	}
	if applied > 0 {
		p.log.Info("schema migrated", zap.Int("applied", applied))
	}
	excluded, err := db.Exclude(ctx, cfg.Privacy.Exclude)
	if len(excluded) > 0 {
		p.log.Info("fields excluded; what the database had of them was removed", zap.Strings("fields", excluded))
	}
	return err
}

// An env is what runs work with: the configuration, the database, with --demo the
// simulated Polar, and what joins them.
type env struct {
	cfg    *config.Config
	db     *store.Store
	psql   string // the line that opens it; "" unless it is the embedded one
	demo   *demo  // nil without --demo
	mirror *mirror.Mirror
}

// openMirror is how commands begin that work on the mirror once.
func (p *program) openMirror(ctx context.Context, quiet bool) (*env, error) {
	cfg, err := p.begin(ctx, quiet)
	if err != nil {
		return nil, err
	}
	return p.openEnv(ctx, cfg, nil, nil)
}

// openEnv opens the database, with its schema brought up to date, and the demo's
// Polar, and joins them. Observers may be nil.
func (p *program) openEnv(ctx context.Context, cfg *config.Config, requests fetch.Observer, runs mirror.Observer) (*env, error) {
	if p.flags.demo && p.terminal {
		fmt.Fprintf(p.screen, "Starting the embedded database in %s ...\n", cfg.Database.DataDir)
	}
	db, psql, err := p.openDatabase(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := p.prepare(ctx, db, cfg); err != nil {
		return nil, &exitError{exitDatabase, err}
	}
	e := &env{cfg: cfg, db: db, psql: psql}
	source := cfg.Polar.BaseURL + " " + cfg.Polar.APIVersion
	if p.flags.demo { // after the database, which wants to find its folder empty
		source = demoSource
		if e.demo, err = p.openDemo(cfg); err != nil {
			return nil, err
		}
		err := e.demo.writePast(ctx, db, cfg.Organizations)
		switch {
		case ctx.Err() != nil:
			return nil, errInterrupted
		case err != nil:
			return nil, err
		}
	}
	organizations, err := p.organizations(cfg, requests)
	if err != nil {
		return nil, err
	}
	e.mirror = mirror.New(mirror.Options{
		Organizations:     organizations,
		Store:             db,
		Log:               p.log,
		Progress:          p.screen,
		Observer:          runs,
		Source:            source,
		Concurrency:       cfg.Sync.Concurrency,
		PagesInFlight:     cfg.Polar.Concurrency,
		MaxDeleteFraction: cfg.Sync.MaxDeleteFraction,
		AcceptDeletions:   p.flags.acceptDeletions,
		Exclude:           cfg.Privacy.Exclude,
		Walk:              p.flags.walk,
	})
	return e, nil
}

// organizations are the configured ones, each with a client. The clients share one
// pool of connections, and a pace where they share a token.
func (p *program) organizations(cfg *config.Config, observer fetch.Observer) ([]mirror.Organization, error) {
	transport := fetch.NewTransport()
	limiters := fetch.NewLimiters(cfg.Polar.RequestsPerMinute)
	var list []mirror.Organization
	for _, o := range cfg.Organizations {
		client, err := fetch.New(fetch.Options{
			Organization: o.Name,
			BaseURL:      cfg.Polar.BaseURL,
			APIVersion:   cfg.Polar.APIVersion,
			UserAgent:    userAgent(),
			Token:        fetch.RereadToken(o.AccessToken.Read),
			Exclude:      cfg.Privacy.Exclude,
			Timeout:      cfg.Polar.Timeout,
			Retry:        fetch.Retry(cfg.Polar.Retry),
			Limiters:     limiters,
			Log:          p.log,
			Observer:     observer,
			Transport:    transport,
		})
		if err != nil {
			return nil, err
		}
		list = append(list, mirror.Organization{
			Name:     o.Name,
			ID:       o.ID,
			Client:   client,
			Filter:   mirror.Filter(o.Filter),
			Webhooks: !o.WebhookSecret.IsZero(),
		})
	}
	return list, nil
}

// tokenSum tells tokens apart: organizations that share one share its budget.
func tokenSum(o config.Organization) [32]byte {
	token, _ := o.AccessToken.Read() // one that cannot be read is no token
	return token.Sum()
}

// printReports has work read organizations, and prints what came of each; nothing if
// none could be read.
func printReports[T any](ctx context.Context, p *program, names json.Options, text func([]T) string, work func() ([]T, error)) ([]T, error) {
	var reports []T
	failed := untilStopped(ctx, func() (err error) {
		reports, err = work()
		return err
	})
	if errors.Is(failed, errInterrupted) {
		return nil, failed
	}
	p.screen.Close()
	var err error
	switch {
	case len(reports) == 0:
	case p.flags.json:
		err = p.printJSON(reports, names)
	default:
		err = p.print(text(reports))
	}
	return reports, errors.Join(failed, err)
}

// differencesAs says what the two values of a difference are called in JSON.
func differencesAs(a, b string) json.Options {
	return json.WithMarshalers(json.MarshalFunc(func(d polar.Difference) ([]byte, error) {
		return json.Marshal(map[string]string{"field": d.Field, a: d.A, b: d.B}, json.Deterministic(true))
	}))
}

// print prints the result of a command.
func (p *program) print(text string) error {
	_, err := io.WriteString(p.stdout, text)
	return err
}

// printJSON prints it as JSON. Its lists are arrays, also if they are empty.
func (p *program) printJSON(v any, opts ...json.Options) error {
	text, err := json.Marshal(v, append(opts, jsontext.WithIndent("  "))...)
	if err != nil {
		return err
	}
	return p.print(string(text) + "\n")
}

// service is what the service is called by.
func (p *program) service() string {
	if p.flags.demo {
		return "syncd --demo"
	}
	return "syncd"
}
