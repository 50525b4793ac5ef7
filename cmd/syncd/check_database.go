package main

import (
	"context"
	"errors"

	"polarmirror/internal/config"
	"polarmirror/internal/localpg"
	"polarmirror/internal/store"
)

// checkDatabase looks at the database. What it writes it takes back.
func (p *program) checkDatabase(ctx context.Context, d *doctor) {
	if embeddedMissing(d.cfg) {
		d.checkPostgres(ctx)
		return
	}
	db, err := p.openDatabase(ctx, d.cfg)
	if err != nil {
		d.bad(exitDatabase, "%v", err)
		return
	}
	in, err := db.Inspect(ctx)
	if err != nil {
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
	d.good("database: a connection keeps its session, and its locks exclude") // or it could not have been opened
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
		d.doubt("database: %d migrations are pending: the next start of syncd applies them, or syncd migrate up", in.Pending)
	}
}
