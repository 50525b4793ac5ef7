package web

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

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
	read    func() (secret.Secret, error)
	current atomic.Pointer[secret.Secret]

	rereads  rate.Sometimes
	refusals rate.Sometimes // to log: anyone may send as many as they like
}

// newWebhookKey returns a key that is nobody's until a signature does not match it
// and a secret is read: whatever is checked takes the same path.
func newWebhookKey(read func() (secret.Secret, error)) *webhookKey {
	k := &webhookKey{read: read, rereads: rate.Sometimes{Interval: rereadEvery}, refusals: rate.Sometimes{Interval: time.Minute}}
	nobodys := secret.New(rand.Text())
	k.current.Store(&nobodys)
	return k
}

// verify returns when a delivery was sent, or why it is not genuine or, as
// errTooOld, not to be believed any more. The comparison takes constant time.
func (k *webhookKey) verify(body []byte, header http.Header, log *zap.Logger) (time.Time, error) {
	key := k.current.Load()
	err := check(*key, body, header)
	if err != nil && !errors.Is(err, errTooOld) {
		k.rereads.Do(func() {
			switch read, err := k.read(); {
			case err != nil:
				log.Error("webhook secret unreadable", zap.Error(err))
			case !read.IsZero(): // else the key stays what it was
				k.current.Store(&read)
			}
		})
		if renewed := k.current.Load(); renewed != key {
			err = check(*renewed, body, header)
		}
	}
	seconds, _ := strconv.ParseInt(header.Get(standardwebhooks.HeaderWebhookTimestamp), 10, 64) // else it is not genuine
	return time.Unix(seconds, 0), err
}

// GeneratedSecretPrefix begins the secrets that Polar generates since September
// 2026. A secret that a seller chose may begin with it, too.
const GeneratedSecretPrefix = "whsec_"

// GeneratedKey returns the key of a secret that Polar generated in September 2026
// or later: what follows the prefix, decoded. ok is false if the secret is not one
// of those.
//
// The padding may be missing: a double click on the secret does not select it, and
// it carries nothing. Nothing else is forgiven. Polar encodes in the standard
// alphabet, and a decoder that skips what it does not understand makes short or
// empty keys of other texts; anybody can sign with an empty key. HMAC fills keys up
// with zero bytes, so a key of nothing but zero bytes is an empty key, too.
func GeneratedKey(s secret.Secret) (key []byte, ok bool) {
	text, ok := strings.CutPrefix(s.Reveal(), GeneratedSecretPrefix)
	if !ok || strings.ContainsAny(text, "\r\n") { // which the decoder skips
		return nil, false
	}
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(bytes.Trim(key, "\x00")) == 0 {
		return nil, false
	}
	return key, true
}

// check verifies one delivery by Standard Webhooks.
//
// The key of a secret that Polar generated before September 2026, or that the
// seller chose, is the bytes of the whole text. A secret does not tell which kind
// it is, so both keys are tried. A secret with one key has it tried twice: how
// long a refusal takes tells nothing.
func check(s secret.Secret, body []byte, header http.Header) error {
	whole := []byte(s.Reveal())
	generated, ok := GeneratedKey(s)
	if !ok {
		generated = whole
	}
	err := checkKey(whole, body, header)
	if other := checkKey(generated, body, header); err != nil && !errors.Is(err, errTooOld) {
		err = other
	}
	return err
}

// checkKey verifies one delivery with one key.
func checkKey(key, body []byte, header http.Header) error {
	webhook, err := standardwebhooks.NewWebhookRaw(key)
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
