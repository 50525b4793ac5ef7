package store

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"polarmirror/internal/polar"
)

// An array is one column of a block, a parameter of an array type. Its elements
// go from the rows straight into the message: by pgx's own way each of them
// would be boxed first, which costs more than all else that the program does
// with an unchanged row.
type array struct {
	element uint32 // OID of its elements' type
	n       int
	size    int // of the encoded array in bytes, or a guess
	put     func(buf []byte, i int) (encoded []byte, ok bool)
}

// arrayOf makes an array of one element for each row. put appends the binary
// form of an element; if it says not ok, the element is null.
func arrayOf[T any](element uint32, width int, rows []T, put func(buf []byte, row T) ([]byte, bool)) *array {
	return &array{
		element: element,
		n:       len(rows),
		size:    20 + len(rows)*(4+width),
		put:     func(buf []byte, i int) ([]byte, bool) { return put(buf, rows[i]) },
	}
}

// uuids is null for the zero UUID, which stands for "none" in the domain.
func uuids[T any](rows []T, value func(T) uuid.UUID) *array {
	return arrayOf(pgtype.UUIDOID, 16, rows, func(buf []byte, row T) ([]byte, bool) {
		u := value(row)
		return append(buf, u[:]...), u != uuid.Nil
	})
}

// epochMicros is the Unix time at which Postgres's timestamps begin, 2000-01-01.
const epochMicros = 946_684_800_000_000

// times is null for the zero time, which stands for "never" in the domain.
func times[T any](rows []T, value func(T) time.Time) *array {
	return arrayOf(pgtype.TimestamptzOID, 8, rows, func(buf []byte, row T) ([]byte, bool) {
		t := value(row)
		return appendTime(buf, t), !t.IsZero()
	})
}

func ints[T any](rows []T, value func(T) int64) *array {
	return arrayOf(pgtype.Int8OID, 8, rows, func(buf []byte, row T) ([]byte, bool) {
		return binary.BigEndian.AppendUint64(buf, uint64(value(row))), true
	})
}

func bools(rows []*polar.Customer, value func(*polar.Customer) bool) *array {
	return arrayOf(pgtype.BoolOID, 1, rows, func(buf []byte, row *polar.Customer) ([]byte, bool) {
		if value(row) {
			return append(buf, 1), true
		}
		return append(buf, 0), true
	})
}

func texts[T any](rows []T, value func(T) string) *array {
	return arrayOf(pgtype.TextOID, 16, rows, func(buf []byte, row T) ([]byte, bool) {
		return append(buf, value(row)...), true
	})
}

// optionalTexts is null for nil.
func optionalTexts[T any](rows []T, value func(T) *string) *array {
	return arrayOf(pgtype.TextOID, 24, rows, func(buf []byte, row T) ([]byte, bool) {
		s := value(row)
		if s == nil {
			return buf, false
		}
		return append(buf, *s...), true
	})
}

// jsons is null for nil. The JSON goes as text: most of it is never parsed.
func jsons[T any](rows []T, value func(T) []byte) *array {
	return bytesOf(pgtype.TextOID, rows, value)
}

func blobs[T any](rows []T, value func(T) []byte) *array {
	return bytesOf(pgtype.ByteaOID, rows, value)
}

func bytesOf[T any](element uint32, rows []T, value func(T) []byte) *array {
	a := arrayOf(element, 0, rows, func(buf []byte, row T) ([]byte, bool) {
		b := value(row)
		return append(buf, b...), b != nil
	})
	for _, row := range rows {
		a.size += len(value(row))
	}
	return a
}

// appendTo appends the binary form (source: array_recv in Postgres's
// src/backend/utils/adt/arrayfuncs.c): dimensions, whether there are nulls, type
// of the elements, their number, the lowest index; each element with its length,
// -1 for null.
func (a *array) appendTo(buf []byte) []byte {
	buf = slices.Grow(buf, a.size)
	if a.n == 0 {
		buf = binary.BigEndian.AppendUint32(buf, 0)
		buf = binary.BigEndian.AppendUint32(buf, 0)
		return binary.BigEndian.AppendUint32(buf, a.element)
	}
	buf = binary.BigEndian.AppendUint32(buf, 1)
	flag := len(buf)
	buf = binary.BigEndian.AppendUint32(buf, 0)
	buf = binary.BigEndian.AppendUint32(buf, a.element)
	buf = binary.BigEndian.AppendUint32(buf, uint32(a.n))
	buf = binary.BigEndian.AppendUint32(buf, 1)
	for i := range a.n {
		start := len(buf)
		encoded, ok := a.put(append(buf, 0xff, 0xff, 0xff, 0xff), i)
		if !ok {
			buf = encoded[:start+4]
			binary.BigEndian.PutUint32(buf[flag:], 1)
			continue
		}
		binary.BigEndian.PutUint32(encoded[start:], uint32(len(encoded)-start-4))
		buf = encoded
	}
	return buf
}

// An arrayCodec is pgx's codec of an array type that also takes an [array].
type arrayCodec struct{ *pgtype.ArrayCodec }

// PlanEncode implements [pgtype.Codec].
func (c arrayCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ours := value.(*array); ours && format == pgtype.BinaryFormatCode {
		return encodeArray{}
	}
	return c.ArrayCodec.PlanEncode(m, oid, format, value)
}

type encodeArray struct{}

// Encode implements [pgtype.EncodePlan].
func (encodeArray) Encode(value any, buf []byte) ([]byte, error) {
	return value.(*array).appendTo(buf), nil
}

// registerArrays teaches a connection to take arrays as parameters.
func registerArrays(m *pgtype.Map) {
	for _, oid := range []uint32{
		pgtype.UUIDArrayOID, pgtype.TimestamptzArrayOID, pgtype.Int8ArrayOID,
		pgtype.BoolArrayOID, pgtype.TextArrayOID, pgtype.ByteaArrayOID,
	} {
		t, ok := m.TypeForOID(oid)
		if !ok {
			continue
		}
		if codec, ok := t.Codec.(*pgtype.ArrayCodec); ok {
			m.RegisterType(&pgtype.Type{Name: t.Name, OID: oid, Codec: arrayCodec{codec}})
		}
	}
}
