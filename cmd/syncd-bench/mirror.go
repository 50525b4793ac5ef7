package main

import (
	"context"
	"fmt"
)

// mirror measures syncd's phases, and COPY of what its first load left.
func (s *sizing) mirror(ctx context.Context) error {
	var m *syncd
	defer func() {
		if m != nil {
			_ = m.db.drop(context.WithoutCancel(ctx)) // the whole server goes, at the end
		}
	}()
	err := s.repeated(ctx, phaseFirst, "first load", func(ctx context.Context) (sample, error) {
		if m != nil {
			if err := m.db.drop(ctx); err != nil {
				return sample{}, err
			}
		}
		var err error
		if m, err = s.migrated(ctx, "syncd"); err != nil {
			return sample{}, err
		}
		return s.full(ctx, m)
	})
	if err != nil {
		return err
	}
	if s.opts.wants(baseCopy) {
		if err := m.db.vacuum(ctx); err != nil { // or autovacuum would do it meanwhile
			return err
		}
		if err := s.copies(ctx, m.db); err != nil {
			return err
		}
	}
	return s.again(ctx, m)
}

// again measures the phases of a mirror that is complete.
func (s *sizing) again(ctx context.Context, m *syncd) error {
	vacuumed := func(ctx context.Context) (sample, error) {
		if err := m.db.vacuum(ctx); err != nil {
			return sample{}, err
		}
		return s.full(ctx, m)
	}
	// The tick comes before anything changes, since it looks two minutes back.
	phases := []struct {
		name, title string
		once        func(context.Context) (sample, error)
	}{
		{phaseUnchanged, "unchanged", vacuumed},
		{phaseTick, "idle tick", func(ctx context.Context) (sample, error) { return s.tick(ctx, m) }},
		{phaseChanged, "1 % changed", func(ctx context.Context) (sample, error) { return s.changed(ctx, vacuumed) }},
	}
	for _, p := range phases {
		if !s.opts.wants(p.name) {
			continue
		}
		if err := s.repeated(ctx, p.name, p.title, p.once); err != nil {
			return err
		}
	}
	return nil
}

// changed lets 1 % of the rows change and measures the full run that finds them.
func (s *sizing) changed(ctx context.Context, full func(context.Context) (sample, error)) (sample, error) {
	n := s.Rows / 100
	if _, err := s.polar.do(ctx, "change %d", n); err != nil {
		return sample{}, err
	}
	taken, err := full(ctx)
	if err == nil && taken.updated != int64(n) {
		err = fmt.Errorf("%w: %d rows changed, %d were updated", errNotMirrored, n, taken.updated)
	}
	return taken, err
}

// migrated makes a database with syncd's schema.
func (s *sizing) migrated(ctx context.Context, purpose string) (*syncd, error) {
	db, err := s.postgres.create(ctx, purpose)
	if err != nil {
		return nil, err
	}
	m, err := s.configure(s.polar, db, syncdSetting{incremental: "@every 1s"})
	if err != nil {
		return nil, err
	}
	if err := m.migrate(ctx); err != nil {
		return nil, err
	}
	return m, db.vacuumCatalog(ctx)
}

func (s *sizing) full(ctx context.Context, m *syncd, args ...string) (sample, error) {
	taken, err := m.backfill(ctx, s.Rows, args...)
	if err != nil {
		return taken, err
	}
	taken.versions, err = m.db.newVersions(ctx, taken.before)
	return taken, err
}

func (s *sizing) tick(ctx context.Context, m *syncd) (sample, error) {
	if err := m.db.vacuum(ctx); err != nil {
		return sample{}, err
	}
	taken, err := m.idleTicks(ctx)
	if err != nil {
		return taken, err
	}
	taken.versions, err = m.db.newVersions(ctx, taken.before)
	return taken, err
}

// copies measures COPY of what a mirror holds into other databases of the same
// schema.
func (s *sizing) copies(ctx context.Context, from *database) error {
	files, err := from.dump(ctx, s.dir)
	defer remove(files)
	if err != nil {
		return err
	}
	return s.repeated(ctx, baseCopy, "COPY of the same rows", func(ctx context.Context) (sample, error) {
		into, err := s.migrated(ctx, "copy")
		if err != nil {
			return sample{}, err
		}
		taken, err := s.baseline(ctx, into.db, s.Rows, workerSpec{Kind: baseCopy, URL: into.db.url, Files: files})
		if err != nil {
			return taken, err
		}
		return taken, into.db.drop(ctx)
	})
}
