package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"polarmirror/internal/console"
	"polarmirror/internal/store"
)

func (p *program) migrateCommand() *cobra.Command {
	up := &cobra.Command{
		Use:     "up",
		Short:   "Bring the schema up to date",
		Long:    "Applies the migrations that are missing. The service, --backfill, verify, get and\nrefresh do so themselves when they start.",
		Example: "  syncd migrate up",
		Args:    cobra.NoArgs,
		RunE:    p.onDatabase(p.migrateUp),
	}
	status := &cobra.Command{
		Use:     "status",
		Short:   "List the migrations and which of them are applied",
		Example: "  syncd migrate status",
		Args:    cobra.NoArgs,
		RunE:    p.onDatabase(p.migrateStatus),
	}
	return group(&cobra.Command{
		Use:     "migrate",
		Short:   "Migrate the database's schema polar, and nothing else",
		Example: "  syncd migrate status\n  syncd migrate up",
	}, up, status)
}

// onDatabase makes a command of work on the database.
func (p *program) onDatabase(work func(context.Context, *store.Store) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		cfg, err := p.begin(cmd.Context(), true)
		if err != nil {
			return err
		}
		db, _, err := p.openDatabase(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		return work(cmd.Context(), db)
	}
}

func (p *program) migrateUp(ctx context.Context, db *store.Store) error {
	if err := db.Ready(ctx); err != nil {
		return &exitError{exitDatabase, err}
	}
	applied, err := db.Migrate(ctx)
	if err != nil {
		return &exitError{exitDatabase, err}
	}
	text := "The schema is up to date: nothing to apply."
	if applied > 0 {
		text = "Applied " + console.Plural(int64(applied), "migration", "migrations") + ": the schema is up to date."
	}
	return p.print(text + "\n")
}

func (p *program) migrateStatus(ctx context.Context, db *store.Store) error {
	if err := obsolete(ctx, db); err != nil {
		return err
	}
	list, err := db.Migrations(ctx)
	if err != nil {
		return &exitError{exitDatabase, err}
	}
	table := console.Table{Columns: []string{"version", "migration", "applied"}}
	pending := 0
	for _, m := range list {
		applied := "pending"
		if m.Applied {
			applied = m.AppliedAt.UTC().Format("2006-01-02 15:04:05Z")
		} else {
			pending++
		}
		table.Add(m.Version, m.Name, applied)
	}
	text := table.String()
	if pending > 0 {
		text += fmt.Sprintf("%d pending: run syncd migrate up.\n", pending)
	}
	return p.print(text)
}
