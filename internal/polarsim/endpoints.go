package polarsim

import (
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const (
	listPath       = "/v1/customer-meters/" // the trailing slash is part of it
	versionHeader  = "Polar-Version"
	currentVersion = "2026-10" // of a request that names none
	bytesPerRow    = 1600      // about what a row takes; for sizing buffers
)

// versions are those that Polar has until one is removed, equal for the calls
// simulated here: the deprecated one, the current one and the next.
func versions() []string { return []string{"2026-04", currentVersion, "2027-01"} }

// RemoveVersion makes the server answer 404 to every request of a version of the
// API, as it does to those of versions that it never had. Without the header a
// request is one of the current version.
func (s *Server) RemoveVersion(version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions = slices.DeleteFunc(s.versions, func(v string) bool { return v == version })
}

func (s *Server) hasVersion(version string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.versions, version)
}

// answer routes, admits and serves a request.
func (s *Server) answer(r *http.Request, n int, f Fault) *answer {
	version := r.Header.Get(versionHeader)
	if version == "" {
		version = currentVersion
	}
	if !s.hasVersion(version) {
		return jsonAnswer(http.StatusNotFound, `{"detail":"Not Found"}`)
	}
	a := s.route(r, n, f)
	a.header.Set(versionHeader, version)
	return a
}

func (s *Server) route(r *http.Request, n int, f Fault) *answer {
	rest, below := strings.CutPrefix(r.URL.Path, listPath)
	switch {
	case r.URL.Path+"/" == listPath:
		return redirect(r, listPath)
	case !below || strings.Contains(strings.TrimSuffix(rest, "/"), "/"):
		return jsonAnswer(http.StatusNotFound, `{"detail":"Not Found"}`)
	case strings.HasSuffix(rest, "/"):
		return redirect(r, strings.TrimSuffix(r.URL.Path, "/"))
	case r.Method != http.MethodGet:
		a := jsonAnswer(http.StatusMethodNotAllowed, `{"detail":"Method Not Allowed"}`)
		a.header.Set("Allow", http.MethodGet)
		return a
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	account, refusal := s.admit(r)
	if refusal != nil {
		return refusal
	}
	seen := *account
	if f == LostOrganization {
		seen.Organizations = nil
	}
	var a *answer
	if rest == "" {
		a = s.list(&seen, r, n, f)
	} else {
		a = s.get(&seen, rest)
	}
	a.to = account
	return a
}

// redirect sends the client to another path of the host it asked.
func redirect(r *http.Request, path string) *answer {
	target := *r.URL
	target.Path = path
	target.Host = r.Host
	if target.Scheme == "" {
		target.Scheme = "http"
	}
	a := newAnswer(http.StatusTemporaryRedirect, "", nil)
	a.header.Set("Location", target.String())
	return a
}

func (s *Server) get(account *account, text string) *answer {
	id, found := parseID(text, "path", "id")
	if found != nil {
		return invalid([]problem{*found})
	}
	s.cost.Gets++
	r := s.rows[id]
	if r == nil || !slices.Contains(account.Organizations, r.meter.org.ID) {
		return jsonAnswer(http.StatusNotFound, `{"error":"ResourceNotFound","detail":"Not found"}`)
	}
	return newAnswer(http.StatusOK, "application/json", appendRow(make([]byte, 0, bytesPerRow), r))
}

// list serves one page: the count and the rows of one moment, unless something
// happens between the two, see [Server.AfterCount].
func (s *Server) list(account *account, r *http.Request, n int, f Fault) *answer {
	q, problems := parseQuery(r.URL.Query())
	if len(problems) > 0 {
		return invalid(problems)
	}
	q.filter.organizations = s.visible(account, q.organizations)
	if len(q.filter.organizations) == 0 || f == EmptyPages {
		s.chargeList(0, 0)
		return page(nil, 0, q.limit)
	}
	v := s.view(q.filter, q.sorting)
	count := v.ordered.size
	if s.afterCount(n, r, count) {
		v = s.view(q.filter, q.sorting)
	}
	offset := v.ordered.size
	if q.page-1 <= (math.MaxInt-maxLimit)/q.limit {
		offset = min(offset, (q.page-1)*q.limit)
	}
	var key uint64
	if !s.options.StableTies {
		key = s.ties.Uint64() | 1
	}
	rows := v.ordered.page(offset, offset+q.limit, v.ties, key)
	a := page(disorder(rows, f), count, q.limit)
	a.depth = offset + len(rows)
	a.took = s.chargeList(count, offset)
	return a
}

func page(rows []*row, count, limit int) *answer {
	b := make([]byte, 0, 128+len(rows)*bytesPerRow)
	b = append(b, `{"items":[`...)
	for i, r := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendRow(b, r)
	}
	b = append(b, `],"pagination":{"total_count":`...)
	b = strconv.AppendInt(b, int64(count), 10)
	b = append(b, `,"max_page":`...)
	b = strconv.AppendInt(b, int64((count+limit-1)/limit), 10)
	b = append(b, "}}"...)
	return newAnswer(http.StatusOK, "application/json", b)
}
