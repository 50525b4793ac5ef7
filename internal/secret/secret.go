// Package secret holds values that must not be seen: tokens, passwords, webhook
// secrets.
//
// Its invariant: the only way to the text is [Secret.Reveal]. Whatever prints,
// logs or encodes a Secret, by whichever verb or encoder, gets "[redacted]".
package secret

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"

	"go.uber.org/zap/zapcore"
)

// redacted stands wherever a secret would be shown.
const redacted = "[redacted]"

// A Secret is a text that does not show itself. Its zero value is the absence
// of one.
type Secret struct {
	// A func instead of a string: reflection-based printers (go-cmp, spew,
	// testify) reach unexported strings, but can't look into a closure.
	reveal func() string
}

// New returns text as a Secret. The empty text is the zero Secret.
func New(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{reveal: func() string { return text }}
}

// Reveal returns the text itself, "" for the zero Secret. Its callers are the
// few lines that send or check a secret.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.reveal == nil }

// Equal compares in constant time for texts of one length, so that checking a
// secret does not tell how much of it was right.
func (s Secret) Equal(o Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(o.Reveal())) == 1
}

// Sum is the SHA-256 of the text: something to compare and key maps by where
// the text itself should not lie around. Not for guessable secrets.
func (s Secret) Sum() [sha256.Size]byte { return sha256.Sum256([]byte(s.Reveal())) }

// String returns "[redacted]", or "" for the zero Secret.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// GoString is [Secret.String], for the verb %#v.
func (s Secret) GoString() string { return s.String() }

// Format writes [Secret.String] whatever the verb and flags.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText is [Secret.String]; JSON and YAML encoders use it too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON is [Secret.String] as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// MarshalYAML is [Secret.String].
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// MarshalLogObject writes the field "value" as [Secret.String], for zap.Object
// and zap.Any.
func (s Secret) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("value", s.String())
	return nil
}

// UnmarshalText takes text as the secret, so that configuration decodes into
// it.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = New(string(text))
	return nil
}
