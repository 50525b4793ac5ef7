package main

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	listPath       = "/v1/customer-meters/"
	versionHeader  = "Polar-Version"
	currentVersion = "2026-10"
	maxLimit       = 100
)

// A shelfHandler serves a shelf. What it does not have at hand (other orders,
// filters, single rows, wrong tokens and parameters) the simulation answers.
type shelfHandler struct {
	shelf    *shelf
	requests atomic.Int64
	buffers  sync.Pool // of *[]byte
}

// ServeHTTP answers one request.
func (h *shelfHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.requests.Add(1)
	order, page, limit, ok := h.plain(r)
	if !ok {
		h.shelf.sim.ServeHTTP(w, r)
		return
	}
	buffer, _ := h.buffers.Get().(*[]byte)
	if buffer == nil {
		buffer = new([]byte)
	}
	defer h.buffers.Put(buffer)
	body, known := h.shelf.appendPage((*buffer)[:0], order, page, limit)
	*buffer = body
	if !known {
		h.shelf.sim.ServeHTTP(w, r)
		return
	}
	version := r.Header.Get(versionHeader)
	if version == "" {
		version = currentVersion
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set(versionHeader, version)
	_, _ = w.Write(body) // an error means that the client left
}

// plain reads a request for a page of the whole organization, and reports false
// for any other.
func (h *shelfHandler) plain(r *http.Request) (order string, page, limit int, ok bool) {
	version := r.Header.Get(versionHeader)
	if r.Method != http.MethodGet || r.URL.Path != listPath ||
		r.Header.Get("Authorization") != "Bearer "+h.shelf.org.Token ||
		version != "" && version != currentVersion {
		return "", 0, 0, false
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", 0, 0, false
	}
	page, limit = 1, 10
	for name, values := range query {
		switch name {
		case "organization_id":
			ok = len(values) == 1 && values[0] == h.shelf.org.ID.String()
		case "page":
			page, ok = positive(values)
		case "limit":
			limit, ok = positive(values)
			limit = min(limit, maxLimit)
		case "sorting":
			order, ok = strings.Join(values, ","), true
		default:
			ok = false
		}
		if !ok {
			return "", 0, 0, false
		}
	}
	return order, page, limit, true
}

func positive(values []string) (int, bool) {
	if len(values) != 1 {
		return 0, false
	}
	n, err := strconv.Atoi(values[0])
	return n, err == nil && n > 0
}
