package store

import (
	"context"
	"encoding/binary"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/polar"
)

// copyIn runs a COPY of n rows. They are encoded while Postgres takes in those
// before them.
func (s *Session) copyIn(ctx context.Context, sql string, n int, put func(e *copyEncoder, i int)) error {
	rows := &copyReader{n: n, put: put, encoder: copyEncoder{buf: append(s.copying[:0], copySignature...)}}
	_, err := s.conn.Conn().PgConn().CopyFrom(ctx, rows, sql)
	s.copying = rows.stop()
	return err
}

// copyChunk is about how many bytes are encoded at a time.
const copyChunk = 32 << 10

// A copyReader is n rows in the binary form of COPY.
type copyReader struct {
	n   int
	put func(e *copyEncoder, i int)

	mu      sync.Mutex
	encoder copyEncoder
	sent    int // of the encoder's bytes
	next    int // row to encode
	closed  bool
	stopped bool
}

// stop returns the memory of r, which reads no further: where the connection
// broke, CopyFrom returns before its goroutine has ended.
func (r *copyReader) stop() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	return r.encoder.buf
}

func (r *copyReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return 0, io.ErrClosedPipe
	}
	if r.sent == len(r.encoder.buf) {
		r.encoder.buf, r.sent = r.encoder.buf[:0], 0
	}
	for r.next < r.n && len(r.encoder.buf) < copyChunk {
		r.put(&r.encoder, r.next)
		r.next++
	}
	if r.next == r.n && !r.closed {
		r.encoder.buf = binary.BigEndian.AppendUint16(r.encoder.buf, copyEnd)
		r.closed = true
	}
	n := copy(p, r.encoder.buf[r.sent:])
	r.sent += n
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// copySignature begins the binary form of COPY, without flags or extension
// (source: PostgreSQL documentation, "COPY", "Binary Format").
const copySignature = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"

// copyEnd stands where a row would have its number of fields.
const copyEnd = 0xffff

// A copyEncoder appends rows in the binary form of COPY.
type copyEncoder struct{ buf []byte }

func (e *copyEncoder) row(fields uint16) { e.buf = binary.BigEndian.AppendUint16(e.buf, fields) }

func (e *copyEncoder) length(n int) { e.buf = binary.BigEndian.AppendUint32(e.buf, uint32(n)) }

func (e *copyEncoder) null() { e.length(-1) }

func (e *copyEncoder) uuid(u uuid.UUID) {
	e.length(len(u))
	e.buf = append(e.buf, u[:]...)
}

func (e *copyEncoder) int(v int64) {
	e.length(8)
	e.buf = binary.BigEndian.AppendUint64(e.buf, uint64(v))
}

func (e *copyEncoder) bool(v bool) {
	e.length(1)
	if v {
		e.buf = append(e.buf, 1)
	} else {
		e.buf = append(e.buf, 0)
	}
}

// text is null for nil.
func (e *copyEncoder) text(s *string) {
	if s == nil {
		e.null()
		return
	}
	e.length(len(*s))
	e.buf = append(e.buf, *s...)
}

func (e *copyEncoder) bytes(b []byte) {
	e.length(len(b))
	e.buf = append(e.buf, b...)
}

// time is null for the zero time, which stands for "never" in the domain.
func (e *copyEncoder) time(t time.Time) {
	if t.IsZero() {
		e.null()
		return
	}
	e.length(8)
	e.buf = appendTime(e.buf, t)
}

func (e *copyEncoder) decimal(d polar.Decimal) {
	start := len(e.buf)
	e.length(0)
	e.buf = appendNumeric(e.buf, d)
	binary.BigEndian.PutUint32(e.buf[start:], uint32(len(e.buf)-start-4))
}

// json is jsonb, null for nil (source: jsonb_recv in Postgres's
// src/backend/utils/adt/jsonb.c: a version, 1, and the text).
func (e *copyEncoder) json(text []byte) {
	if text == nil {
		e.null()
		return
	}
	e.length(1 + len(text))
	e.buf = append(append(e.buf, 1), text...)
}
