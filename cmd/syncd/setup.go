package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"go.uber.org/zap"

	"polarmirror/internal/config"
	"polarmirror/internal/localpg"
	"polarmirror/internal/mirror"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// loadConfig reads the configuration that the flags ask for.
func (p *program) loadConfig() (*config.Config, error) {
	if p.flags.demo {
		return demoConfig().Only(p.flags.organizations...)
	}
	cfg, err := config.Load(config.LoadOptions{
		Path:      p.flags.config,
		PathGiven: p.flags.config != "",
		LookupEnv: p.lookupEnv,
	})
	if err != nil {
		return nil, err
	}
	return cfg.Only(p.flags.organizations...)
}

// A database is an open one.
type database struct {
	*store.Store
	psql string // the line that opens it; "" unless it is the embedded one
}

// openDatabase connects to the configured database, or runs the embedded one.
// Both are closed when the program ends.
func (p *program) openDatabase(ctx context.Context, cfg *config.Config) (*database, error) {
	url, psql := cfg.Database.URL, ""
	if cfg.Database.Embedded() {
		server, err := localpg.Start(ctx, localpg.Options{DataDir: cfg.Database.DataDir, Log: p.log})
		if err != nil {
			return nil, &databaseError{err}
		}
		p.onClose("embedded database", server.Close)
		url, psql = secret.New(server.URL()), server.PSQL()
	}
	st, err := store.Open(ctx, store.Options{URL: url, MaxConnections: cfg.Database.MaxConnections, HistoryKeep: cfg.History.Keep, Log: p.log})
	if err != nil {
		return nil, err
	}
	p.onClose("database", func(context.Context) error {
		st.Close()
		return nil
	})
	return &database{Store: st, psql: psql}, nil
}

// openMirrored is openDatabase with the schema brought up to date, and without the
// personal data that is excluded.
func (p *program) openMirrored(ctx context.Context, cfg *config.Config) (*database, error) {
	db, err := p.openDatabase(ctx, cfg)
	if err != nil {
		return nil, err
	}
	err = db.Ready(ctx)
	var schema *store.SchemaError
	if p.flags.demo && errors.As(err, &schema) && schema.Obsolete {
		p.log.Info("the database of an earlier demo is made anew")
		err = db.Rebuild(ctx)
	}
	if err != nil {
		return nil, &databaseError{err}
	}
	applied, err := db.Migrate(ctx)
	if err != nil {
		return nil, &databaseError{err}
	}
	if applied > 0 {
		p.log.Info("schema migrated", zap.Int("applied", applied))
	}
	excluded, err := db.Exclude(ctx, cfg.Privacy.Exclude)
	if err != nil {
		return nil, &databaseError{err}
	}
	if len(excluded) > 0 {
		p.log.Info("fields excluded; what the database had of them was removed", zap.Strings("fields", excluded))
	}
	return db, nil
}

// embeddedMissing reports whether the database is the embedded one and has
// never been started: looking at it would make it.
func embeddedMissing(cfg *config.Config) bool {
	if !cfg.Database.Embedded() {
		return false
	}
	_, err := os.Stat(cfg.Database.DataDir)
	return os.IsNotExist(err)
}

// newMirror joins the configured organizations and the database. source names
// what is read, in place of the base URL where that means nothing.
func (p *program) newMirror(cfg *config.Config, db *database, source string, progress mirror.Progress) (*mirror.Mirror, error) {
	clients, err := p.clients(cfg)
	if err != nil {
		return nil, err
	}
	var organizations []mirror.Organization
	for _, o := range cfg.Organizations {
		organizations = append(organizations, mirror.Organization{
			Name:   o.Name,
			ID:     o.ID,
			Client: clients[o.Name],
			Filter: mirror.Filter{
				CustomerIDs:         o.Filter.CustomerID,
				ExternalCustomerIDs: o.Filter.ExternalCustomerID,
				MeterIDs:            o.Filter.MeterID,
			},
			Webhooks: !o.WebhookSecret.IsZero(),
		})
	}
	if source == "" {
		source = fmt.Sprintf("%s %s", cfg.Polar.BaseURL, cfg.Polar.APIVersion)
	}
	var observer mirror.Observer
	if p.observability != nil {
		observer = p.observability
	}
	return mirror.New(mirror.Options{
		Organizations:     organizations,
		Store:             db.Store,
		Log:               p.log,
		Progress:          progress,
		Observer:          observer,
		Source:            source,
		Concurrency:       cfg.Sync.Concurrency,
		PagesInFlight:     cfg.Polar.Concurrency,
		MaxDeleteFraction: cfg.Sync.MaxDeleteFraction,
		AcceptDeletions:   p.flags.acceptDeletions,
		Exclude:           cfg.Privacy.Exclude,
		Walk:              p.flags.walk,
	})
}
