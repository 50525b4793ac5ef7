package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// The baselines are processes of this program, told what to do by their
// environment: arguments are visible to everybody on the machine.
const (
	workerEnv       = "SYNCD_BENCH_WORKER" // download, copy or script
	polarEnv        = "SYNCD_BENCH_POLAR"
	tokenEnv        = "SYNCD_BENCH_TOKEN"
	organizationEnv = "SYNCD_BENCH_ORGANIZATION"
	rowsEnv         = "SYNCD_BENCH_ROWS"
	databaseEnv     = "SYNCD_BENCH_DATABASE"
	filesEnv        = "SYNCD_BENCH_FILES" // folder of a dump
)

// work is the process of a baseline. It writes how many rows it handled.
func work(ctx context.Context, kind string, stdout io.Writer) error {
	var rows int
	var err error
	switch kind {
	case "download":
		rows, err = download(ctx)
	case "copy":
		rows, err = copyIn(ctx)
	case "script":
		rows, err = plainScript(ctx)
	default:
		err = errors.New("no such baseline")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	_, err = fmt.Fprintln(stdout, rows)
	return err
}

// getPage asks for a page. The caller closes it.
func getPage(ctx context.Context, client *http.Client, number int) (io.ReadCloser, error) {
	query := url.Values{
		"organization_id": {os.Getenv(organizationEnv)},
		"page":            {strconv.Itoa(number)},
		"limit":           {strconv.Itoa(pageSize)},
		"sorting":         strings.Split(oldestFirst, ","),
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, os.Getenv(polarEnv)+listPath+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+os.Getenv(tokenEnv))
	res, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		res.Body.Close()
		return nil, fmt.Errorf("page %d: %s", number, res.Status)
	}
	return res.Body, nil
}

// download reads every page over as many connections as syncd has, and throws it
// away: no mirror can be faster.
func download(ctx context.Context) (int, error) {
	rows, err := strconv.Atoi(os.Getenv(rowsEnv))
	if err != nil {
		return 0, err
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(connections)
	for number := 1; (number-1)*pageSize < rows; number++ {
		group.Go(func() error {
			body, err := getPage(ctx, client, number)
			if err != nil {
				return err
			}
			defer body.Close()
			_, err = io.Copy(io.Discard, body)
			return err
		})
	}
	return rows, group.Wait()
}

// copyIn loads a dump into a migrated database, one plain COPY a table on one
// connection, with every key and index in place: no mirror that stores these
// rows can be faster.
func copyIn(ctx context.Context) (rows int, err error) {
	conn, err := pgx.Connect(ctx, os.Getenv(databaseEnv))
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	for _, table := range copiedTables() {
		file, err := os.Open(filepath.Join(os.Getenv(filesEnv), table))
		if err != nil {
			return 0, err
		}
		tag, err := conn.PgConn().CopyFrom(ctx, file, "COPY polar."+table+" FROM STDIN (FORMAT binary)")
		if err = errors.Join(err, file.Close()); err != nil {
			return 0, fmt.Errorf("%s: %w", table, err)
		}
		if table == "customer_meters" {
			rows = int(tag.RowsAffected())
		}
	}
	return rows, nil
}
