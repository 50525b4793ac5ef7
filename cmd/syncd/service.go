package main

import (
	"cmp"
	"context"
	"fmt"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"polarmirror/internal/config"
	"polarmirror/internal/mirror"
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
	cfg, err := p.loadConfig()
	if err != nil {
		return err
	}
	p.openLog(cfg.Log, false)
	defer p.announceStop(ctx)()
	p.warn(cfg)
	if err := p.openProfiles(ctx); err != nil {
		return err
	}
	if p.observability, err = p.openObservability(ctx, cfg); err != nil {
		return err
	}
	defer p.observability.close()
	env, err := p.openEnv(ctx, cfg)
	if err != nil {
		return err
	}
	schedules, err := schedulesOf(cfg.Schedule)
	if err != nil {
		return err
	}
	m, err := p.newMirror(env.cfg, env.db, env.source, progresses{p.newProgress(false), p.observability.walks})
	if err != nil {
		return err
	}
	inbox := m.Inbox(mirror.InboxOptions{Observe: p.observability.webhookProcessed})
	if err := p.observability.mount(ctx, p, env, schedules, p.webhooks(env.cfg, inbox)); err != nil {
		return err
	}
	if err := env.begin(p); err != nil {
		return err
	}
	p.log.Info("serving",
		zap.Int("organizations", len(env.cfg.Organizations)),
		zap.String("incremental", string(cfg.Schedule.Incremental)),
		zap.String("full", string(cfg.Schedule.Full)),
		zap.Stringer("timezone", cfg.Schedule.Location))
	return untilStopped(ctx, func() error {
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return m.Serve(ctx, schedules) })
		group.Go(func() error { return inbox.Serve(ctx) })
		group.Go(func() error { return p.observability.watch(ctx) })
		return group.Wait()
	})
}

// begin lets the demo live, if it is one, and says how to look at the database.
func (e *env) begin(p *program) error {
	if e.demo == nil {
		if e.db.psql != "" {
			p.log.Info("embedded database ready", zap.String("open_with", e.db.psql))
		}
		return nil
	}
	server := p.observability.server
	if err := e.introduce(p.stdout, server.URL()); err != nil {
		return err
	}
	if err := e.demo.sendWebhooks(p, e.cfg, cmp.Or(server.WebhookURL(), server.URL())); err != nil {
		return err
	}
	e.demo.live(p)
	return nil
}

// warn logs what is allowed and probably not meant.
func (p *program) warn(cfg *config.Config) {
	for _, w := range cfg.Warnings() {
		p.log.Warn("configuration", zap.String("warning", w))
	}
	if p.flags.acceptDeletions && !p.flags.backfill {
		p.log.Warn("deletions are accepted whatever their number as long as this process runs; for one run use --backfill --accept-deletions")
	}
}

func schedulesOf(s config.Schedule) (mirror.Schedules, error) {
	incremental, err := s.Incremental.In(s.Location)
	if err != nil {
		return mirror.Schedules{}, fmt.Errorf("schedule.incremental: %w", err)
	}
	full, err := s.Full.In(s.Location)
	if err != nil {
		return mirror.Schedules{}, fmt.Errorf("schedule.full: %w", err)
	}
	return mirror.Schedules{Incremental: incremental, Full: full, RunOnStart: s.RunOnStart}, nil
}

// An env is what runs work with: the configuration, the database, and with --demo
// the simulated Polar.
type env struct {
	cfg    *config.Config
	db     *database
	demo   *demo  // nil without --demo
	source string // what is read; "" for what cfg says
}

func (p *program) openEnv(ctx context.Context, cfg *config.Config) (*env, error) {
	if p.flags.demo && p.terminal {
		fmt.Fprintf(p.screen, "Starting the embedded database in %s ...\n", cfg.Database.DataDir)
	}
	db, err := p.openMirrored(ctx, cfg)
	if err != nil {
		return nil, err
	}
	e := &env{cfg: cfg, db: db}
	if p.flags.demo {
		// After the database, which wants to find its folder empty.
		if e.demo, err = p.openDemo(cfg); err != nil {
			return nil, err
		}
		e.source = demoSource
		if err := e.demo.writePast(ctx, db, cfg.Organizations); err != nil {
			return nil, err
		}
	}
	return e, nil
}
