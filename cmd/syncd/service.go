package main

import (
	"cmp"
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"polarmirror/internal/config"
	"polarmirror/internal/heartbeat"
	"polarmirror/internal/metrics"
	"polarmirror/internal/mirror"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
	"polarmirror/internal/web"
)

// serve is the service. Being told to stop is its ordinary end.
func (p *program) serve(ctx context.Context) error {
	err := p.serveUntilStopped(ctx)
	if ctx.Err() == nil {
		return err
	}
	if rest := besidesStops(err); rest != nil {
		p.log.Warn("not everything ended in order; the next start goes on from the last saved block", zap.Error(rest))
	}
	return nil
}

func (p *program) serveUntilStopped(ctx context.Context) error {
	cfg, err := p.begin(ctx, false)
	if err != nil {
		return err
	}
	schedules := schedulesOf(cfg.Schedule)

	// Health checks are answered before the database is opened and migrated, which
	// may take a while. A listener that breaks ends the service.
	observed := newMetrics(cfg, p.log)
	server, err := p.listen(ctx, cfg.HTTP, observed.Served)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	serving, ctx := errgroup.WithContext(ctx)
	serving.Go(func() error { return server.Serve(ctx) })
	p.onClose(func(context.Context) error {
		stop()
		return serving.Wait()
	})

	e, err := p.openEnv(ctx, cfg, observed, observed)
	if err != nil {
		return err
	}
	p.showProgress(false)
	inbox := e.mirror.Inbox(mirror.InboxPoll)
	version, _ := builtFrom()
	page := web.NewPage(web.PageOptions{
		Store:         e.db,
		Organizations: pageOrganizations(cfg),
		Schedules:     schedules,
		MaxLag:        cfg.HTTP.MaxLag,
		Walk:          p.screen.Walk,
		Version:       version,
		Log:           p.log,
	})
	p.onClose(func(context.Context) error {
		page.Close()
		return nil
	})
	observed.WatchDatabase(e.db, configured(cfg))
	server.Mount(web.Handlers{
		Page:     page,
		Webhooks: web.NewWebhooks(web.WebhookOptions{Secrets: webhookSecrets(cfg), Inbox: inbox, Observe: observed.WebhookReceived, Log: p.log}),
		Metrics:  observed.Handler(),
		Health:   web.NewHealth(e.db, configured(cfg), cfg.HTTP.MaxLag, p.log),
	})
	if e.demo != nil {
		if err := p.beginDemo(e, server); err != nil {
			return err
		}
	} else if e.psql != "" {
		p.log.Info("embedded database ready", zap.String("open_with", e.psql))
	}
	p.log.Info("serving",
		zap.Int("organizations", len(cfg.Organizations)),
		zap.String("incremental", string(cfg.Schedule.Incremental)),
		zap.String("full", string(cfg.Schedule.Full)),
		zap.Stringer("timezone", cfg.Schedule.Location))
	return untilStopped(ctx, func() error {
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return e.mirror.Serve(ctx, schedules) })
		group.Go(func() error { return inbox.Serve(ctx) })
		if !cfg.HeartbeatURL.IsZero() {
			pulse := p.newPulse(cfg, e.db, observed.Beat)
			group.Go(func() error { return pulse.Run(ctx) })
		}
		return group.Wait()
	})
}

// schedulesOf are those of a configuration that was loaded, so they are right.
func schedulesOf(s config.Schedule) mirror.Schedules {
	incremental, _ := s.Incremental.In(s.Location)
	full, _ := s.Full.In(s.Location)
	return mirror.Schedules{Incremental: incremental, Full: full, RunOnStart: s.RunOnStart}
}

func newMetrics(cfg *config.Config, log *zap.Logger) *metrics.Metrics {
	version, commit := builtFrom()
	return metrics.New(metrics.Options{
		Version:       version,
		Commit:        commit,
		Organizations: cfg.Names(),
		MaxLag:        cfg.HTTP.MaxLag,
		Log:           log,
	})
}

// listen takes the configured addresses. The demo is content with any.
func (p *program) listen(ctx context.Context, c config.HTTP, observe func(string, int, time.Duration)) (*web.Server, error) {
	opts := web.Options{HTTP: c, Observe: observe, Log: p.log}
	server, err := web.Listen(ctx, opts)
	if taken, ok := errors.AsType[*web.ListenError](err); ok && taken.InUse() && p.flags.demo {
		opts.HTTP.Listen = "127.0.0.1:0"
		server, err = web.Listen(ctx, opts)
	}
	if err != nil {
		return nil, err
	}
	if url := server.URL(); url != "" {
		p.log.Info("listening", zap.String("url", url), zap.Bool("protected", c.Protected()))
	}
	if url := server.WebhookURL(); url != "" {
		p.log.Info("listening for webhooks", zap.String("url", url))
	}
	return server, nil
}

func pageOrganizations(cfg *config.Config) (list []web.PageOrganization) {
	for _, o := range cfg.Organizations {
		list = append(list, web.PageOrganization{
			Name:              o.Name,
			ID:                o.ID,
			Token:             tokenSum(o),
			RequestsPerMinute: cfg.Polar.RequestsPerMinute,
		})
	}
	return list
}

// webhookSecrets are those of the organizations that have one.
func webhookSecrets(cfg *config.Config) map[string]func() (secret.Secret, error) {
	secrets := map[string]func() (secret.Secret, error){}
	for _, o := range cfg.Organizations {
		if !o.WebhookSecret.IsZero() {
			secrets[o.Name] = o.WebhookSecret.Read
		}
	}
	return secrets
}

// configured are the configured organizations, as the store knows them.
func configured(cfg *config.Config) []store.Organization {
	var list []store.Organization
	for _, o := range cfg.Organizations {
		list = append(list, store.Organization{Name: o.Name, ID: o.ID})
	}
	return list
}

// newPulse makes the heartbeat, which is about all organizations: another process may be
// mirroring those that are left out here.
func (p *program) newPulse(cfg *config.Config, db *store.Store, sent func(ok bool)) *heartbeat.Pulse {
	return heartbeat.New(heartbeat.Options{
		URL:       cfg.HeartbeatURL,
		UserAgent: userAgent(),
		Status: func(ctx context.Context) ([]store.OrgStatus, error) {
			return db.OrgStatus(ctx, store.OrgStatusQuery{Organizations: p.all})
		},
		Sent: sent,
		Log:  p.log,
	})
}

// openProfiles serves Go's profiles if the command line asks for them.
func (p *program) openProfiles(ctx context.Context) error {
	if p.flags.pprof == "" {
		return nil
	}
	url, serve, err := web.ListenProfiles(ctx, p.flags.pprof, p.log)
	if err != nil {
		return err
	}
	p.background(serve)
	p.log.Info("profiles", zap.String("url", url))
	return nil
}

// beginDemo says what runs, and lets things happen at the simulated Polar, which
// sends webhooks from now on.
func (p *program) beginDemo(e *env, server *web.Server) error {
	if err := p.print(e.introduction(server.URL())); err != nil {
		return err
	}
	sending := e.demo.sendWebhooks(e.cfg, cmp.Or(server.WebhookURL(), server.URL()))
	p.onClose(func(context.Context) error {
		sending.Close()
		return nil
	})
	p.background(func(ctx context.Context) error {
		return every(ctx, demoStep, func() { e.demo.Advance(time.Now()) })
	})
	return nil
}
