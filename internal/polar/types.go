package polar

import (
	"bytes"
	"cmp"
	"time"

	"github.com/google/uuid"
)

// MaxPageSize is the largest page Polar answers with; a larger limit is
// clamped to it silently (source: Polar's OpenAPI document, parameter limit).
const MaxPageSize = 100

// DecoderVersion grows whenever the same answer would be decoded to another
// value or to other rejections. A walk begun by another decoder is not resumed.
const DecoderVersion = 3

// A CustomerMeter is the state of one meter for one customer.
//
// Polar creates one for each pair of customer and meter that is looked at, so
// that CustomerID and MeterID together are as unique as ID.
type CustomerMeter struct {
	ID         uuid.UUID
	CustomerID uuid.UUID
	MeterID    uuid.UUID

	ConsumedUnits Decimal // units consumed in the current period; can go down (reset)
	CreditedUnits int64   // units credited
	Balance       Decimal // credited less consumed as Polar states it; can be negative

	CreatedAt  time.Time // UTC, microseconds; never changes
	ModifiedAt time.Time // UTC, microseconds; zero until the units first move

	// Customer and Meter are the nested objects; they may be shared between
	// customer meters of one page and must not be changed.
	Customer *Customer
	Meter    *Meter

	// Extra holds the fields unknown to this package as one JSON object, in the
	// order of the wire, which jsonb takes; nil if there are none.
	Extra []byte
}

// Key returns the place of m in the order of the walk.
func (m *CustomerMeter) Key() Key {
	return Key{CreatedAt: m.CreatedAt, CustomerID: m.CustomerID, MeterID: m.MeterID}
}

// ChangedAt is when the units last moved: ModifiedAt, or CreatedAt for a
// customer meter that never changed.
func (m *CustomerMeter) ChangedAt() time.Time { return cmp.Or(m.ModifiedAt, m.CreatedAt) }

// A Key is the place of a customer meter in the order
// created_at, customer_id, meter_id. The order is total, since the pair of
// customer and meter is unique at Polar, and a customer meter never changes its
// place in it.
type Key struct {
	CreatedAt  time.Time
	CustomerID uuid.UUID
	MeterID    uuid.UUID
}

// Compare orders keys as Postgres orders the three columns: microseconds, then
// uuids bytewise. It returns -1, 0 or +1.
func (k Key) Compare(o Key) int {
	return cmp.Or(
		k.CreatedAt.Compare(o.CreatedAt),
		bytes.Compare(k.CustomerID[:], o.CustomerID[:]),
		bytes.Compare(k.MeterID[:], o.MeterID[:]))
}

// A Customer is the nested customer of a customer meter, of either type.
type Customer struct {
	ID             uuid.UUID `json:"id"`
	OrganizationID uuid.UUID `json:"organization_id"`
	ExternalID     *string   `json:"external_id"` // the customer's id in the seller's own system
	Type           string    `json:"type"`        // "individual", "team", or what a later Polar sends
	Email          *string   `json:"email"`       // a team may have none
	EmailVerified  bool      `json:"email_verified"`
	Name           *string   `json:"name"`
	BillingName    *string   `json:"billing_name"`
	Metadata       []byte    `json:"metadata"` // JSON object; nil if null or absent
	CreatedAt      time.Time `json:"created_at"`
	ModifiedAt     time.Time `json:"modified_at"` // zero if never modified
	DeletedAt      time.Time `json:"deleted_at"`  // when Polar soft-deleted it; zero if it did not
	Raw            []byte    `json:"-"`           // the object as sent, less what is excluded, unknown fields included; jsonb takes it
}

// ChangedAt is ModifiedAt, or CreatedAt for a customer that never changed.
func (c *Customer) ChangedAt() time.Time { return cmp.Or(c.ModifiedAt, c.CreatedAt) }

// A Meter is the nested meter of a customer meter.
type Meter struct {
	ID             uuid.UUID `json:"id"`
	OrganizationID uuid.UUID `json:"organization_id"`
	Name           string    `json:"name"`
	Unit           string    `json:"unit"`        // "scalar", "token", "custom", or what a later Polar sends; "" if absent
	Aggregation    []byte    `json:"aggregation"` // JSON object; nil if null or absent
	Filter         []byte    `json:"filter"`      // likewise
	Metadata       []byte    `json:"metadata"`    // likewise
	CreatedAt      time.Time `json:"created_at"`
	ModifiedAt     time.Time `json:"modified_at"` // zero if never modified
	ArchivedAt     time.Time `json:"archived_at"` // zero if not archived
	Raw            []byte    `json:"-"`           // the whole object as sent, unknown fields included; jsonb takes it
}

// ChangedAt is ModifiedAt, or CreatedAt for a meter that never changed.
func (m *Meter) ChangedAt() time.Time { return cmp.Or(m.ModifiedAt, m.CreatedAt) }

// A Page is one answer of the list call.
type Page struct {
	CustomerMeters []CustomerMeter // in the order of the answer
	Rejected       []RejectedRow   // items that can't be used, in the order of the answer
	TotalCount     int             // as Polar counted; a hint, since the list shifts
	MaxPage        int
	NULsReplaced   int // U+0000 replaced by U+FFFD in names and strings of CustomerMeters
}

// Size is the number of items in the answer, rejected ones included.
func (p *Page) Size() int { return len(p.CustomerMeters) + len(p.Rejected) }

// A RejectedRow is an item of a page that can't be mirrored.
type RejectedRow struct {
	Index      int       // place within the page, from 0
	ID         uuid.UUID // zero if the item has no usable id
	Key        Key       // valid if HasKey
	HasKey     bool
	CreatedAt  time.Time  // zero if it is not usable
	ModifiedAt *time.Time // zero for null; nil if it is not usable
	Raw        []byte     // the item as sent, less what is excluded; may be no valid UTF-8; nil if it can't be kept
	Reason     string     // one line of ASCII or nearly so, says which field and why; no personal data
}
