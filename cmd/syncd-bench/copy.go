package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

// A copyFile is the rows of one table in Postgres's binary COPY format.
type copyFile struct {
	Table   string // quoted as SQL needs it
	Columns string // likewise, with commas
	Path    string
}

// dump writes syncd's data tables to files in dir, in the order in which their
// foreign keys allow loading them.
func (d *database) dump(ctx context.Context, dir string) ([]copyFile, error) {
	conn, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	var files []copyFile
	for _, table := range []string{"organizations", "customers", "meters", "customer_meters", "customer_meter_history"} {
		f := copyFile{Table: pgx.Identifier{"polar", table}.Sanitize(), Path: filepath.Join(dir, d.name+"."+table)}
		// Whatever the migrations give a table, except what Postgres fills in itself.
		const columns = `
SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum)
  FROM pg_attribute
 WHERE attrelid = $1::text::regclass
   AND attnum > 0
   AND NOT attisdropped
   AND attgenerated = ''`
		if err := conn.QueryRow(ctx, columns, f.Table).Scan(&f.Columns); err != nil {
			return nil, fmt.Errorf("list columns of %s: %w", f.Table, err)
		}
		if err := copyOut(ctx, conn, f); err != nil {
			return nil, fmt.Errorf("dump %s: %w", f.Table, err)
		}
		files = append(files, f)
	}
	return files, nil
}

func copyOut(ctx context.Context, conn *pgx.Conn, f copyFile) error {
	file, err := os.Create(f.Path)
	if err != nil {
		return err
	}
	sql := fmt.Sprintf("COPY (SELECT %s FROM %s) TO STDOUT (FORMAT binary)", f.Columns, f.Table)
	_, err = conn.PgConn().CopyTo(ctx, file, sql)
	return errors.Join(err, file.Close())
}

// copyIn loads the files into a migrated database, one plain COPY a table on one
// connection, with every key and index in place: no mirror that stores these
// rows can be faster.
func copyIn(ctx context.Context, spec workerSpec) (workerResult, error) {
	conn, err := pgx.Connect(ctx, spec.URL)
	if err != nil {
		return workerResult{}, err
	}
	defer conn.Close(ctx)
	var result workerResult
	for _, f := range spec.Files {
		n, err := copyFrom(ctx, conn, f)
		if err != nil {
			return result, fmt.Errorf("%s: %w", f.Table, err)
		}
		if f.Table == (pgx.Identifier{"polar", "customer_meters"}).Sanitize() {
			result.Rows = int(n)
		}
	}
	return result, nil
}

func copyFrom(ctx context.Context, conn *pgx.Conn, f copyFile) (int64, error) {
	file, err := os.Open(f.Path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	tag, err := conn.PgConn().CopyFrom(ctx, file, fmt.Sprintf("COPY %s (%s) FROM STDIN (FORMAT binary)", f.Table, f.Columns))
	return tag.RowsAffected(), err
}

func remove(files []copyFile) {
	for _, f := range files {
		_ = os.Remove(f.Path) // the folder goes too, at the end
	}
}
