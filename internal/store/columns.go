package store

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"polarmirror/internal/polar"
)

// timestamp is null for the zero time, which stands for "never" in the domain.
func timestamp(t time.Time) pgtype.Timestamptz {
	return pgtype.Timestamptz{Time: t, Valid: !t.IsZero()}
}

func id(u uuid.UUID) pgtype.UUID {
	return pgtype.UUID{Bytes: u, Valid: u != uuid.Nil}
}

// unlessEmpty is nil for the empty string.
func unlessEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// digest is the first half of SHA-256: equal digests are taken for equal JSON.
func digest(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:16]
}

// cleanText makes any bytes storable as text: what is no UTF-8, and U+0000,
// which Postgres refuses, becomes U+FFFD.
func cleanText(s string) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

// The longest texts kept of what others sent or said, in bytes. docs/security.md
// finds a rejected row that was cut off by its length.
const (
	maxRaw  = 64 << 10 // of a rejected row
	maxText = 4 << 10  // of an error, a reason or a type
)

// storable is cleanText of s, cut off behind most bytes.
func storable(s string, most int) string {
	text := cleanText(s[:min(len(s), most)]) // which can make it longer
	if len(s) <= most && len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:min(len(text), most)], "") + fmt.Sprintf("… (%d bytes)", len(s))
}

// column extracts one column of rows, in their order.
func column[T, C any](rows []T, value func(T) C) []C {
	c := make([]C, len(rows))
	for i, row := range rows {
		c[i] = value(row)
	}
	return c
}

// newest returns the newest of all entries with the same id, and their places in
// what it returns. Of equally new ones the last wins.
func newest[T any](all []*T, idOf func(*T) uuid.UUID, changedAt func(*T) time.Time) ([]*T, map[uuid.UUID]int) {
	kept := make([]*T, 0, len(all))
	places := make(map[uuid.UUID]int, len(all))
	for _, row := range all {
		id := idOf(row)
		if place, again := places[id]; !again {
			places[id] = len(kept)
			kept = append(kept, row)
		} else if !changedAt(row).Before(changedAt(kept[place])) {
			kept[place] = row
		}
	}
	return kept, places
}

// sortByID sorts rows so that all writers lock them in one order.
func sortByID[T any](rows []*T, idOf func(*T) uuid.UUID) {
	slices.SortFunc(rows, func(a, b *T) int {
		x, y := idOf(a), idOf(b)
		return bytes.Compare(x[:], y[:])
	})
}

func customerMeterID(m *polar.CustomerMeter) uuid.UUID { return m.ID }
