package polarsim

import (
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
)

// never is the modified_at of a row that was not modified since it was made.
const never = math.MinInt64

// Units are the three quantities of a customer meter, as the literal JSON
// numbers that go over the wire.
type Units struct {
	Consumed string // may be any decimal
	Credited string // a 64-bit integer, if the server behaves
	Balance  string // credited less consumed, if the server behaves; can be negative
}

// A row is one customer meter.
type row struct {
	seq      uint64 // unique, in order of creation in this process
	id       uuid.UUID
	customer *customer
	meter    *meter
	created  int64 // microseconds since 1970
	modified int64 // likewise, or never
	units    Units
	odd      *oddity // nil for ordinary rows
	place    int     // index in its organization's rows; -1 while not among them
	onMeter  int     // index in its meter's rows
}

// An oddity is what few rows have.
type oddity struct {
	raw    string // sent instead of the rendered row
	hasRaw bool
	extra  string // further members, as JSON text without braces
	older  *state // as it was before the last change of units
	hidden bool   // from every list
}

type state struct {
	units    Units
	modified int64
}

func (r *row) unlisted() bool { return r.odd != nil && r.odd.hidden }

func (r *row) oddity() *oddity {
	if r.odd == nil {
		r.odd = &oddity{}
	}
	return r.odd
}

// An organization owns customers, meters and rows.
type organization struct {
	Organization
	customers []*customer
	meters    []*meter
	rows      []*row // in no order
}

func (o *organization) attach(r *row) {
	r.place = len(o.rows)
	o.rows = append(o.rows, r)
	r.customer.rows = append(r.customer.rows, r)
	r.onMeter = len(r.meter.rows)
	r.meter.rows = append(r.meter.rows, r)
}

func (o *organization) detach(r *row) {
	o.rows[len(o.rows)-1].place = r.place
	o.rows = removeAt(o.rows, r.place)
	r.place = -1
	m := r.meter
	m.rows[len(m.rows)-1].onMeter = r.onMeter
	m.rows = removeAt(m.rows, r.onMeter)
	r.customer.rows = slices.DeleteFunc(r.customer.rows, func(x *row) bool { return x == r })
}

// removeAt puts the last row in the place of another.
func removeAt(rows []*row, i int) []*row {
	last := len(rows) - 1
	rows[i], rows[last] = rows[last], nil
	return rows[:last]
}

// A customer keeps only its seed until someone looks at it, so that a million
// rows are made in about a second.
type customer struct {
	id      uuid.UUID
	org     *organization
	seed    uint64
	created int64
	rows    []*row

	edited *Customer // nil while it is as the seed has it
	loaded bool
	json   []byte // never changed in place
	name   *string
	extID  *string
}

// load renders the customer if that is still to be done.
func (c *customer) load() {
	if c.loaded {
		return
	}
	doc := c.doc()
	c.name, c.extID = doc.Name, doc.ExternalID
	c.json = appendCustomer(nil, doc)
	c.loaded = true
}

// doc returns what the customer looks like; the caller may change it.
func (c *customer) doc() *Customer {
	if c.edited != nil {
		doc := *c.edited
		return &doc
	}
	return seededCustomer(c)
}

// A meter measures.
type meter struct {
	id   uuid.UUID
	org  *organization
	doc  Meter
	rows []*row     // in no order
	kind *meterKind // how its quantities look
	json []byte     // never changed in place; nil: to be rendered
}

func (m *meter) load() {
	if m.json == nil {
		m.json = appendMeter(nil, &m.doc)
	}
}

func (m *meter) archived() bool { return !m.doc.ArchivedAt.IsZero() }

// A Customer is the nested object of that name. Nil and zero times are null.
type Customer struct {
	ID                     uuid.UUID
	OrganizationID         uuid.UUID
	CreatedAt              time.Time
	ModifiedAt             time.Time
	DeletedAt              time.Time
	FirstUserEventAt       time.Time
	Type                   string // "individual", "team", or what a later Polar sends
	Name                   *string
	ExternalID             *string
	Email                  *string
	EmailVerified          bool
	BillingName            *string
	BillingAddress         *Address
	TaxID                  *TaxID
	Locale                 *string
	DefaultPaymentMethodID *uuid.UUID
	AvatarURL              *string
	Metadata               string // JSON object
	Extra                  string // further members, as JSON text without braces
}

// An Address is a customer's billing address; empty fields are null.
type Address struct {
	Line1, Line2, PostalCode, City, State string
	Country                               string // ISO 3166-1 alpha-2
}

// A TaxID is a number and the name of its format.
type TaxID struct{ Number, Format string }

// A Meter is the nested object of that name. Nil and zero times are null.
type Meter struct {
	ID               uuid.UUID
	OrganizationID   uuid.UUID
	CreatedAt        time.Time
	ModifiedAt       time.Time
	ArchivedAt       time.Time
	Name             string
	Unit             string // "scalar", "token", "custom", or what a later Polar sends
	CustomLabel      *string
	CustomMultiplier *int64
	Filter           string // JSON object
	Aggregation      string // JSON object
	Metadata         string // JSON object
	Extra            string // further members, as JSON text without braces
}

func micros(t time.Time) int64 { return t.UnixMicro() }

// nullable is micros, with the zero time for null.
func nullable(t time.Time) int64 {
	if t.IsZero() {
		return never
	}
	return t.UnixMicro()
}

func timeOf(us int64) time.Time {
	if us == never {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
