package main

import (
	"context"
	"encoding/json"
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

// workerEnv makes a process of this program a baseline's: it holds the job as
// JSON. Arguments would be visible to everybody on the machine.
const workerEnv = "SYNCD_BENCH_WORKER"

// A job is what a baseline does.
type job struct {
	Kind                       string // download, copy or script
	Polar, Token, Organization string
	Rows                       int
	Database                   string
	Files                      string // folder of a dump
}

// work is the process of a baseline. It writes how many rows it handled.
func work(ctx context.Context, text string, stdout io.Writer) error {
	var j job
	err := json.Unmarshal([]byte(text), &j)
	if err != nil {
		return fmt.Errorf("read %s: %w", workerEnv, err)
	}
	var rows int
	switch j.Kind {
	case "download":
		rows, err = j.download(ctx)
	case "copy":
		rows, err = j.copyIn(ctx)
	case "script":
		rows, err = j.plainScript(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", j.Kind, err)
	}
	_, err = fmt.Fprintln(stdout, rows)
	return err
}

// getPage asks for the page of that number. The caller closes it.
func (j *job) getPage(ctx context.Context, client *http.Client, number int) (io.ReadCloser, error) {
	return getPage(ctx, client, j.Polar, j.Token, url.Values{
		"organization_id": {j.Organization},
		"page":            {strconv.Itoa(number)},
		"limit":           {strconv.Itoa(pageSize)},
		"sorting":         strings.Split(oldestFirst, ","),
	})
}

func getPage(ctx context.Context, client *http.Client, polar, token string, query url.Values) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, polar+listPath+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		res.Body.Close()
		return nil, fmt.Errorf("page %s: %s", query.Get("page"), res.Status)
	}
	return res.Body, nil
}

// download reads every page over as many connections as syncd has, and throws it
// away: no mirror can be faster.
func (j *job) download(ctx context.Context) (int, error) {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(connections)
	for number := 1; (number-1)*pageSize < j.Rows; number++ {
		group.Go(func() error {
			body, err := j.getPage(ctx, client, number)
			if err != nil {
				return err
			}
			defer body.Close()
			_, err = io.Copy(io.Discard, body)
			return err
		})
	}
	return j.Rows, group.Wait()
}

// copyIn loads a dump into a migrated database, one plain COPY a table on one
// connection, with every key and index in place: no mirror that stores these
// rows can be faster.
func (j *job) copyIn(ctx context.Context) (rows int, err error) {
	conn, err := pgx.Connect(ctx, j.Database)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	for _, table := range copiedTables() {
		file, err := os.Open(filepath.Join(j.Files, table))
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
