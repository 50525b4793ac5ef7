package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

const text = "polar_oat_s3cr3t"

// holder has the secret where structs of this project have it: by value, by
// pointer, in a map, exported and not.
type holder struct {
	Value  Secret
	Ptr    *Secret
	Map    map[string]Secret
	hidden Secret
}

func sample() holder {
	s := New(text)
	return holder{Value: s, Ptr: &s, Map: map[string]Secret{"a": s}, hidden: s}
}

func TestNothingPrintsASecret(t *testing.T) {
	t.Parallel()
	h := sample()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%10v", "%t", "%p"} {
		for _, v := range []any{h, &h, h.Value, h.Ptr, h.Map, h.hidden, []Secret{h.Value}, fmt.Errorf("token %v", h.Value)} {
			got := fmt.Sprintf(verb, v)
			if strings.Contains(got, text) || strings.Contains(got, fmt.Sprintf("%x", text)) {
				t.Errorf("Sprintf(%q, %T) shows the secret: %s", verb, v, got)
			}
		}
	}
	if got := fmt.Sprint(h.Value); got != "[redacted]" {
		t.Errorf("Sprint = %q, want [redacted]", got)
	}
}

func TestNothingEncodesASecret(t *testing.T) {
	t.Parallel()
	h := sample()
	got, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(got), text) || !strings.Contains(string(got), "[redacted]") {
		t.Errorf("json.Marshal = %s", got)
	}
	var buf bytes.Buffer
	slog.New(slog.NewJSONHandler(&buf, nil)).Info("m", "secret", h.Value, "holder", h)
	if strings.Contains(buf.String(), text) {
		t.Errorf("slog shows the secret: %s", buf.String())
	}
}

func TestNothingLogsASecret(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.DebugLevel)
	log := zap.New(core)
	h := sample()
	log.Info("m", zap.Any("a", h.Value), zap.Any("p", h.Ptr), zap.Any("h", h), zap.Object("o", h.Value),
		zap.Stringer("s", h.Value), zap.Reflect("r", h), zap.Error(errors.New(h.Value.String())))
	enc := zapcore.NewJSONEncoder(zapcore.EncoderConfig{})
	for _, e := range logs.All() {
		buf, err := enc.EncodeEntry(e.Entry, e.Context)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(buf.String(), text) {
			t.Errorf("zap shows the secret: %s", buf.String())
		}
	}
}

func TestRevealReturnsTheText(t *testing.T) {
	t.Parallel()
	s := New(text)
	if s.Reveal() != text || s.IsZero() {
		t.Errorf("Reveal = %q, IsZero = %v", s.Reveal(), s.IsZero())
	}
	var zero Secret
	if !zero.IsZero() || zero.Reveal() != "" || zero.String() != "" || !New("").IsZero() {
		t.Error("the zero Secret is not empty")
	}
	if !s.Equal(New(text)) || s.Equal(zero) || s.Equal(New(text+"x")) || s.Sum() == zero.Sum() {
		t.Error("Equal or Sum confuse secrets")
	}
	var decoded Secret
	if err := decoded.UnmarshalText([]byte(text)); err != nil || !decoded.Equal(s) {
		t.Errorf("UnmarshalText = %q, %v", decoded.Reveal(), err)
	}
}
