package web

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/zap"

	"polarmirror/internal/secret"
)

// rereadEvery is how often at most a secret is read again because a signature
// did not match: anyone may send such.
const rereadEvery = 5 * time.Second

// errTooOld means that a genuine delivery was sent over five minutes ago or
// ahead.
var errTooOld = errors.New("timestamp out of tolerance")

// A webhookKey checks the signatures of one endpoint.
type webhookKey struct {
	read func() (secret.Secret, error)

	mu      sync.Mutex
	current secret.Secret
	readAt  time.Time // zero before the first time

	refusals complaint // anyone may send as many as they like
}

// newWebhookKey returns a key that is nobody's until it was read, and for ever
// if read is nil: whatever is checked takes the same path.
func newWebhookKey(read func() (secret.Secret, error)) *webhookKey {
	return &webhookKey{read: read, current: secret.New(rand.Text())}
}

// hasSignature reports whether a delivery has what verifying it takes.
func hasSignature(header http.Header) bool {
	return header.Get(standardwebhooks.HeaderWebhookID) != "" &&
		header.Get(standardwebhooks.HeaderWebhookTimestamp) != "" &&
		header.Get(standardwebhooks.HeaderWebhookSignature) != ""
}

// verify returns when a delivery was sent, or why it is not genuine or, as
// errTooOld, not to be believed any more. The comparison takes constant time.
func (k *webhookKey) verify(body []byte, header http.Header, log *zap.Logger) (time.Time, error) {
	key := k.get(log)
	err := check(key, body, header)
	if err != nil && !errors.Is(err, errTooOld) {
		if renewed := k.renew(log); !renewed.Equal(key) {
			err = check(renewed, body, header)
		}
	}
	seconds, parseErr := strconv.ParseInt(header.Get(standardwebhooks.HeaderWebhookTimestamp), 10, 64)
	if err == nil {
		err = parseErr
	}
	return time.Unix(seconds, 0), err
}

// check verifies one delivery by Standard Webhooks. Polar's key is the bytes of
// the whole secret as its dashboard shows it: Polar encodes them in base64 for
// the library that signs, which decodes them again.
func check(key secret.Secret, body []byte, header http.Header) error {
	webhook, err := standardwebhooks.NewWebhookRaw([]byte(key.Reveal()))
	if err != nil {
		return err
	}
	if err := webhook.VerifyIgnoringTimestamp(body, header); err != nil {
		return err
	}
	err = webhook.Verify(body, header)
	if errors.Is(err, standardwebhooks.ErrMessageTooOld) || errors.Is(err, standardwebhooks.ErrMessageTooNew) {
		return fmt.Errorf("%w: %w", errTooOld, err)
	}
	return err
}

func (k *webhookKey) get(log *zap.Logger) secret.Secret {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.readAt.IsZero() {
		k.reread(log)
	}
	return k.current
}

// renew returns the secret, read again if it is some time since it was.
func (k *webhookKey) renew(log *zap.Logger) secret.Secret {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.readAt) >= rereadEvery {
		k.reread(log)
	}
	return k.current
}

// reread keeps what it had if there is nothing to be read.
func (k *webhookKey) reread(log *zap.Logger) {
	k.readAt = time.Now()
	if k.read == nil {
		return
	}
	read, err := k.read()
	switch {
	case err != nil:
		log.Error("webhook secret unreadable", zap.Error(err))
	case !read.IsZero():
		k.current = read
	}
}
