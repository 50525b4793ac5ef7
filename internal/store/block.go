package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"polarmirror/internal/polar"
)

// A Block is what one transaction saves: pages of a walk or a tick, or single
// customer meters that were asked for.
type Block struct {
	// CustomerMeters with their nested customers and meters, in any order. The
	// same one may stand there more than once; the newest is written.
	CustomerMeters []*polar.CustomerMeter
	Rejected       []RejectedRow

	// Began is when the oldest request of the block was begun, by this machine's
	// clock; zero if nobody knows. Only an answer to a request begun after a row
	// was marked deleted revives it.
	Began time.Time

	// Stretch, if set, is the part of the list of which the block shows every
	// row. Live rows of the mirror in it that the block lacks become suspects.
	Stretch *Stretch

	// Cursor, if set, moves with the block.
	Cursor *Cursor

	// Force writes what differs even if it is older: Polar, asked for the very
	// row, insists. What was written since the request began stands all the same.
	Force bool

	// Rewrite writes the nested customers and meters even if their digest says
	// that they are as stored: the stored columns are not trusted.
	Rewrite bool

	Counts Counts // of the requests and pages behind the block

	prepared *prepared
	looked   time.Time          // by the database's clock, before what is stored was looked at
	begun    pgtype.Timestamptz // Began by the database's clock, or earlier
}

// prepared is what can be made of a block's rows without the database.
type prepared struct {
	customers  *nested[polar.Customer]
	meters     *nested[polar.Meter]
	comparison comparison
}

// Prepare does the part of saving the block that needs no database, so that it
// can be done while another block is being saved. The rows must not change
// afterwards.
func (b *Block) Prepare() {
	if b.prepared != nil {
		return
	}
	rows, places := newest(b.CustomerMeters, customerMeterID, (*polar.CustomerMeter).ChangedAt)
	b.CustomerMeters = rows
	b.prepared = &prepared{
		customers:  customersKind().in(rows),
		meters:     metersKind().in(rows),
		comparison: comparison{places: places, standings: make([]standing, len(rows))},
	}
}

// A Stretch is a part of the list in the order of the walk, both ends included.
type Stretch struct {
	Low, High    polar.Key
	FromStart    bool // everything below Low as well
	ToEnd        bool // everything above High as well
	LowestOffset int
}

// A RejectedRow is a row that can't be mirrored, with its place.
type RejectedRow struct {
	polar.RejectedRow
	Offset int // of its page in the list
}

// Saved is what a block did.
type Saved struct {
	Counts Counts
	// Older are customer meters that were listed with an older state than the
	// mirror has, of themselves or of their customer or meter. That state was
	// not written. One may stand there more than once.
	Older []uuid.UUID
}

// SaveBlock writes the block in one transaction, after a round trip that compares
// it with what is stored. Should Postgres refuse a value, the block is halved
// until the row with it is found, which is then rejected; the cursor moves only
// with the last part, so a crash between the parts repeats them and changes
// nothing.
func (s *Session) SaveBlock(ctx context.Context, run *Run, b *Block) (Saved, error) {
	b.Prepare()
	saved, err := s.saveOnce(ctx, run, b)
	if err == nil || !refusesValue(err) || len(b.CustomerMeters) == 0 {
		return saved, err
	}
	return s.saveInParts(ctx, run, b)
}

// saveInParts saves the rows of b half by half and then b without rows.
func (s *Session) saveInParts(ctx context.Context, run *Run, b *Block) (Saved, error) {
	var total Saved
	rejected, err := s.saveHalves(ctx, run, b, b.CustomerMeters, &total)
	if err != nil {
		return total, err
	}
	rest := *b
	rest.CustomerMeters, rest.prepared = nil, nil
	rest.Rejected = append(rejected, b.Rejected...)
	last, err := s.saveListed(ctx, run, &rest, b.CustomerMeters)
	total.Counts.Add(last.Counts)
	total.Older = append(total.Older, last.Older...)
	return total, err
}

func (s *Session) saveHalves(ctx context.Context, run *Run, b *Block, rows []*polar.CustomerMeter, total *Saved) ([]RejectedRow, error) {
	part := &Block{CustomerMeters: rows, Began: b.Began, Force: b.Force, Rewrite: b.Rewrite}
	saved, err := s.saveOnce(ctx, run, part)
	switch {
	case err == nil:
		total.Counts.Add(saved.Counts)
		total.Older = append(total.Older, saved.Older...)
		return nil, nil
	case !refusesValue(err):
		return nil, err
	case len(rows) == 1:
		return []RejectedRow{refused(rows[0], b, err)}, nil
	}
	half := len(rows) / 2
	low, err := s.saveHalves(ctx, run, b, rows[:half], total)
	if err != nil {
		return nil, err
	}
	high, err := s.saveHalves(ctx, run, b, rows[half:], total)
	return append(low, high...), err
}

// refused describes a row that decoding let through and Postgres did not.
func refused(m *polar.CustomerMeter, b *Block, err error) RejectedRow {
	offset := 0
	if b.Stretch != nil {
		offset = b.Stretch.LowestOffset
	}
	raw := fmt.Appendf(nil, `{"id":%q,"customer":%s,"meter":%s}`, m.ID, m.Customer.Raw, m.Meter.Raw)
	return RejectedRow{
		RejectedRow: polar.RejectedRow{ID: m.ID, Key: m.Key(), HasKey: true, Raw: raw, Reason: "Postgres refuses it: " + err.Error()},
		Offset:      offset,
	}
}

// saveOnce saves b, whose rows are deduplicated, or nothing of it.
func (s *Session) saveOnce(ctx context.Context, run *Run, b *Block) (Saved, error) {
	return s.saveListed(ctx, run, b, b.CustomerMeters)
}

// saveListed saves b; listed are the rows its stretch shows. One round trip
// spares sending what is stored already; what is left is one transaction.
func (s *Session) saveListed(ctx context.Context, run *Run, b *Block, listed []*polar.CustomerMeter) (Saved, error) {
	saved, err := s.save(ctx, run, b, listed, true)
	if uncopied(err) {
		b.prepared = nil
		saved, err = s.save(ctx, run, b, listed, false)
	}
	if err != nil {
		return Saved{}, fmt.Errorf("save block of %d rows: %w", len(b.CustomerMeters), canceled(err))
	}
	return saved, nil
}

// save is one attempt of saveListed, with new rows copied if copying is set and
// there are many.
func (s *Session) save(ctx context.Context, run *Run, b *Block, listed []*polar.CustomerMeter, copying bool) (Saved, error) {
	saved := Saved{Counts: b.Counts}
	saved.Counts.RowsRejected += int64(len(b.Rejected))
	saved.Counts.RowsSeen += int64(len(b.CustomerMeters) + len(b.Rejected))

	b.Prepare()
	if len(b.CustomerMeters) > 0 {
		if err := s.conn.SendBatch(ctx, s.siftBatch(b, &saved)).Close(); err != nil {
			return Saved{}, fmt.Errorf("compare with what is stored: %w", err)
		}
	}
	rows := b.CustomerMeters
	if b.prepared.comparison.made {
		fresh := b.standing(absent)
		rows = append(b.standing(other), fresh...)
		saved.Counts.RowsUnchanged += int64(len(b.CustomerMeters) - len(rows))
		if copying && len(fresh) >= copyLeast {
			err := s.copied(ctx, run, b, listed, fresh, &saved)
			return saved, err
		}
	}
	err := s.conn.SendBatch(ctx, s.writeBatch(run, b, listed, rows, &saved)).Close()
	return saved, err
}

// writeBatch returns the statements of the transaction that saves b without
// copying; rows are those that are not known to be stored just so.
func (s *Session) writeBatch(run *Run, b *Block, listed, rows []*polar.CustomerMeter, saved *Saved) *pgx.Batch {
	batch := &pgx.Batch{}
	s.queueNested(batch, b)
	s.queueCustomerMeters(batch, run, b, rows, saved)
	s.queueRest(batch, run, b, listed, saved)
	return batch
}

func (s *Session) queueNested(batch *pgx.Batch, b *Block) {
	s.queueCustomers(batch, b, b.prepared.customers)
	s.queueMeters(batch, b, b.prepared.meters)
}

func (s *Session) queueRest(batch *pgx.Batch, run *Run, b *Block, listed []*polar.CustomerMeter, saved *Saved) {
	s.queueSuspects(batch, b, listed)
	s.queueRejected(batch, run, b.Rejected)
	s.queueCursor(batch, b.Cursor)
	queueCounts(batch, run.ID, saved.Counts)
}
