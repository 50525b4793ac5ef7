package web_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/zap"

	"polarmirror/internal/mirror"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
	"polarmirror/internal/web"
)

const acmeSecret = "polar_whs_ovyN6cPrTv56AApvzCaJno08SSmGJmgbWilb33N2JuK"

// fakeInbox remembers what it was given.
type fakeInbox struct {
	mu   sync.Mutex
	err  error
	kept map[string]mirror.Delivery
}

func (f *fakeInbox) Receive(_ context.Context, d mirror.Delivery) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return false, f.err
	}
	_, known := f.kept[d.ID]
	if f.kept == nil {
		f.kept = map[string]mirror.Delivery{}
	}
	f.kept[d.ID] = d
	return !known, nil
}

// endpoint is the handler of one organization, acme, on a fake inbox.
func endpoint(inbox web.WebhookInbox, observe func(organization, outcome string)) http.Handler {
	return endpointOf(fixed(acmeSecret), inbox, observe)
}

func fixed(text string) func() (secret.Secret, error) {
	return func() (secret.Secret, error) { return secret.New(text), nil }
}

func ignored(string, string) {}

func endpointOf(acme func() (secret.Secret, error), inbox web.WebhookInbox, observe func(organization, outcome string)) http.Handler {
	return web.NewWebhooks(web.WebhookOptions{
		Secrets: map[string]func() (secret.Secret, error){
			"acme":   acme,
			"broken": func() (secret.Secret, error) { return secret.Secret{}, errors.New("no such file") },
		},
		Inbox:   inbox,
		Observe: observe,
		Log:     zap.NewNop(),
	})
}

// post is a genuine delivery to acme, which changes make into another request.
func post(t testing.TB, handler http.Handler, changes ...func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	body := `{"type":"customer.updated"}`
	r := httptest.NewRequest(http.MethodPost, "/webhooks/polar/acme", strings.NewReader(body))
	sign(r, acmeSecret, "msg_1", time.Now(), body)
	for _, change := range changes {
		change(r)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

func sign(r *http.Request, key, id string, at time.Time, body string) {
	r.Header.Set("webhook-id", id)
	r.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	r.Header.Set("webhook-signature", polarsim.SignWebhook(key, id, at, []byte(body)))
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Del(name)
		if value != "" {
			r.Header.Set(name, value)
		}
	}
}

func to(path string) func(*http.Request) {
	return func(r *http.Request) { r.URL.Path = path }
}

func signedAgo(age time.Duration) func(*http.Request) {
	return func(r *http.Request) {
		sign(r, acmeSecret, "msg_1", time.Now().Add(-age), `{"type":"customer.updated"}`)
	}
}

func withBody(body string) func(*http.Request) {
	return func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		sign(r, acmeSecret, "msg_1", time.Now(), body)
	}
}

// A deserved answer is what a request made by changes gets.
type deserved struct {
	changes []func(*http.Request)
	outcome string
	status  int
}

func deservedAnswers() map[string]deserved {
	large := strings.Repeat("x", 1<<20)
	return map[string]deserved{
		"genuine":       {nil, web.WebhookAccepted, 202},
		"one MiB":       {[]func(*http.Request){withBody(large)}, web.WebhookAccepted, 202},
		"over one MiB":  {[]func(*http.Request){withBody(large + "x")}, web.WebhookTooLarge, 413},
		"endless":       {[]func(*http.Request){withBody(large + "x"), func(r *http.Request) { r.ContentLength = -1 }}, web.WebhookTooLarge, 413},
		"empty":         {[]func(*http.Request){withBody("")}, web.WebhookAccepted, 202},
		"get":           {[]func(*http.Request){func(r *http.Request) { r.Method = http.MethodGet }}, web.WebhookWrongMethod, 405},
		"no id":         {[]func(*http.Request){header("webhook-id", "")}, web.WebhookForged, 403},
		"no timestamp":  {[]func(*http.Request){header("webhook-timestamp", "")}, web.WebhookForged, 403},
		"bad timestamp": {[]func(*http.Request){header("webhook-timestamp", "soon")}, web.WebhookForged, 403},
		"no signature":  {[]func(*http.Request){header("webhook-signature", "")}, web.WebhookForged, 403},
		"empty one":     {[]func(*http.Request){header("webhook-signature", "v1,")}, web.WebhookForged, 403},
		"other version": {[]func(*http.Request){func(r *http.Request) { r.Header.Set("webhook-signature", "v2"+r.Header.Get("webhook-signature")[2:]) }}, web.WebhookForged, 403},
		"other id":      {[]func(*http.Request){header("webhook-id", "msg_2")}, web.WebhookForged, 403},
		"other body":    {[]func(*http.Request){func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`{}`)) }}, web.WebhookForged, 403},
		"other secret":  {[]func(*http.Request){func(r *http.Request) { sign(r, "polar_whs_other", "msg_1", time.Now(), `{"type":"customer.updated"}`) }}, web.WebhookForged, 403},
		"two signatures": {[]func(*http.Request){func(r *http.Request) {
			r.Header.Set("webhook-signature", "v1,AAAA v1a,x "+r.Header.Get("webhook-signature"))
		}}, web.WebhookAccepted, 202},
		"slash":          {[]func(*http.Request){to("/webhooks/polar/acme/")}, web.WebhookAccepted, 202},
		"two slashes":    {[]func(*http.Request){to("/webhooks/polar/acme//")}, web.WebhookForged, 403},
		"unknown":        {[]func(*http.Request){to("/webhooks/polar/nobody")}, web.WebhookForged, 403},
		"below it":       {[]func(*http.Request){to("/webhooks/polar/acme/x")}, web.WebhookForged, 403},
		"without secret": {[]func(*http.Request){to("/webhooks/polar/broken")}, web.WebhookForged, 403},
		"four minutes":   {[]func(*http.Request){signedAgo(4 * time.Minute)}, web.WebhookAccepted, 202},
		"too old":        {[]func(*http.Request){signedAgo(6 * time.Minute)}, web.WebhookTooOld, 403},
		"too new":        {[]func(*http.Request){signedAgo(-6 * time.Minute)}, web.WebhookTooOld, 403},
		"long id": {[]func(*http.Request){func(r *http.Request) {
			sign(r, acmeSecret, strings.Repeat("m", 257), time.Now(), `{"type":"customer.updated"}`)
		}}, web.WebhookMalformed, 400},
		"odd id":  {[]func(*http.Request){func(r *http.Request) { sign(r, acmeSecret, "m\xff", time.Now(), `{"type":"customer.updated"}`) }}, web.WebhookMalformed, 400},
		"cut off": {[]func(*http.Request){func(r *http.Request) { r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), cut{})) }}, web.WebhookMalformed, 400},
	}
}

func TestEachRequestGetsTheAnswerThatItDeserves(t *testing.T) {
	t.Parallel()
	for name, c := range deservedAnswers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var outcome string
			inbox := &fakeInbox{}
			handler := endpoint(inbox, func(organization, o string) {
				outcome = o
				if organization != "acme" && organization != "" && organization != "broken" {
					t.Errorf("organization %q is counted, which anyone may write", organization)
				}
			})
			got := post(t, handler, c.changes...)
			if got.Code != c.status || outcome != c.outcome {
				t.Errorf("answered %d, counted as %s; want %d and %s", got.Code, outcome, c.status, c.outcome)
			}
			if kept := len(inbox.kept) == 1; kept != (c.status == 202) {
				t.Errorf("answered %d, and %d deliveries were kept", got.Code, len(inbox.kept))
			}
		})
	}
}

// cut is a connection that breaks.
type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestDeliveryIsHandedOnAsItWasSent(t *testing.T) {
	t.Parallel()
	inbox := &fakeInbox{}
	at := time.Now().Add(-time.Minute).Truncate(time.Second)
	post(t, endpoint(inbox, ignored), func(r *http.Request) { sign(r, acmeSecret, "msg_1", at, `{"type":"customer.updated"}`) })
	want := map[string]mirror.Delivery{"msg_1": {Organization: "acme", ID: "msg_1", SentAt: at, Body: []byte(`{"type":"customer.updated"}`)}}
	if diff := cmp.Diff(want, inbox.kept); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRepetitionIsAcceptedAndCounted(t *testing.T) {
	t.Parallel()
	var outcomes []string
	handler := endpoint(&fakeInbox{}, func(_, o string) { outcomes = append(outcomes, o) })
	for range 2 {
		if got := post(t, handler); got.Code != 202 {
			t.Errorf("answered %d", got.Code)
		}
	}
	if diff := cmp.Diff([]string{web.WebhookAccepted, web.WebhookDuplicate}, outcomes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPolarIsToldToTryAgainWhatCannotBeKept(t *testing.T) {
	t.Parallel()
	var outcome string
	handler := endpoint(&fakeInbox{err: errors.New("database is down")}, func(_, o string) { outcome = o })
	if got := post(t, handler); got.Code != 503 || outcome != web.WebhookUnavailable {
		t.Errorf("answered %d, counted as %s", got.Code, outcome)
	}
}

// TestRefusalsCannotBeToldApart: nobody learns which organizations there are.
func TestRefusalsCannotBeToldApart(t *testing.T) {
	t.Parallel()
	forged := func(r *http.Request) { sign(r, "polar_whs_guess", "msg_1", time.Now(), `{"type":"customer.updated"}`) }
	handler := endpoint(&fakeInbox{}, ignored)
	want := post(t, handler, forged)
	for _, path := range []string{"/webhooks/polar/nobody", "/webhooks/polar/broken", "/webhooks/polar/", "/webhooks/polar/acme/"} {
		got := post(t, handler, forged, to(path))
		if got.Code != want.Code || got.Body.String() != want.Body.String() {
			t.Errorf("%s: %d %q, want %d %q", path, got.Code, got.Body, want.Code, want.Body)
		}
		if diff := cmp.Diff(want.Header(), got.Header()); diff != "" {
			t.Errorf("%s: headers (-want +got):\n%s", path, diff)
		}
	}
}

// TestBothOfPolarsKeysOfASecretCount and no other. The key is the whole text of
// secrets that are older than September 2026 or that a seller chose, and the
// base64 behind whsec_ of those that Polar generated since.
func TestBothOfPolarsKeysOfASecretCount(t *testing.T) {
	t.Parallel()
	const key = "\xff\xfb\x1e a key with \x00 and \xfb\xff" // in base64 with / and + and padding
	generated := "whsec_" + base64.StdEncoding.EncodeToString([]byte(key))
	unpadded := strings.TrimRight(generated, "=")
	const plain = "a seller's own, with a ü"
	for _, c := range []struct {
		name, secret string
		keys         []string // that sign genuine deliveries
	}{
		{"plain", plain, []string{plain}},
		{"older", acmeSecret, []string{acmeSecret}},
		{"generated", generated, []string{key, generated}},
		{"padding left out", unpadded, []string{key, unpadded}},
		{"one byte", "whsec_YQ==", []string{"a", "whsec_YQ=="}},
		{"chosen with the prefix", "whsec_chosen by a seller", []string{"whsec_chosen by a seller"}},
		{"nothing behind the prefix", "whsec_", []string{"whsec_"}},
		{"padding alone", "whsec_====", []string{"whsec_===="}},
		{"spaces", "whsec_ \r\n", []string{"whsec_ \r\n"}},
		{"line break", "whsec_\n", []string{"whsec_\n"}},
		{"one character", "whsec_A", []string{"whsec_A"}},
		{"no base64", "whsec_!!!!", []string{"whsec_!!!!"}},
		{"base64 and more", "whsec_c2VjcmV0!", []string{"whsec_c2VjcmV0!"}},
		{"padding in the middle", "whsec_YQ==c2VjcmV0", []string{"whsec_YQ==c2VjcmV0"}},
		{"other alphabet", "whsec_-_-_", []string{"whsec_-_-_"}},
		{"zero bytes", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", []string{"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}},
		{"prefix in capitals", "WHSEC_c2VjcmV0", []string{"WHSEC_c2VjcmV0"}},
		{"no prefix", "c2VjcmV0", []string{"c2VjcmV0"}},
	} {
		genuine := map[string]bool{}
		for _, key := range c.keys {
			genuine[key] = true
		}
		rest := strings.TrimPrefix(c.secret, "whsec_")
		skipped, _ := base64.StdEncoding.DecodeString(rest) // up to what is no base64
		alphabet, _ := base64.RawURLEncoding.DecodeString(rest)
		for _, key := range append(c.keys, "", "\x00", rest, string(skipped), string(alphabet), "secret", "guess") {
			want := 403
			if genuine[key] {
				want = 202
			}
			got := post(t, endpointOf(fixed(c.secret), &fakeInbox{}, ignored), func(r *http.Request) {
				r.Header.Set("webhook-signature", polarsim.SignWebhook(key, "msg_1", time.Now(), []byte(`{"type":"customer.updated"}`)))
			})
			if got.Code != want {
				t.Errorf("%s (%q): signed with %q it is answered with %d, want %d", c.name, c.secret, key, got.Code, want)
			}
		}
	}
}

// TestKeysAreThoseOfTheStandardLibrary that Polar signs with: it gives the library
// a generated secret as it is, and any other one encoded in base64.
func TestKeysAreThoseOfTheStandardLibrary(t *testing.T) {
	t.Parallel()
	const generated = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	for text, forTheLibrary := range map[string]string{
		acmeSecret: base64.StdEncoding.EncodeToString([]byte(acmeSecret)),
		generated:  generated,
	} {
		polar, err := standardwebhooks.NewWebhook(forTheLibrary)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := polar.Sign("msg_1", time.Now(), []byte(`{"type":"customer.updated"}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := post(t, endpointOf(fixed(text), &fakeInbox{}, ignored), header("webhook-signature", signature)); got.Code != 202 {
			t.Errorf("%s: answered %d", text, got.Code)
		}
	}
}

// TestReplacedSecretIsFoundAndReadSeldom: anyone may send wrong signatures, and
// must not make syncd read a file each time.
func TestReplacedSecretIsFoundAndReadSeldom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		current, reads := acmeSecret, 0
		handler := endpointOf(func() (secret.Secret, error) {
			reads++
			if current == "" {
				return secret.Secret{}, errors.New("being replaced")
			}
			return secret.New(current), nil
		}, &fakeInbox{}, ignored)
		with := func(key string) int {
			t.Helper()
			return post(t, handler, func(r *http.Request) { sign(r, key, "msg_1", time.Now(), `{"type":"customer.updated"}`) }).Code
		}
		for range 100 {
			with("polar_whs_guess")
		}
		if reads != 1 {
			t.Errorf("a hundred forged deliveries at once had the secret read %d times, want once", reads)
		}
		time.Sleep(10 * time.Second)
		current = ""
		if got := with("polar_whs_guess"); got != 403 || with(acmeSecret) != 202 {
			t.Error("a secret that cannot be read for a moment was forgotten")
		}
		time.Sleep(10 * time.Second)
		current = "polar_whs_new"
		if got := with("polar_whs_new"); got != 202 {
			t.Errorf("a delivery with the new secret was answered with %d", got)
		}
		if got := with(acmeSecret); got != 403 {
			t.Errorf("a delivery with the replaced secret was answered with %d", got)
		}
	})
}
