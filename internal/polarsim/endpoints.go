package polarsim

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	listPath       = "/v1/customer-meters/" // the trailing slash is part of it
	versionHeader  = "Polar-Version"
	currentVersion = "2026-10" // of a request that names none
)

// RemoveVersion makes the server answer 404 to every request of a version of the
// API, as it does to those of versions that it never had. Without the header a
// request is one of the current version.
func (s *Server) RemoveVersion(version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions = slices.DeleteFunc(s.versions, func(v string) bool { return v == version })
}

// answer routes, admits and serves a request, and logs what that cost.
func (s *Server) answer(line *Request, r *http.Request, f Fault) *answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	version := cmp.Or(r.Header.Get(versionHeader), currentVersion)
	if !slices.Contains(s.versions, version) {
		return jsonAnswer(http.StatusNotFound, `{"detail":"Not Found"}`)
	}
	a := s.route(r, f)
	line.Cost = a.cost
	a.Header.Set(versionHeader, version)
	return a
}

func (s *Server) route(r *http.Request, f Fault) *answer {
	id, below := strings.CutPrefix(r.URL.Path, listPath)
	if !below || strings.Contains(id, "/") || r.Method != http.MethodGet {
		return jsonAnswer(http.StatusNotFound, `{"detail":"Not Found"}`)
	}
	account, refusal := s.admit(r)
	if refusal != nil {
		return refusal
	}
	seen := *account
	if f == LostOrganization {
		seen.Organizations = nil
	}
	var a *answer
	if id == "" {
		a = s.list(&seen, r, f)
	} else {
		a = s.get(&seen, id)
	}
	a.to = account
	return a
}

func (s *Server) get(account *account, text string) *answer {
	var p parser
	id := p.id(text, "path", "id")
	if len(p.problems) > 0 {
		return p.invalid()
	}
	a := jsonAnswer(http.StatusNotFound, `{"error":"ResourceNotFound","detail":"Not found"}`)
	if r := s.rows[id]; r != nil && slices.Contains(account.Organizations, r.meter.org.ID) {
		a = jsonAnswer(http.StatusOK, r.load().json)
	}
	a.cost.Gets = 1
	return a
}

// list serves one page. The count and the page are two statements, the page's
// as much later as the count takes; of what really passes of that time,
// [Options].CostScale decides, and without any they show one moment.
func (s *Server) list(account *account, r *http.Request, f Fault) *answer {
	q, invalid := parseQuery(r.URL.Query())
	if invalid != nil {
		return invalid
	}
	for _, o := range s.organizations { // one that the token cannot see is no error: it is not there
		if slices.Contains(account.Organizations, o.ID) && (len(q.organizations) == 0 || slices.Contains(q.organizations, o.ID)) {
			q.filter.organizations = append(q.filter.organizations, o)
		}
	}
	if len(q.filter.organizations) == 0 || f == EmptyPages {
		return page(nil, 0, 0, q.limit)
	}
	v := s.view(q.filter, q.sorting)
	count := len(v.rows)
	if wait := s.scaled(time.Duration(count) * CountedRowCost); wait > 0 {
		s.mu.Unlock()
		_ = sleep(r, wait) // should the client have left, the page finds out
		s.mu.Lock()
		v = s.view(q.filter, q.sorting)
	}
	offset := min(len(v.rows), (q.page-1)*q.limit)
	rows := v.page(offset, q.limit, s.ties)
	disorder(rows, f)
	return page(rows, offset, count, q.limit)
}

// page answers with the rows from an offset of a list of count.
func page(rows []*row, offset, count, limit int) *answer {
	b := buffers.Get().(*bytes.Buffer)
	b.Reset()
	b.WriteString(`{"items":[`)
	for i, r := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(r.load().json)
	}
	fmt.Fprintf(b, `],"pagination":{"total_count":%d,"max_page":%d}}`, count, (count+limit-1)/limit)
	a := jsonAnswer(http.StatusOK, "")
	a.Body, a.ContentLength = &pageBody{*bytes.NewReader(b.Bytes()), b}, int64(b.Len())
	a.took = ListCost + time.Duration(offset)*SkippedRowCost
	a.cost = Cost{Lists: 1, SkippedRows: int64(offset), Statements: a.took + time.Duration(count)*CountedRowCost}
	return a
}

// buffers are of pages, whose bytes are used again: fresh memory takes longer than
// all the rest of a page.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// A pageBody gives its buffer back when it is closed, and is empty from then on.
type pageBody struct {
	bytes.Reader
	buffer *bytes.Buffer
}

func (p *pageBody) Close() error {
	if p.buffer != nil {
		buffers.Put(p.buffer)
	}
	*p = pageBody{}
	return nil
}
