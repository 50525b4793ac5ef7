package polarsim

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/google/uuid"
)

// A described client holds every exchange to the description.
type described struct {
	client *http.Client
	base   string
	token  string
	doc    *openapi3.T
}

// describe loads the description. Polar may add fields without notice, but the
// simulator has only those it is told to have, so that in a strict description
// a misspelt one is seen.
func describe(t testing.TB, s *Server, base string, client *http.Client, strict bool) *described {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		t.Fatalf("load openapi.yaml: %v", err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatalf("validate openapi.yaml: %v", err)
	}
	if strict {
		no := false
		for _, schema := range doc.Components.Schemas {
			if v := schema.Value; v.Properties != nil {
				v.AdditionalProperties = openapi3.BoolSchema{Has: &no}
			}
		}
	}
	return &described{client: client, base: base, token: s.Organizations()[0].Token, doc: doc}
}

// route finds what is described for a path. The library's own routers take a
// trailing slash for nothing, and here it is not.
func (d *described) route(t testing.TB, r *http.Request) (*routers.Route, map[string]string) {
	t.Helper()
	pattern, params := r.URL.Path, map[string]string{}
	if id, ok := strings.CutPrefix(r.URL.Path, listPath); ok && id != "" {
		pattern, params["id"] = listPath+"{id}", id
	}
	item := d.doc.Paths.Value(pattern)
	if item == nil || item.Get == nil {
		t.Fatalf("GET %s is not described", r.URL.Path)
	}
	return &routers.Route{Spec: d.doc, Path: pattern, PathItem: item, Method: http.MethodGet, Operation: item.Get}, params
}

// do sends a request and fails the test unless the answer is one described. A
// request that is meant to be wrong is held to the description only as far as
// finding its path goes.
func (d *described) do(t testing.TB, path string, header map[string]string, wrong bool) (int, []byte) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, d.base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+d.token)
	for k, v := range header {
		if v == "" {
			r.Header.Del(k)
			continue
		}
		r.Header.Set(k, v)
	}
	route, params := d.route(t, r)
	options := &openapi3filter.Options{
		AuthenticationFunc:    openapi3filter.NoopAuthenticationFunc,
		IncludeResponseStatus: true,
	}
	in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route, Options: options}
	if err := openapi3filter.ValidateRequest(context.Background(), in); (err != nil) != wrong {
		t.Fatalf("GET %s: request is wrong: got %v, want %t", path, err, wrong)
	}
	response, err := d.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: response.StatusCode,
		Header: response.Header, Body: io.NopCloser(bytes.NewReader(body)), Options: options}
	if err := openapi3filter.ValidateResponse(context.Background(), out); err != nil {
		t.Fatalf("GET %s: status %d is not as described: %v\n%.2000s", path, response.StatusCode, err, body)
	}
	return response.StatusCode, body
}

func noRedirect(transport http.RoundTripper) *http.Client {
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

func TestEveryRowIsAsDescribedAfterAnyChange(t *testing.T) {
	t.Parallel()
	s := New(Options{Seed: 11, Organizations: []Organization{{Name: "a", CustomerMeters: 700, Meters: 8}}})
	running, err := s.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { running.Close() })
	d := describe(t, s, running.URL, noRedirect(nil), true)
	for step := range 6 {
		walked := 0
		for page := 1; ; page++ {
			_, body := d.do(t, "/v1/customer-meters/?limit=100&page="+strconv.Itoa(page), nil, false)
			var got struct{ Items []json.RawMessage }
			if err := json.Unmarshal(body, &got); err != nil {
				t.Fatal(err)
			}
			if len(got.Items) == 0 {
				break
			}
			walked += len(got.Items)
		}
		org := s.Organizations()[0].ID
		if want := len(s.Listed(org)); walked != want {
			t.Fatalf("walked %d rows, want %d", walked, want)
		}
		for i, row := range s.Snapshot(org) {
			if i%40 == 0 {
				d.do(t, "/v1/customer-meters/"+row.ID.String(), nil, false)
			}
		}
		for i, row := range s.Snapshot(org) {
			var err error
			switch i % 20 {
			case 0:
				_, err = s.RenameCustomer(row.CustomerID, "Zoë \"the fox\" 🦊")
			case 1:
				_, err = s.DeleteCustomer(row.CustomerID)
			case 2:
				_, err = s.DeleteCustomerMeter(row.ID)
			case 3:
				_, err = s.AddCustomerMeter(org, NewCustomerMeter{})
			case 4:
				_, err = s.AddCustomerMeter(org, NewCustomerMeter{CustomerID: row.CustomerID})
			case 5:
				_, err = s.Reset(row.ID)
			default:
				_, err = s.Consume(row.ID, "0.000001")
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		do[int](t)(s.changeMeter(s.Meters(org)[step/2].ID, flap))
	}
}

func TestEveryErrorIsAsDescribed(t *testing.T) {
	t.Parallel()
	s := New(Options{Seed: 1, Organizations: []Organization{{Name: "a", CustomerMeters: 3}}, RequestsPerMinute: 15})
	s.SetToken(Token{Secret: "expired", Expired: true})
	s.SetToken(Token{Secret: "scopeless", NoScope: true})
	d := describe(t, s, "http://polar.test", noRedirect(s.Transport()), true)
	bearer := func(secret string) map[string]string { return map[string]string{"Authorization": secret} }
	const list, get = "/v1/customer-meters/", "/v1/customer-meters/"
	nobody := uuid.NewString()
	for _, c := range []struct {
		name, path string
		header     map[string]string
		wrong      bool
		fault      Fault
		want       int
	}{
		{name: "list", path: list, want: 200},
		{name: "limits are clamped", path: list + "?limit=5000", want: 200},
		{name: "past the end", path: list + "?page=9000000000000000000&limit=100", want: 200},
		{name: "deprecated version", path: list, header: map[string]string{versionHeader: "2026-04"}, want: 200},
		{name: "next version", path: list, header: map[string]string{versionHeader: "2027-01"}, want: 200},
		{name: "all orders", path: list + "?sorting=-customer_id&sorting=modified_at&sorting=-meter_id&sorting=created_at", want: 200},
		{name: "foreign organization", path: list + "?organization_id=" + nobody, want: 200},
		{name: "no token", path: list, header: bearer(""), want: 401},
		{name: "unknown token", path: list, header: bearer("Bearer x"), want: 401},
		{name: "expired token", path: get + nobody, header: bearer("Bearer expired"), want: 401},
		{name: "no scope", path: list, header: bearer("Bearer scopeless"), want: 403},
		{name: "unknown id", path: get + nobody, want: 404},
		{name: "unknown version", path: list, header: map[string]string{versionHeader: "2031-01"}, wrong: true, want: 404},
		{name: "no id", path: get + "7", wrong: true, want: 422},
		{name: "id of version 1", path: get + "6ba7b810-9dad-11d1-80b4-00c04fd430c8", wrong: true, want: 422},
		{name: "page 0", path: list + "?page=0", wrong: true, want: 422},
		{name: "negative limit", path: list + "?limit=-1", wrong: true, want: 422},
		{name: "page in words", path: list + "?page=one", wrong: true, want: 422},
		{name: "bad customer id", path: list + "?customer_id=x", wrong: true, want: 422},
		{name: "bad sorting", path: list + "?sorting=balance", wrong: true, want: 422},
		{name: "internal error", path: get + nobody, fault: InternalError, want: 500},
		{name: "quota", path: list, want: 429},
	} {
		s.FailWhen(always(c.fault))
		if got, body := d.do(t, c.path, c.header, c.wrong); got != c.want {
			t.Errorf("%s: got status %d, want %d: %s", c.name, got, c.want, body)
		}
	}
}

func TestUnknownFieldsStayWithinTheDescription(t *testing.T) {
	t.Parallel()
	s := New(rows(3))
	row := s.Snapshot(s.Organizations()[0].ID)[0]
	const extra = `{"rollover":{"units":1e-7,"of":[null]},`
	do[Row](t)(s.SetRaw(row.ID, extra+strings.Replace(row.JSON[1:], `"email_verified":`, `"vip":true,"email_verified":`, 1)))
	loose := describe(t, s, "http://polar.test", noRedirect(s.Transport()), false)
	_, body := loose.do(t, "/v1/customer-meters/", nil, false)
	for _, want := range []string{extra, `"vip":true`} {
		if !bytes.Contains(body, []byte(want)) {
			t.Errorf("the page lacks %s", want)
		}
	}
}
