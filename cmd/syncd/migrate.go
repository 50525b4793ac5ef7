package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"polarmirror/internal/console"
	"polarmirror/internal/store"
)

func (p *program) migrateCommand() *cobra.Command {
	up := &cobra.Command{
		Use:     "up",
		Short:   "Bring the schema up to date",
		Long:    "Applies the migrations that are missing. The service and --backfill do so themselves at start.",
		Example: "  syncd migrate up",
		Args:    noArguments,
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.migrateUp(cmd.Context()) },
	}
	status := &cobra.Command{
		Use:     "status",
		Short:   "List the migrations and which of them are applied",
		Example: "  syncd migrate status",
		Args:    noArguments,
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.migrateStatus(cmd.Context()) },
	}
	return group(&cobra.Command{
		Use:     "migrate",
		Short:   "Migrate the database's schema polar, and nothing else",
		Example: "  syncd migrate status\n  syncd migrate up",
	}, up, status)
}

func (p *program) migrateUp(ctx context.Context) error {
	db, err := p.openForMigration(ctx)
	if err != nil {
		return err
	}
	if err := db.Ready(ctx); err != nil {
		return &databaseError{err}
	}
	applied, err := db.Migrate(ctx)
	if err != nil {
		return &databaseError{err}
	}
	if applied == 0 {
		_, err = fmt.Fprintln(p.stdout, "The schema is up to date: nothing to apply.")
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "Applied %d migrations: the schema is up to date.\n", applied)
	return err
}

func (p *program) migrateStatus(ctx context.Context) error {
	db, err := p.openForMigration(ctx)
	if err != nil {
		return err
	}
	if err := obsolete(ctx, db); err != nil {
		return err
	}
	list, err := db.Migrations(ctx)
	if err != nil {
		return &databaseError{err}
	}
	table := console.Table{Columns: []string{"version", "migration", "applied"}, Right: []string{"version"}}
	pending := 0
	for _, m := range list {
		applied := "pending"
		if m.Applied {
			applied = m.AppliedAt.UTC().Format("2006-01-02 15:04:05Z")
		} else {
			pending++
		}
		table.Rows = append(table.Rows, []string{strconv.FormatInt(m.Version, 10), m.Name, applied})
	}
	if err := table.Print(p.stdout); err != nil {
		return err
	}
	if pending > 0 {
		_, err = fmt.Fprintf(p.stdout, "%d pending: run syncd migrate up.\n", pending)
	}
	return err
}

// obsolete returns an error if the schema is from before the first release: nothing
// that it says of itself is true of this syncd's.
func obsolete(ctx context.Context, db *database) error {
	var schema *store.SchemaError
	if err := db.Ready(ctx); errors.As(err, &schema) && schema.Obsolete {
		return &databaseError{err}
	}
	return nil
}

func (p *program) openForMigration(ctx context.Context) (*database, error) {
	cfg, err := p.loadConfig()
	if err != nil {
		return nil, err
	}
	p.openLog(cfg.Log, true)
	return p.openDatabase(ctx, cfg)
}
