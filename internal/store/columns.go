package store

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

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

// ids are nil for nil.
func ids(list []uuid.UUID) []pgtype.UUID {
	if list == nil {
		return nil
	}
	return column(list, id)
}

// unlessEmpty is nil for the empty string.
func unlessEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// digest is the first half of SHA-256: equal digests mean equal JSON.
func digest(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:16]
}

// cleanText makes any bytes storable as text: invalid UTF-8, and U+0000, which
// Postgres refuses, become U+FFFD.
func cleanText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// The longest texts that are stored of what others sent, in bytes. docs/security.md
// finds a truncated rejected row by its length.
const (
	maxRaw  = 64 << 10 // of a rejected row
	maxText = 4 << 10  // of an error, a reason or a type
)

// storable is cleanText of s, truncated to most bytes.
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

// transposed turns rows into one array for each column, as unnest takes them.
func transposed(rows [][]any) []any {
	arrays := make([]any, len(rows[0]))
	for i := range arrays {
		arrays[i] = column(rows, func(row []any) any { return row[i] })
	}
	return arrays
}

// newest returns the newest of all entries with the same id, of equally new ones
// the last, in the order of the ids: all writers lock rows in one order.
func newest[T any](all []*T, idOf func(*T) uuid.UUID, changedAt func(*T) time.Time) []*T {
	kept := make(map[uuid.UUID]*T, len(all))
	for _, row := range all {
		if other, again := kept[idOf(row)]; !again || !changedAt(row).Before(changedAt(other)) {
			kept[idOf(row)] = row
		}
	}
	return slices.SortedFunc(maps.Values(kept), func(a, b *T) int {
		x, y := idOf(a), idOf(b)
		return bytes.Compare(x[:], y[:])
	})
}

// numeric has the digits and the scale of d: 1.10 stays 1.10.
func numeric(d polar.Decimal) pgtype.Numeric {
	text, power, _ := strings.Cut(strings.ToLower(d.String()), "e")
	whole, fraction, _ := strings.Cut(text, ".")
	digits, _ := new(big.Int).SetString(whole+fraction, 10)
	exponent, _ := strconv.Atoi(power) // of a JSON number within the bounds of numeric; "" is none
	return pgtype.Numeric{Int: digits, Exp: int32(exponent - len(fraction)), Valid: true}
}
