package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const pageSize = 100

// newHTTPClient keeps as many connections as there are requests in flight.
func newHTTPClient(width int) *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		MaxIdleConnsPerHost: width,
		MaxConnsPerHost:     width,
	}}
}

// pageRequest asks for one page in the order of the walk.
func pageRequest(ctx context.Context, p polarInfo, page int) (*http.Request, error) {
	query := url.Values{
		"organization_id": {p.Organization.String()},
		"page":            {strconv.Itoa(page)},
		"limit":           {strconv.Itoa(pageSize)},
		"sorting":         strings.Split(oldestFirst, ","),
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+listPath+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+p.Token)
	return r, nil
}

// getPage sends the request and hands the body to read.
func getPage(ctx context.Context, client *http.Client, p polarInfo, page int, read func(io.Reader) error) error {
	r, err := pageRequest(ctx, p, page)
	if err != nil {
		return err
	}
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("page %d: %s", page, res.Status)
	}
	if err := read(res.Body); err != nil {
		return fmt.Errorf("page %d: %w", page, err)
	}
	return nil
}

// download reads every page over as many connections as syncd has, and throws
// it away: no mirror can be faster.
func download(ctx context.Context, spec workerSpec) (workerResult, error) {
	client := newHTTPClient(connections)
	pages := int64(spec.Polar.Rows+pageSize-1) / pageSize
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range connections {
		group.Go(func() error {
			for page := next.Add(1); page <= pages; page = next.Add(1) {
				err := getPage(ctx, client, spec.Polar, int(page), func(body io.Reader) error {
					_, err := io.Copy(io.Discard, body)
					return err
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return workerResult{}, err
	}
	return workerResult{Rows: spec.Polar.Rows, Requests: pages}, nil
}
