package main

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
)

const (
	listPath       = "/v1/customer-meters/"
	versionHeader  = "Polar-Version"
	currentVersion = "2026-10"
	maxLimit       = 100
)

// A shelfHandler serves a shelf. What it does not have at hand (other orders and
// filters, single rows, wrong tokens and parameters) the simulation answers.
type shelfHandler struct {
	shelf    *shelf
	requests atomic.Int64
	buffers  sync.Pool // of *[]byte
}

// ServeHTTP answers one request.
func (h *shelfHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.requests.Add(1)
	sel, ok := h.selection(r)
	if !ok {
		h.shelf.sim.ServeHTTP(w, r)
		return
	}
	buffer, _ := h.buffers.Get().(*[]byte)
	if buffer == nil {
		buffer = new([]byte)
	}
	defer h.buffers.Put(buffer)
	body, known := h.shelf.appendPage((*buffer)[:0], sel)
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

// selection reads a request for a page of everything, of customers or of meters,
// and reports false for any other.
func (h *shelfHandler) selection(r *http.Request) (sel selection, ok bool) {
	version := r.Header.Get(versionHeader)
	if r.Method != http.MethodGet || r.URL.Path != listPath ||
		r.Header.Get("Authorization") != "Bearer "+h.shelf.org.Token ||
		version != "" && version != currentVersion {
		return sel, false
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return sel, false
	}
	sel.page, sel.limit = 1, 10
	for name, values := range query {
		switch name {
		case "organization_id":
			ok = len(values) == 1 && values[0] == h.shelf.org.ID.String()
		case "customer_id", "meter_id":
			ok = len(sel.ids) == 0 // both together are beyond the shelf
			sel.of = h.shelf.ofCustomer
			if name == "meter_id" {
				sel.of = h.shelf.ofMeter
			}
			for _, value := range values {
				id, err := uuid.Parse(value)
				ok = ok && err == nil && sel.of[id] != nil
				sel.ids = append(sel.ids, id)
			}
		case "page":
			sel.page, ok = positive(values)
		case "limit":
			sel.limit, ok = positive(values)
			sel.limit = min(sel.limit, maxLimit)
		case "sorting":
			sel.order, ok = strings.Join(values, ","), true
		default:
			ok = false
		}
		if !ok {
			return sel, false
		}
	}
	return sel, true
}

func positive(values []string) (int, bool) {
	if len(values) != 1 {
		return 0, false
	}
	n, err := strconv.Atoi(values[0])
	return n, err == nil && n > 0
}
