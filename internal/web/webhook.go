package web

import (
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/mirror"
	"polarmirror/internal/secret"
)

// WebhookPath begins the path of every webhook; the organization's label
// follows.
const WebhookPath = "/webhooks/polar/"

const webhookPattern = WebhookPath + "{organization}"

const (
	// maxWebhookBody is the longest body that is taken, in bytes.
	maxWebhookBody = 1 << 20
	// webhookTime bounds reading a delivery, and then keeping it: Polar waits for
	// ten seconds.
	webhookTime = 8 * time.Second
)

// webhookID is what is taken for one: visible ASCII, not long. Polar's are short.
var webhookID = regexp.MustCompile(`^[!-~]{1,256}$`)

// What may become of a request to a webhook's endpoint, fit for a metric's label.
const (
	WebhookAccepted    = "accepted"     // kept, to be applied: 202
	WebhookDuplicate   = "duplicate"    // kept before: 202
	WebhookForged      = "forged"       // not signed by who may sign it, or for nobody: 403
	WebhookTooOld      = "too_old"      // genuine, sent over five minutes ago or ahead: 403
	WebhookMalformed   = "malformed"    // genuine, with an impossible webhook-id, or not read to its end: 400
	WebhookTooLarge    = "too_large"    // over 1 MiB: 413
	WebhookWrongMethod = "wrong_method" // no POST: 405
	WebhookUnavailable = "unavailable"  // the database could not keep it, Polar tries again: 503
)

// A WebhookInbox keeps deliveries.
type WebhookInbox interface {
	// Receive keeps a delivery and reports false if it was there already. When it
	// returns without error, no crash loses the delivery.
	Receive(ctx context.Context, d mirror.Delivery) (fresh bool, err error)
}

// WebhookOptions are what the endpoints need.
type WebhookOptions struct {
	// Secrets return, by the label of an organization, what Polar's dashboard shows,
	// prefix included. One is asked when the first delivery comes, and again, once in
	// a few seconds at most, when a signature does not match: it may have been
	// replaced.
	Secrets map[string]func() (secret.Secret, error)
	Inbox   WebhookInbox
	// Observe is told of every request; organization is "" unless it has a secret.
	Observe func(organization, outcome string)
	Log     *zap.Logger
}

// A webhookHandler serves all endpoints.
type webhookHandler struct {
	WebhookOptions
	keys map[string]*webhookKey // that of "" stands in for an organization that is none
}

// NewWebhooks returns the handler of POST /webhooks/polar/{organization}, with or
// without a slash at its end.
//
// What is not genuine is refused with 403 and does not tell why: an unknown
// organization, one without webhooks, a missing header and a wrong signature
// take the same path to the same answer. A genuine delivery is answered with 202
// once it is kept.
func NewWebhooks(o WebhookOptions) http.Handler {
	h := &webhookHandler{o, map[string]*webhookKey{"": newWebhookKey(func() (secret.Secret, error) { return secret.Secret{}, nil })}}
	for organization, read := range o.Secrets {
		h.keys[organization] = newWebhookKey(read)
	}
	return h
}

// ServeHTTP takes one delivery.
func (h *webhookHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	organization := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, WebhookPath), "/")
	if h.keys[organization] == nil {
		organization = ""
	}
	outcome, status := h.receive(w, r, organization, h.keys[organization])
	h.Observe(organization, outcome)
	if outcome == WebhookWrongMethod {
		w.Header().Set("Allow", http.MethodPost)
	}
	http.Error(w, http.StatusText(status), status)
}

// receive does everything but answer.
func (h *webhookHandler) receive(w http.ResponseWriter, r *http.Request, organization string, key *webhookKey) (outcome string, status int) {
	if r.Method != http.MethodPost {
		return WebhookWrongMethod, http.StatusMethodNotAllowed
	}
	// A writer that can't set deadlines has a server that can.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(webhookTime))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxWebhookBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return WebhookTooLarge, http.StatusRequestEntityTooLarge
	}
	if err != nil {
		return WebhookMalformed, http.StatusBadRequest
	}
	log := h.Log.With(zap.String("organization", organization))
	sentAt, err := key.verify(body, r.Header, log)
	switch {
	case errors.Is(err, errTooOld):
		log.Warn("webhook refused: sent over five minutes ago or ahead; is this machine's clock wrong?", zap.Time("sent_at", sentAt))
		return WebhookTooOld, http.StatusForbidden
	case err != nil:
		if organization != "" {
			key.refusals.Do(func() {
				log.Warn("webhook refused: not signed with this organization's webhook_secret; compare it with the endpoint's secret at Polar")
			})
		}
		return WebhookForged, http.StatusForbidden
	}
	id := r.Header.Get("webhook-id")
	if !webhookID.MatchString(id) {
		return WebhookMalformed, http.StatusBadRequest
	}
	// The request's end must not tear down the database's connection.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), webhookTime)
	defer cancel()
	fresh, err := h.Inbox.Receive(ctx, mirror.Delivery{Organization: organization, ID: id, SentAt: sentAt, Body: body})
	switch {
	case err != nil:
		log.Warn("webhook not kept, Polar will send it again", zap.String("webhook_id", id), zap.Error(err))
		return WebhookUnavailable, http.StatusServiceUnavailable
	case !fresh:
		return WebhookDuplicate, http.StatusAccepted
	}
	return WebhookAccepted, http.StatusAccepted
}
